//! escherctl does not become slower to start unnoticed.
//!
//! A program that lives for a millisecond spends most of it in page faults, and their number can be counted on a loaded
//! machine, as its time cannot. Counted are the minor ones (getrusage(2)) of the program that the tests have, which is
//! larger than a release build: the numbers of that are printed by `cargo bench -p escher-tests --bench programs`.
//!
//! Three things would change the number from run to run. The kernel puts the stack and the heap anywhere: the least of
//! several runs is compared. The environment is a part of what is submitted: it is the same everywhere. And how many
//! pages of a file are mapped by one fault depends on how the file came into memory: the program is copied to a
//! tmpfs, where pages have one size.

use std::path::Path;
use std::process::Command;

use escher_tests::{Daemon, escherctl, report_skipped, run_cost};

/// A command line in each line, and behind it the number of its page faults when it was last looked at.
const BASELINE: &str = include_str!("page_faults.txt");

/// A directory on a tmpfs.
const MEMORY: &str = "/dev/shm";

/// How often each command line runs.
const RUNS: usize = 12;

/// How many more page faults than in the baseline are accepted, in percent.
const TOLERANCE: u64 = 10;

/// Returns the least number of several runs, with an environment that is the same everywhere.
fn page_faults(program: &Path, daemon: &Daemon, arguments: &str) -> u64 {
    let mut command = Command::new(program);
    command
        .args(arguments.split(' '))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("ESCHER_SOCKET", daemon.home().socket())
        .current_dir("/");
    let runs = (0..RUNS).map(|_| run_cost(&mut command).page_faults);
    runs.min().unwrap()
}

#[test]
fn of_escherctl_are_no_more_than_they_were() {
    if !Path::new(MEMORY).is_dir() {
        report_skipped("needs /dev/shm", "page faults of escherctl");
        return;
    }
    let directory = tempfile::tempdir_in(MEMORY).unwrap();
    let program = directory.path().join("escherctl");
    // Another process does it: a program that this one has open for writing, or a child that another test has just
    // forked, could not be run.
    let copied = Command::new("cp").arg(escherctl()).arg(&program).status();
    assert!(copied.unwrap().success());
    let daemon = Daemon::start();
    let mut grown = Vec::new();
    for line in BASELINE.lines().filter(|line| !line.starts_with('#')) {
        let (arguments, baseline) = line.rsplit_once(' ').unwrap();
        let baseline: u64 = baseline.parse().unwrap();
        let found = page_faults(&program, &daemon, arguments);
        println!("escherctl {arguments}: {found} page faults, {baseline} in the baseline");
        if found * 100 > baseline * (100 + TOLERANCE) {
            grown.push(format!("{arguments}: {found} instead of {baseline}"));
        }
    }
    assert!(
        grown.is_empty(),
        "more page faults (is escherctl linked statically? see its build.rs): {grown:?}"
    );
}
