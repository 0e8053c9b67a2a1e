//! `escherctl doctor`, on a healthy escher and on one with common problems.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use escher_client::{Diagnostic, Severity};
use escher_tests::{
    Ctl, Daemon, FinishedProgram, Home, Tmpfs, escherctl, in_runtime, require_root, run_program,
};
use escherd::{ExecutionEngine, OnStop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, chown};
use serde_json::Value;

const ALICE: u32 = 61_001;
const GROUP: u32 = 61_400;

fn doctor(ctl: &Ctl, code: i32) -> Vec<Value> {
    ctl.run(["doctor", "--json"]).expect(code).json_lines()
}

/// Runs it with a socket that no [`Daemon`] serves.
fn doctor_at(socket: &Path) -> FinishedProgram {
    let mut command = Command::new(escherctl());
    command
        .args(["doctor", "--json"])
        .env("ESCHER_SOCKET", socket);
    run_program(command)
}

/// Returns severity, message and advice of the first diagnostic of a check.
#[track_caller]
fn diagnostic<'v>(diagnostics: &'v [Value], check: &str) -> (&'v str, &'v str, &'v str) {
    let found = diagnostics.iter().find(|it| it["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} among {diagnostics:#?}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    (text("severity"), text("message"), text("advice"))
}

#[test]
fn a_healthy_escher_has_no_failure() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let diagnostics = doctor(&ctl, 0);
    for check in [
        "socket",
        "access",
        "connection",
        "versions",
        "escherd-program",
        "service-manager",
        "launcher",
        "launcher-version",
        "log-directory",
        "state-directory",
        "store",
        "history",
        "open-files",
        "queue",
        "kernel",
        "boot-id",
        "configuration",
    ] {
        assert_eq!(
            diagnostic(&diagnostics, check).0,
            "ok",
            "{:?}",
            diagnostic(&diagnostics, check)
        );
    }
    for one in &diagnostics {
        let fields: Vec<&String> = one.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 4, "{one}");
        assert_ne!(one["severity"], "failure", "{one}");
    }
    let ended = ctl.run(["doctor"]).expect(0);
    assert_eq!(ended.err(), "");
    let summary = ended.out().lines().last().unwrap();
    assert!(summary.ends_with(" 0 failures"), "{summary}");
    let quiet = ctl.run(["doctor", "-q"]).expect(0);
    assert!(
        !quiet.out().lines().any(|line| line.starts_with("ok ")),
        "{quiet:?}"
    );
}

#[test]
fn without_escherd_it_examines_the_socket() {
    let home = Home::new();
    let diagnostics = doctor_at(&home.socket()).expect(1).json_lines();
    let (severity, message, advice) = diagnostic(&diagnostics, "socket");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("from ESCHER_SOCKET") && !advice.is_empty(),
        "{message}"
    );
    assert_eq!(diagnostic(&diagnostics, "connection").0, "failure");

    // A killed escherd leaves its socket.
    drop(UnixListener::bind(home.socket()).unwrap());
    let diagnostics = doctor_at(&home.socket()).expect(1).json_lines();
    assert_eq!(diagnostic(&diagnostics, "socket").0, "ok");
    let (severity, message, advice) = diagnostic(&diagnostics, "connection");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("no escherd listens") && !advice.is_empty(),
        "{message}"
    );
}

#[test]
fn a_stopped_escherd_is_reported_as_hanging() {
    let daemon = Daemon::start();
    kill(daemon.pid(), Signal::SIGSTOP).unwrap();
    let diagnostics = doctor(&daemon.ctl(), 1);
    kill(daemon.pid(), Signal::SIGCONT).unwrap();
    let (severity, message, advice) = diagnostic(&diagnostics, "connection");
    assert_eq!(severity, "failure");
    assert!(message.contains("did not answer within"), "{message}");
    assert!(advice.contains("hangs"), "{advice}");
}

#[test]
fn a_user_outside_of_the_sockets_group_is_advised_to_join_it() {
    if !require_root("doctor for a user outside of the socket's group") {
        return;
    }
    let daemon = Daemon::start();
    chown(&daemon.home().socket(), None, Some(Gid::from_raw(GROUP))).unwrap();
    let outside = doctor(&daemon.ctl().as_user(ALICE, ALICE, &[]), 1);
    let (severity, message, advice) = diagnostic(&outside, "access");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("61400") && advice.contains("usermod -aG"),
        "{message}: {advice}"
    );
    assert_eq!(diagnostic(&outside, "connection").0, "failure");
    // `run` says the same.
    let run = daemon.ctl().as_user(ALICE, ALICE, &[]).run(["run", "true"]);
    let run = run.expect(125);
    for part in [message, advice] {
        assert!(run.err().contains(part), "{part:?} is not in {run:?}");
    }

    let inside = doctor(&daemon.ctl().as_user(ALICE, ALICE, &[GROUP]), 0);
    assert_eq!(diagnostic(&inside, "access").0, "ok");
    assert_eq!(
        diagnostic(&inside, "privileges").0,
        "note",
        "some checks are for root alone"
    );
}

