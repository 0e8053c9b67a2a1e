//! The systemd units, checked by systemd itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use escher_tests::{require_program, run_program};
use tempfile::TempDir;

/// The highest exposure level that escherd.service may have, times ten.
const MAX_EXPOSURE: &str = "10";

/// The programs of units, which need not be installed, and one that is, to replace them.
const PROGRAMS: [&str; 2] = ["/usr/bin/escherd", "/usr/lib/escher/escher-launcher"];
const STAND_IN: &str = "/bin/true";

/// Copies the units in a directory of `systemd/`. Returns the directory of the copies, and their paths.
fn copy_units(directory: &str) -> (TempDir, Vec<PathBuf>) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../systemd")
        .join(directory);
    let to = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let is_unit = path
            .extension()
            .is_some_and(|kind| kind == "service" || kind == "socket");
        if is_unit {
            let copy = to.path().join(path.file_name().unwrap());
            let text = fs::read_to_string(&path).unwrap();
            let text = PROGRAMS
                .iter()
                .fold(text, |text, program| text.replace(program, STAND_IN));
            fs::write(&copy, text).unwrap();
            copies.push(copy);
        }
    }
    assert!(copies.len() >= 2, "{copies:?}");
    (to, copies)
}

/// Runs `systemd-analyze verify`, which must not print anything.
fn verify(options: &[&str], directory: &str) {
    let (home, units) = copy_units(directory);
    let mut command = Command::new("systemd-analyze");
    command
        .args(["verify", "--man=no"])
        .args(options)
        .args(units)
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path());
    let ended = run_program(command).expect(0);
    assert_eq!((ended.out(), ended.err()), ("", ""));
}

#[test]
fn systemd_accepts_the_units() {
    if require_program("systemd-analyze", "the units, by systemd") {
        verify(&[], ".");
        verify(&["--user"], "user");
    }
}

#[test]
fn the_exposure_of_escherd_is_low() {
    if !require_program("systemd-analyze", "the exposure of escherd") {
        return;
    }
    let (home, _) = copy_units(".");
    let mut command = Command::new("systemd-analyze");
    command
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={MAX_EXPOSURE}"))
        .arg(home.path().join("escherd.service"));
    let _ = run_program(command).expect(0);
}

/// Directives that a unit that starts commands may have. Of these only the limits of files and tasks affect
/// commands. Others, such as users, seccomp, capabilities and mounts, could not be undone for a command.
const ALLOWED_DIRECTIVES: [&str; 28] = [
    "After",
    "Also",
    "CPUAccounting",
    "Delegate",
    "Description",
    "Documentation",
    "ExecReload",
    "ExecStart",
    "ExecStopPost",
    "IOAccounting",
    "KillMode",
    "LimitNOFILE",
    "ManagedOOMPreference",
    "MemoryAccounting",
    "NotifyAccess",
    "OOMPolicy",
    "Requires",
    "Restart",
    "RestartPreventExitStatus",
    "RestartSec",
    "StartLimitIntervalSec",
    "TasksAccounting",
    "TasksMax",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "WantedBy",
    "WatchdogSec",
];

#[test]
fn units_that_start_commands_restrict_nothing() {
    for (directory, unit) in [
        (".", "escher-launcher.service"),
        ("user", "escherd.service"),
    ] {
        let (home, _) = copy_units(directory);
        let text = fs::read_to_string(home.path().join(unit)).unwrap();
        // A line may be continued on the next (systemd.syntax(7)).
        let text = text.replace("\\\n", " ");
        let is_setting = |line: &&str| !line.is_empty() && !line.starts_with(['#', '[']);
        let settings: Vec<&str> = text.lines().filter(is_setting).collect();
        assert!(settings.iter().any(|line| line.starts_with("ExecStart=")));
        for line in settings {
            let (directive, _) = line.split_once('=').expect(line);
            assert!(ALLOWED_DIRECTIVES.contains(&directive), "{unit}: {line}");
        }
    }
}
