//! A command runs as the user who submitted it, inherits nothing of escherd, and users see only their own
//! executions.

use std::collections::BTreeSet;
use std::fs;

use escher_tests::{Ctl, Daemon, connect, exec, in_runtime, require_root};

/// Users without a passwd entry.
const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;

fn open_daemon() -> Daemon {
    Daemon::with_config("[daemon]\nsocket_mode = \"0666\"\n")
}

/// Runs a command in `/`; it has to succeed. Returns its standard output.
fn stdout_of(ctl: &Ctl, words: &[&str]) -> String {
    let ended = ctl.run([&["run", "-w", "/"], words].concat()).expect(0);
    ended.out().to_owned()
}

#[test]
fn a_command_runs_as_its_submitter_with_the_groups_of_the_connection() {
    if !require_root("commands of other users") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, 61_100, &[61_200, 61_300]);
    assert_eq!(stdout_of(&alice, &["id", "-u"]), format!("{ALICE}\n"));
    assert_eq!(stdout_of(&alice, &["id", "-g"]), "61100\n");
    assert_eq!(stdout_of(&alice, &["id", "-G"]), "61100 61200 61300\n");
    let status = stdout_of(&alice, &["cat", "/proc/self/status"]);
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), "61001 61001 61001 61001");
    assert_eq!(field("Gid:"), "61100 61100 61100 61100");
    assert_eq!(field("Groups:"), "61200 61300");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
}

#[test]
fn a_uid_that_is_negative_for_some_programs_is_refused() {
    if !require_root("connections of reserved user ids") {
        return;
    }
    let daemon = open_daemon();
    for uid in [1 << 31, u32::MAX - 1] {
        let ctl = daemon.ctl().as_user(uid, ALICE, &[]);
        let refused = ctl.run(["run", "-w", "/", "true"]).expect(125);
        assert!(refused.err().contains("2147483647"), "{refused:?}");
    }
    let last = daemon.ctl().as_user((1 << 31) - 1, ALICE, &[]);
    assert_eq!(stdout_of(&last, &["id", "-u"]), "2147483647\n");
}

#[test]
fn a_command_of_a_user_without_groups_has_none() {
    if !require_root("commands of a user without groups") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    assert_eq!(stdout_of(&alice, &["id", "-G"]), format!("{ALICE}\n"));
}

