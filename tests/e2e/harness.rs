//! The watch over what is left behind works: else no other test would prove anything about it.

use std::process::{Command, Stdio};

use escher_tests::{DEADLINE, Ended, Started, child_program, is_free, reaper, watch};

fn reap(script: &str, lock: &std::path::Path) -> Ended {
    let mut command = Command::new(reaper());
    command
        .args(["--patience", "1", "sh", "-c", script, "sh"])
        .arg(child_program())
        .arg(lock)
        .stdin(Stdio::piped());
    let mut started = Started::new(command, DEADLINE);
    watch::until_exists(&lock.with_extension("done"), DEADLINE);
    drop(started.stdin());
    started.end()
}

#[test]
fn a_process_that_stays_is_found_named_and_killed() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let ended = reap("\"$1\" daemonize \"$2\"; touch \"$2.done\"", &lock).expect(1);
    let lines: Vec<&str> = ended.out().lines().collect();
    assert!(lines[1].starts_with("exited "), "{ended:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("left ") && line.contains("holder")),
        "{ended:?}"
    );
    assert_eq!(lines.last(), Some(&"unclean"));
    assert!(is_free(&lock));
}

#[test]
fn nothing_left_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let ended = reap(
        "touch \"$2.done\"; (sleep 0.1 &)",
        &folder.path().join("lock"),
    )
    .expect(0);
    assert!(
        ended.out().ends_with("clean\n") && !ended.out().contains("left"),
        "{ended:?}"
    );
}
