//! What systemd itself says about the units.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use escher_tests::{require_program, run_program};
use tempfile::TempDir;

/// The worst exposure that systemd may see in escherd, times ten.
const EXPOSURE: &str = "10";

/// The programs of units, which need not be installed here, and one that is.
const PROGRAMS: [&str; 2] = ["/usr/bin/escherd", "/usr/lib/escher/escher-launcher"];
const STAND_IN: &str = "/bin/true";

/// Copies of the units in a folder of `systemd/`, and where they are.
fn units(folder: &str) -> (TempDir, Vec<PathBuf>) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../systemd")
        .join(folder);
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

/// systemd-analyze, which remarks upon what it does not like, and goes on.
fn verify(options: &[&str], folder: &str) {
    let (home, units) = units(folder);
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
fn systemd_finds_nothing_wrong_in_the_units() {
    if require_program("systemd-analyze", "whether systemd understands the units") {
        verify(&[], ".");
        verify(&["--user"], "user");
    }
}

#[test]
fn escherd_is_exposed_as_little_as_can_be() {
    if !require_program("systemd-analyze", "how exposed escherd is") {
        return;
    }
    let (home, _) = units(".");
    let mut command = Command::new("systemd-analyze");
    command
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={EXPOSURE}"))
        .arg(home.path().join("escherd.service"));
    let _ = run_program(command).expect(0);
}

/// What a unit that starts commands may say. Nothing of it reaches into commands but how many files and tasks there may
/// be; whatever else does, as users, seccomp, capabilities and mounts do, could not be undone there.
const HARMLESS: [&str; 26] = [
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
    "MemoryAccounting",
    "NotifyAccess",
    "OOMPolicy",
    "Requires",
    "Restart",
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
fn nothing_is_taken_from_what_starts_commands() {
    for (folder, unit) in [
        (".", "escher-launcher.service"),
        ("user", "escherd.service"),
    ] {
        let (home, _) = units(folder);
        let text = fs::read_to_string(home.path().join(unit)).unwrap();
        let is_setting = |line: &&str| !line.is_empty() && !line.starts_with(['#', '[']);
        let settings: Vec<&str> = text.lines().filter(is_setting).collect();
        assert!(settings.iter().any(|line| line.starts_with("ExecStart=")));
        for line in settings {
            let (directive, _) = line.split_once('=').expect(line);
            assert!(HARMLESS.contains(&directive), "{unit}: {line}");
        }
    }
}