#[test]
fn users_see_and_control_only_their_own_executions_and_root_all() {
    if !require_root("executions of several users") {
        return;
    }
    let daemon = open_daemon();
    let gate = daemon.home().fifo("gate");
    let (alice, bob) = (
        daemon.ctl().as_user(ALICE, ALICE, &[]),
        daemon.ctl().as_user(BOB, BOB, &[]),
    );
    let script = format!("echo secret; read line < {}", gate.name());
    let id = alice
        .submit(["-w", "/", "--name", "hers", "sh", "-c", &script])
        .to_string();
    let own = bob.submit(["-w", "/", "true"]).to_string();
    bob.wait(&own, 0);

    let listed = |ctl: &Ctl| -> BTreeSet<String> {
        let lines = ctl.json_lines(["ps", "-a"]);
        lines
            .iter()
            .map(|line| line["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(&alice), BTreeSet::from([id.clone()]));
    assert_eq!(listed(&bob), BTreeSet::from([own.clone()]));
    assert_eq!(listed(&daemon.ctl()), BTreeSet::from([id.clone(), own]));

    // Another user's execution and one that does not exist look the same.
    let missing_id = "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42";
    for verb in [
        "inspect", "result", "logs", "attach", "wait", "cancel", "pause", "resume",
    ] {
        let foreign = bob.run([verb, &id]);
        let missing = bob.run([verb, missing_id]);
        assert_ne!(foreign.code, 0, "{verb}");
        assert_eq!(foreign.code, missing.code, "{verb}");
        assert!(foreign.stdout.is_empty(), "{verb}: {foreign:?}");
        assert_eq!(
            foreign.err().replace(&id, missing_id),
            missing.err(),
            "{verb}"
        );
    }
    for reference in [&id[..], "hers", "1", &id[28..]] {
        let _ = bob.run(["kill", "-s", "KILL", reference]).expect(1);
    }
    let events = bob.run(["events", "--json"]).expect(0);
    assert!(!events.out().contains(&id), "{events:?}");

    assert_eq!(
        daemon.ctl().inspect(&id)["status"],
        "running",
        "nobody has ended it"
    );
    assert_eq!(daemon.ctl().inspect(&id)["user"], ALICE.to_string());
    gate.write_line("go");
    assert_eq!(alice.run(["attach", &id]).expect(0).out(), "secret\n");
}

#[test]
fn logs_are_not_readable_by_other_users_of_the_socket() {
    if !require_root("logs and other users") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    let id = alice.submit(["-w", "/", "echo", "secret"]);
    alice.wait(id, 0);
    let log = daemon.home().log(id);
    let path = log.to_str().unwrap();
    let bob = daemon.ctl().as_user(BOB, BOB, &[]);
    let ended = bob.run(["run", "-w", "/", "cat", path]);
    assert_eq!((ended.code, ended.out()), (1, ""));
    assert_eq!(fs::read(log).unwrap(), b"secret\n");
}

#[test]
fn only_root_may_run_commands_as_another_user() {
    if !require_root("commands as another user") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    for user in ["root", "#0", "daemon", "#1", "no-such-user"] {
        let ended = alice.run(["run", "-w", "/", "-u", user, "id"]).expect(125);
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
    let itself = format!("#{ALICE}");
    assert_eq!(
        stdout_of(&alice, &["-u", &itself, "id", "-u"]),
        format!("{ALICE}\n")
    );
    // With the groups of a login of that user.
    let groups = std::process::Command::new("id")
        .args(["-G", "daemon"])
        .output()
        .unwrap();
    for user in ["daemon", "#1"] {
        let seen = stdout_of(&daemon.ctl(), &["-u", user, "id", "-G"]);
        assert_eq!(seen.as_bytes(), groups.stdout, "{user}");
    }
    for user in [
        "no-such-user",
        "0x0",
        "../../bin/cp",
        "#4294967295",
        "#65534000",
    ] {
        let _ = daemon.ctl().run(["run", "-u", user, "id"]).expect(125);
    }
}

#[test]
fn the_environment_of_a_client_does_not_change_its_identity() {
    if !require_root("the identity of a connection") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    let words = [
        "run",
        "-w",
        "/",
        "-e",
        "USER=root",
        "-e",
        "LOGNAME=root",
        "id",
        "-u",
    ];
    assert_eq!(alice.run(words).expect(0).out(), format!("{ALICE}\n"));
    let mut pretending = alice.command(["run", "-w", "/", "id", "-u"]);
    pretending
        .env("USER", "root")
        .env("SUDO_UID", "0")
        .env("HOME", "/root");
    assert_eq!(
        escher_tests::run_program(pretending).expect(0).out(),
        format!("{ALICE}\n")
    );
}

#[test]
fn directories_and_programs_are_opened_with_the_permissions_of_the_command() {
    if !require_root("permissions on working directories and programs") {
        return;
    }
    let daemon = open_daemon();
    let private = daemon.home().work().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(
        &private,
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let script = "#!/bin/sh\necho reached\n";
    let program = daemon.home().file(private.join("program"), script, 0o755);
    let (dir, program) = (private.to_str().unwrap(), program.to_str().unwrap());
    assert_eq!(
        daemon
            .ctl()
            .run(["run", "-w", dir, program])
            .expect(0)
            .out(),
        "reached\n"
    );
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    let ended = alice.run(["run", "-w", dir, "true"]).expect(126);
    assert!(
        ended.err().contains("EACCES") && ended.err().contains("working"),
        "{ended:?}"
    );
    let _ = alice.run(["run", "-w", "/", program]).expect(126);
}

fn environment(ctl: &Ctl, words: &[&str]) -> BTreeSet<String> {
    let listed = stdout_of(ctl, &[&["--clean-env"], words, &["env", "-0"]].concat());
    listed.split_terminator('\0').map(str::to_owned).collect()
}

/// A fresh environment is exactly this, whatever that of escherd is.
#[test]
fn the_environment_of_a_command_is_fixed() {
    let daemon = Daemon::builder()
        .config("[daemon]\nsocket_mode = \"0666\"\n")
        .env("LD_LIBRARY_PATH", "/hostile")
        .env("BASH_ENV", "/hostile")
        .env("INVOCATION_ID", "0123")
        .env("JOURNAL_STREAM", "1:2")
        .env("CREDENTIALS_DIRECTORY", "/hostile")
        .env("LISTEN_FDNAMES", "hostile")
        .env("PATH", std::env::var("PATH").unwrap() + ":/hostile")
        .env("ODD", "odd")
        .start();
    let uid = nix::unistd::geteuid();
    let (home, shell, name) = match nix::unistd::User::from_uid(uid).unwrap() {
        Some(user) => (user.dir, user.shell, user.name),
        None => ("/".into(), "/bin/sh".into(), uid.to_string()),
    };
    let id = "ESCHER_EXECUTION_ID=";
    let expected = |home: &str, shell: &str, name: &str| {
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            format!("HOME={home}"),
            format!("SHELL={shell}"),
            format!("USER={name}"),
            format!("LOGNAME={name}"),
        ]
    };
    let check = |ctl: &Ctl, expected: [String; 5]| {
        let mut seen = environment(ctl, &[]);
        let ids: Vec<String> = seen.extract_if(.., |pair| pair.starts_with(id)).collect();
        assert_eq!(ids.len(), 1);
        ids[0][id.len()..]
            .parse::<escher_client::ExecutionId>()
            .expect("an id");
        assert_eq!(seen, BTreeSet::from(expected));
    };
    let (home, shell) = (home.to_str().unwrap(), shell.to_str().unwrap());
    check(&daemon.ctl(), expected(home, shell, &name));
    if require_root("the environment of a user without a passwd entry") {
        let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
        check(&alice, expected("/", "/bin/sh", &ALICE.to_string()));
    }
}

#[test]
fn variables_of_the_request_are_added() {
    let daemon = Daemon::start();
    let seen = environment(
        &daemon.ctl(),
        &[
            "-e",
            "A=1",
            "-e",
            "A=2",
            "-E",
            "HOME=/x",
            "-e",
            "EMPTY=",
            "-e",
            "ESCHER_EXECUTION_ID=fake",
        ],
    );
    assert!(seen.contains("A=2") && !seen.contains("A=1"), "{seen:?}");
    assert!(
        seen.contains("HOME=/x") && seen.contains("EMPTY="),
        "{seen:?}"
    );
    assert!(!seen.contains("ESCHER_EXECUTION_ID=fake"), "{seen:?}");
    let mut passing = daemon
        .ctl()
        .command(["run", "-e", "ODD", "-e", "NOT_SET", "env"]);
    passing.env("ODD", "from the caller");
    let ended = escher_tests::run_program(passing).expect(0);
    assert!(ended.out().contains("ODD=from the caller\n"), "{ended:?}");
    assert!(!ended.out().contains("NOT_SET"), "{ended:?}");
}

#[test]
fn a_user_without_a_passwd_entry_can_run_commands() {
    if !require_root("a user without a passwd entry") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    assert_eq!(stdout_of(&alice, &["pwd"]), "/\n");
    let record = alice.json(["run", "-w", "/", "true"]);
    assert_eq!(record["user"], ALICE.to_string());
}

#[test]
fn a_command_has_the_descriptors_0_1_and_2_alone() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let runs = (0..64).map(|_| async {
            // By the shell itself, so that no other program opens anything.
            let request = escher_tests::shell("for fd in /proc/$$/fd/*; do echo ${fd##*/}; done");
            let id = client.execute(request).await.unwrap().id;
            client.get_result(id).await.unwrap().stdout
        });
        for seen in futures_util::future::join_all(runs).await {
            let text = String::from_utf8(seen).unwrap();
            // The directory that the shell reads has a descriptor, too.
            let others: Vec<&str> = text
                .lines()
                .filter(|fd| !["0", "1", "2"].contains(fd))
                .collect();
            assert!(others.is_empty() || others == ["3"], "{text:?}");
        }
        let id = client
            .execute(exec(["ls", "/proc/self/fd"]))
            .await
            .unwrap()
            .id;
        let seen = client.get_result(id).await.unwrap().stdout;
        assert_eq!(seen, b"0\n1\n2\n3\n", "3 is the directory that ls reads");
        let id = client
            .execute(exec(["readlink", "/proc/self/fd/0"]))
            .await
            .unwrap()
            .id;
        assert_eq!(client.get_result(id).await.unwrap().stdout, b"/dev/null\n");
    });
}

#[test]
fn signals_umask_priority_and_limits_are_those_of_a_login() {
    let daemon = Daemon::start();
    let status = stdout_of(&daemon.ctl(), &["cat", "/proc/self/status"]);
    for line in [
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "SigCgt:\t0000000000000000",
        "SigPnd:\t0000000000000000",
        "ShdPnd:\t0000000000000000",
        "Umask:\t0022",
        "NoNewPrivs:\t0",
        "Seccomp:\t0",
        "TracerPid:\t0",
    ] {
        assert!(
            status.lines().any(|seen| seen == line),
            "{line} is not in\n{status}"
        );
    }
    assert_eq!(
        stdout_of(&daemon.ctl(), &["cat", "/proc/self/oom_score_adj"]),
        "0\n"
    );
    assert_eq!(stdout_of(&daemon.ctl(), &["nice"]), "0\n");
    let limits = stdout_of(&daemon.ctl(), &["cat", "/proc/self/limits"]);
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("1024"), "{files}");
}

