//! The check for leftovers works: else no other test would prove anything about them.

use std::path::Path;
use std::process::{Command, Stdio};

use escher_tests::{
    DEADLINE, FinishedProgram, RunningProgram, child_program, is_unlocked, reaper, watch,
};

/// Runs a script under the reaper, with `$1` child-program and `$2` the path of a lock, and ends it once the
/// script has created `$2.done`.
fn reap(options: &[&str], script: &str, lock: &Path) -> FinishedProgram {
    let mut command = Command::new(reaper());
    command
        .args(options)
        .args(["sh", "-c", script, "sh"])
        .arg(child_program())
        .arg(lock)
        .stdin(Stdio::piped());
    let mut reaper = RunningProgram::spawn(command, DEADLINE);
    watch::until_exists(&lock.with_extension("done"));
    drop(reaper.stdin());
    reaper.wait()
}

#[test]
fn a_process_that_stays_is_found_reported_and_killed() {
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("lock");
    let script = "\"$1\" daemonize \"$2\"; touch \"$2.done\"";
    let ended = reap(&["--grace", "1"], script, &lock).expect(1);
    let lines: Vec<&str> = ended.out().lines().collect();
    let is_exit = |line: &&str| line.starts_with("exited ");
    assert!(lines.iter().any(is_exit), "{ended:?}");
    let is_report = |line: &&str| line.starts_with("left ") && line.contains("hold-lock");
    assert!(lines.iter().any(is_report), "{ended:?}");
    assert_eq!(lines.last(), Some(&"unclean"));
    assert!(is_unlocked(&lock));
}

#[test]
fn a_process_that_exits_in_time_is_no_leftover() {
    let directory = tempfile::tempdir().unwrap();
    let script = "touch \"$2.done\"; (sleep 0.1 &)";
    let ended = reap(&[], script, &directory.path().join("lock")).expect(0);
    assert!(
        ended.out().ends_with("clean\n") && !ended.out().contains("left"),
        "{ended:?}"
    );
}
