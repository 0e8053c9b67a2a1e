//! escherd and a launcher of another version.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use escher_tests::{Daemon, Home, escherd, relay_launcher, run_program, watch};

/// The launcher of a version, for a home.
fn version(home: &Home, version: u16) -> PathBuf {
    let path = home.work().join(format!("launcher-v{version}"));
    std::os::unix::fs::symlink(relay_launcher(), &path).unwrap();
    path
}

#[test]
fn an_old_launcher_serves_a_new_escherd() {
    let home = Arc::new(Home::new());
    let daemon = Daemon::builder()
        .home(&home)
        .launcher(version(&home, 1))
        .start();
    let ctl = daemon.ctl();
    assert_eq!(
        ctl.run(["run", "--shell", "echo old; exit 3"])
            .expect(3)
            .out(),
        "old\n"
    );
    assert_eq!(
        ctl.run_with_input("input", ["run", "-i", "cat"])
            .expect(0)
            .out(),
        "input"
    );
    // What does not fit into a packet goes another way.
    let long = "x".repeat(100_000);
    assert_eq!(
        ctl.run(["run", "echo", &long]).expect(0).out(),
        format!("{long}\n")
    );
    let held = ctl.submit(["sleep", "600"]).to_string();
    let _ = ctl.run(["cancel", &held]).expect(0);
    assert_eq!(ctl.run(["wait", &held]).code, 128 + 15);
    // What notes its launches does not pile up: what is there is its shims' own.
    let shims = fs::read_dir(home.runtime().join("shims")).unwrap();
    let claims = shims
        .flatten()
        .filter(|entry| entry.metadata().unwrap().is_file());
    assert_eq!(claims.count(), 0);
    // It cannot delete logs: they are kept until one can.
    let _ = ctl.run(["prune"]).expect(0);
    assert!(fs::read_dir(home.logs()).unwrap().count() > 0);
    drop(daemon);
    let _next = Daemon::builder().home(&home).start();
    watch::until(&home.logs(), || {
        (fs::read_dir(home.logs()).unwrap().count() == 0).then_some(())
    });
}

#[test]
fn what_an_old_launcher_runs_is_known_by_its_exit_record_after_a_restart() {
    let home = Arc::new(Home::new());
    let gate = home.fifo("gate");
    let mut first = Daemon::builder()
        .home(&home)
        .launcher(version(&home, 1))
        .leave_commands()
        .start();
    let ready = home.fifo("ready");
    let script = format!(
        "echo up > {}; read line < {}; exit 8",
        ready.name(),
        gate.name()
    );
    let id = first.ctl().submit(["sh", "-c", &script]);
    assert_eq!(ready.read_line(), "up");
    first.kill();
    gate.write_line("go");
    watch::until_exists(&home.exit_record(id));
    let second = Daemon::builder().home(&home).start();
    assert_eq!(second.ctl().inspect(id)["exit_code"], 8);
    drop(second);
    drop(first);
}

#[test]
fn a_launcher_from_the_future_is_refused_with_both_versions_named() {
    let home = Home::new();
    let mut command = Command::new(escherd());
    command.args(home.arguments_with(version(&home, 99)));
    let ended = run_program(command).expect(1);
    assert!(
        ended.err().contains("version 99") && ended.err().contains("1 to 4"),
        "{ended:?}"
    );
}