#[test]
fn a_command_has_a_session_of_its_own_and_no_terminal() {
    let daemon = Daemon::start();
    let script = "cut -d' ' -f1,5,6,7 /proc/$$/stat";
    let seen = stdout_of(&daemon.ctl(), &["sh", "-c", script]);
    let fields: Vec<&str> = seen.split_whitespace().collect();
    let (pid, group, session, terminal) = (fields[0], fields[1], fields[2], fields[3]);
    assert_eq!((group, session, terminal), (pid, pid, "0"));
    let ended = daemon.ctl().run(["run", "sh", "-c", ": < /dev/tty"]);
    assert_ne!(ended.code, 0);
    assert!(
        ended.err().contains("No such device or address"),
        "ENXIO: {ended:?}"
    );
}

#[test]
fn each_command_has_a_session_keyring_of_its_own() {
    if !require_root("keyrings of a user that has no others") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(61_077, 61_077, &[]);
    // A user who owns no keys sees in /proc/keys only the keys that the process possesses.
    let session = || {
        let keys = stdout_of(&alice, &["cat", "/proc/keys"]);
        let mut rings = keys.lines().filter(|line| line.contains("_ses"));
        let ring = rings
            .next()
            .unwrap_or_else(|| panic!("no session keyring in\n{keys}"));
        assert_eq!(rings.next(), None, "{keys}");
        ring.split(' ').next().unwrap().to_owned()
    };
    assert_ne!(session(), session());
}

