//! Whose a log and a history are: the submitter reads its own log, and a user is a uid with its login name.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use escher_tests::{Ctl, Daemon, FinishedProgram, Home, require_root, watch};

const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;

const CONFIG: &str = "[daemon]\nsocket_mode = \"0666\"\n";

/// Runs a program as a user, outside of escher.
fn run_as(uid: u32, program: &str, path: &Path) -> Result<String, ()> {
    let mut command = Command::new(program);
    let output = command.arg(path).uid(uid).gid(uid).output().expect(program);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(stdout).ok_or(())
}

fn log_path(ctl: &Ctl, target: impl ToString) -> String {
    let record = ctl.inspect(target.to_string());
    record["log_path"].as_str().unwrap().to_owned()
}

#[test]
fn a_user_reads_its_own_log_and_no_other() {
    if !require_root("logs of several users") {
        return;
    }
    let limits = "[execution]\nmax_log_bytes = 262144\nlog_full = \"forget_oldest\"";
    let daemon = Daemon::with_config(&format!("{CONFIG}{limits}"));
    let (alice, bob) = (
        daemon.ctl().as_user(ALICE, ALICE, &[]),
        daemon.ctl().as_user(BOB, BOB, &[]),
    );
    let id = alice.submit(["-w", "/", "echo", "secret"]);
    alice.wait(id, 0);
    let path = log_path(&alice, id);
    let log = Path::new(&path);
    assert_eq!(run_as(ALICE, "cat", log).as_deref(), Ok("secret\n"));
    assert!(run_as(ALICE, "cat", &daemon.home().index(id)).is_ok());
    assert_eq!(run_as(BOB, "cat", log), Err(()));
    for uid in [ALICE, BOB] {
        assert_eq!(run_as(uid, "ls", &daemon.home().logs()), Err(()), "{uid}");
    }
    let inspected = |ctl: &Ctl| ctl.run(["inspect", &id.to_string()]).expect(0);
    assert!(!inspected(&alice).out().contains("log access"));

    // So does the rest of a log that was forgotten in part.
    let long = alice.submit(["-w", "/", "seq", "1000000"]);
    alice.wait(long, 0);
    let rest = run_as(ALICE, "tail", &daemon.home().log(long)).unwrap();
    assert!(rest.ends_with("1000000\n"));
    assert!(alice.inspect(long)["output"]["forgotten_bytes"].as_u64() > Some(0));
    let _ = bob.run(["rm", &id.to_string()]).expect(1);
    let _ = alice.run(["rm", &id.to_string()]).expect(0);
    watch::until_removed(&daemon.home().index(id));
    assert!(!log.exists());
}

/// A directory to put over `/etc`, in which the uid of alice has this name.
fn etc_with(home: &Home, name: Option<&str>) -> std::path::PathBuf {
    let directory = home
        .path()
        .join(format!("etc-{}", name.unwrap_or("nobody")));
    fs::create_dir_all(&directory).unwrap();
    let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    if let Some(name) = name {
        passwd += &format!("{name}:x:{ALICE}:{ALICE}::/:/bin/sh\n");
    }
    fs::write(directory.join("passwd"), passwd).unwrap();
    directory
}

/// Starts an escherd for which the uid of alice has this name.
fn start_with(home: &Arc<Home>, name: Option<&str>) -> Daemon {
    let etc = etc_with(home, name);
    Daemon::builder()
        .home(home)
        .config(CONFIG)
        .etc(&etc)
        .start()
}

#[test]
fn the_next_owner_of_a_uid_inherits_nothing() {
    if !require_root("users whose names change") {
        return;
    }
    let home = Arc::new(Home::new());
    let keyed = [
        "submit", "-w", "/", "--key", "k", "--name", "hers", "echo", "secret",
    ];
    let of_uid = |daemon: &Daemon| daemon.ctl().as_user(ALICE, ALICE, &[]);
    let listed = |ctl: &Ctl| ctl.json_lines(["ps", "-a"]).len();
    let finished = |ctl: &Ctl| ctl.json(["quota"])["finished"].clone();

    let daemon = start_with(&home, Some("alice"));
    let alice = of_uid(&daemon);
    let id = alice.line(keyed);
    alice.wait(&id, 0);
    let log = log_path(&alice, &id);
    let log = Path::new(&log);
    assert!(run_as(ALICE, "cat", log).is_ok());
    daemon.stop();

    let daemon = start_with(&home, Some("carol"));
    let carol = of_uid(&daemon);
    assert_eq!(listed(&carol), 0);
    let missing_id = "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42";
    for verb in ["inspect", "result", "logs", "wait", "cancel", "rm"] {
        let hidden = carol.run([verb, &id]);
        let missing: FinishedProgram = carol.run([verb, missing_id]);
        assert_ne!(hidden.code, 0, "{verb}");
        assert_eq!(hidden.code, missing.code, "{verb}");
        assert_eq!(
            hidden.err().replace(&id, missing_id),
            missing.err(),
            "{verb}"
        );
    }
    for reference in ["1", "hers", &id[28..]] {
        let _ = carol.run(["inspect", reference]).expect(1);
    }
    let events = carol.run(["events", "--json"]).expect(0);
    assert!(!events.out().contains(&id), "{events:?}");
    assert_eq!(finished(&carol), 0);
    watch::until(&home.logs(), || run_as(ALICE, "cat", log).err());
    // The key is free for her, and the name is hers.
    let other = carol.line(keyed);
    assert_ne!(other, id);
    carol.wait(&other, 0);
    assert_eq!(carol.inspect("hers")["id"], other.as_str());
    assert_eq!(carol.line(keyed), other);
    assert_eq!((listed(&carol), finished(&carol)), (1, 1.into()));
    assert!(run_as(ALICE, "cat", &home.log(other.parse().unwrap())).is_ok());
    assert_eq!(listed(&daemon.ctl()), 2, "root sees all");
    assert_eq!(daemon.ctl().inspect(&id)["submitted_by"], "alice");
    daemon.stop();

    let daemon = start_with(&home, None);
    assert_eq!(listed(&of_uid(&daemon)), 0);
    daemon.stop();

    // An account that has its name again has its history again, by way of escherd.
    let daemon = start_with(&home, Some("alice"));
    let alice = of_uid(&daemon);
    assert_eq!((listed(&alice), finished(&alice)), (1, 1.into()));
    assert_eq!(alice.line(keyed), id);
    assert_eq!(alice.run(["logs", &id]).expect(0).out(), "secret\n");
    let inspected = alice.run(["inspect", &id]).expect(0);
    assert!(inspected.out().contains("log access"), "{inspected:?}");
    daemon.stop();
}