#[test]
fn a_directory_that_may_not_be_entered_on_the_way_to_the_socket_is_named() {
    if !require_root("a closed directory above the socket") {
        return;
    }
    let daemon = Daemon::start();
    let closed = daemon.home().work().join("closed");
    fs::create_dir_all(closed.join("below")).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let socket = closed.join("below/escherd.sock");
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    let run = alice.run(["--socket", socket.to_str().unwrap(), "run", "true"]);
    let run = run.expect(125);
    let named = format!("may not enter the directory {}", closed.display());
    assert!(run.err().contains(&named), "{run:?}");
}

#[test]
fn a_configuration_file_that_was_not_reloaded_is_a_warning() {
    let daemon = Daemon::with_config("[execution]\nmax_pending_executions = 7");
    let file = daemon.home().path().join("escher.toml");
    fs::write(&file, "[execution]\nmax_pending_executions = 8\n").unwrap();
    let diagnostics = doctor(&daemon.ctl(), 0);
    let (severity, message, advice) = diagnostic(&diagnostics, "configuration");
    assert_eq!(severity, "warning");
    assert!(
        message.contains("execution.max_pending_executions"),
        "{message}"
    );
    assert!(advice.contains("escherctl reload"), "{advice}");

    fs::write(&file, "[execution]\nmax_secret_executions = 8\n").unwrap();
    let diagnostics = doctor(&daemon.ctl(), 1);
    let (severity, message, _) = diagnostic(&diagnostics, "configuration");
    assert_eq!(severity, "failure");
    assert!(message.contains("max_secret_executions"), "{message}");
    if require_root("that errors of the configuration are hidden from other users") {
        fs::set_permissions(daemon.home().socket(), Permissions::from_mode(0o666)).unwrap();
        let diagnostics = doctor(&daemon.ctl().as_user(ALICE, ALICE, &[]), 1);
        let (severity, message, _) = diagnostic(&diagnostics, "configuration");
        assert_eq!(severity, "failure");
        assert!(!message.contains("max_secret_executions"), "{message}");
    }
}

#[test]
fn a_full_log_directory_is_a_failure() {
    if !require_root("doctor on a full disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let disk = Tmpfs::mount(&home.logs(), "80m");
    let daemon = Daemon::builder()
        .home(&home)
        .config("[execution]\nlog_min_free_bytes = 1048576")
        .start();
    let ctl = daemon.ctl();
    assert_eq!(diagnostic(&doctor(&ctl, 0), "log-space").0, "ok");
    disk.fill();
    let diagnostics = doctor(&ctl, 1);
    let (severity, message, advice) = diagnostic(&diagnostics, "log-space");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("log_min_free_bytes") && advice.contains("prune"),
        "{message}"
    );
    disk.empty();
    assert_eq!(diagnostic(&doctor(&ctl, 0), "log-space").0, "ok");
}

#[test]
fn a_store_that_was_set_aside_is_a_warning_until_it_is_removed() {
    let home = Arc::new(Home::new());
    fs::create_dir(home.state()).unwrap();
    fs::write(home.state().join("escher.db"), [b'x'; 8192]).unwrap();
    let daemon = Daemon::builder().home(&home).start();
    let diagnostics = doctor(&daemon.ctl(), 0);
    let (severity, message, advice) = diagnostic(&diagnostics, "store-set-aside");
    assert_eq!(severity, "warning");
    assert!(!advice.is_empty());
    let (_, name) = message.split_once(": ").unwrap();
    fs::remove_file(home.state().join(name)).unwrap();
    let diagnostics = doctor(&daemon.ctl(), 0);
    let mut checks = diagnostics.iter().map(|diagnostic| &diagnostic["check"]);
    assert!(
        !checks.any(|check| check == "store-set-aside"),
        "{diagnostics:#?}"
    );
}

#[test]
fn an_embedded_engine_examines_itself_too() {
    let home = Home::new();
    in_runtime(async {
        let engine = ExecutionEngine::new(home.engine_settings()).await.unwrap();
        let diagnostics: Vec<Diagnostic> = engine.diagnose().await.unwrap();
        let store = diagnostics
            .iter()
            .find(|diagnostic| &*diagnostic.check == "store");
        assert_eq!(store.unwrap().severity, Severity::Ok);
        engine.shutdown(OnStop::Cancel).await;
    });
}