#[test]
fn a_command_can_neither_inspect_nor_signal_its_shim() {
    if !require_root("what a user may do to its shim") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    for script in [
        "cat /proc/$PPID/environ",
        "cat /proc/$PPID/mem",
        "ls /proc/$PPID/fd",
        "kill -9 $PPID",
        "kill -STOP $PPID",
    ] {
        let ended = alice.run(["run", "-w", "/", "sh", "-c", script]);
        assert!((1..=2).contains(&ended.code), "{script}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{script}: {ended:?}");
    }
}

#[test]
fn an_escherd_of_a_user_serves_this_user_alone() {
    if !require_root("an escherd of another user") {
        return;
    }
    // Not a `Daemon`, since it runs as another user.
    let home = escher_tests::Home::new();
    let work = home.work();
    let mut command = std::process::Command::new(escher_tests::reaper());
    command
        .arg(escher_tests::child_program())
        .args(["run-as", &format!("{ALICE}:{ALICE}:")])
        .arg(home.share(&escher_tests::escherd()))
        .args(["--user", "--on-stop", "cancel", "--launcher"])
        .arg(home.share(&escher_tests::launcher()))
        .env("XDG_RUNTIME_DIR", work.join("runtime"))
        .env("XDG_STATE_HOME", work.join("state"))
        .env("XDG_CONFIG_HOME", work.join("config"))
        .env("NOTIFY_SOCKET", work.join("notify"))
        .stdin(std::process::Stdio::piped());
    let ready = std::os::unix::net::UnixDatagram::bind(work.join("notify")).unwrap();
    fs::set_permissions(
        work.join("notify"),
        std::os::unix::fs::PermissionsExt::from_mode(0o666),
    )
    .unwrap();
    let mut reaper = escher_tests::RunningProgram::spawn(command, escher_tests::DEADLINE);
    let stdin = reaper.stdin();
    let mut message = [0; 4096];
    while !message.starts_with(b"READY=1") {
        message.fill(0);
        escher_tests::wait::receive(&ready, &mut message).expect("it becomes ready");
    }
    let socket = work.join("runtime/escher/escherd.sock");
    let ctl = home.share(&escher_tests::escherctl());
    let run = |user: u32, words: &[&str]| {
        let mut command = std::process::Command::new(escher_tests::child_program());
        command
            .args(["run-as", &format!("{user}:{user}:")])
            .arg(&ctl)
            .args(words);
        command.env("ESCHER_SOCKET", &socket).current_dir("/");
        escher_tests::run_program(command)
    };
    assert_eq!(
        run(ALICE, &["run", "id", "-u"]).expect(0).out(),
        format!("{ALICE}\n")
    );
    let _ = run(ALICE, &["run", "-u", "root", "id"]).expect(125);
    let _ = run(BOB, &["run", "id"]).expect(125);
    let _ = run(0, &["run", "id"]).expect(125);
    drop(stdin);
    let ended = reaper.wait().expect(0);
    assert!(ended.out().ends_with("exited code 0\nclean\n"), "{ended:?}");
}

