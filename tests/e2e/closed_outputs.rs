//! escherctl when the reader of its standard output closes it.

use std::io::Read;

use escher_tests::{DEADLINE, Daemon, RunningProgram, is_unlocked};

#[test]
fn a_closed_stdout_ends_run_and_cancels_the_command() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let script = format!("exec 9> {}; flock 9; exec yes", lock.display());
    let command = daemon
        .ctl()
        .command(["run", "--name", "it", "sh", "-c", &script]);
    let mut run = RunningProgram::spawn_unread(command, DEADLINE);
    let mut stdout = run.stdout();
    stdout.read_exact(&mut [0; 100_000]).unwrap();
    drop(stdout);
    let ended = run.wait();
    assert!(
        [141, -13].contains(&ended.code),
        "as any program at a closed pipe: {ended:?}"
    );
    daemon.ctl().wait("it", 143);
    assert_eq!(daemon.ctl().inspect("it")["status"], "cancelled");
    assert!(is_unlocked(&lock));
}

#[test]
fn a_closed_stdout_ends_logs_and_not_the_command() {
    let daemon = Daemon::start();
    let id = daemon.ctl().submit(["yes"]).to_string();
    let mut follow =
        RunningProgram::spawn_unread(daemon.ctl().command(["logs", "-f", &id]), DEADLINE);
    let mut stdout = follow.stdout();
    stdout.read_exact(&mut [0; 100_000]).unwrap();
    drop(stdout);
    let ended = follow.wait();
    assert!([141, -13].contains(&ended.code), "{ended:?}");
    assert_eq!(daemon.ctl().inspect(&id)["status"], "running");
    let _ = daemon.ctl().run(["cancel", &id]).expect(0);
}