/// The pipes used to be root's: "Permission denied" for everybody else.
#[test]
fn a_command_opens_its_own_streams_by_name() {
    if !require_root("commands of other users") {
        return;
    }
    let daemon = open_daemon();
    for ctl in [daemon.ctl().as_user(ALICE, ALICE, &[]), daemon.ctl()] {
        let script =
            "echo a > /dev/stdout; echo b | tee /dev/stderr > /dev/fd/1; echo c >> /proc/self/fd/2";
        let ended = ctl.run(["run", "-w", "/", "--shell", script]).expect(0);
        assert_eq!((ended.out(), ended.err()), ("a\nb\n", "b\nc\n"));
        let read = ["run", "-i", "-w", "/", "cat", "/dev/stdin"];
        let ended = ctl.run_with_input("in", read).expect(0);
        assert_eq!(ended.out(), "in");
    }
}

/// Otherwise the bytes would be in no log.
#[test]
fn a_command_does_not_read_its_output_back_by_name() {
    if !require_root("commands of other users") {
        return;
    }
    let daemon = open_daemon();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    for stream in ["1", "2"] {
        let script = format!("echo kept; echo kept >&2; cat < /proc/self/fd/{stream}");
        let ended = alice.run(["run", "-w", "/", "--shell", &script]);
        assert_ne!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.out(), "kept\n");
        assert!(ended.err().starts_with("kept\n"), "{ended:?}");
        assert!(ended.err().contains("ermission denied"), "{ended:?}");
    }
}
