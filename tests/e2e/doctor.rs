//! `escherctl doctor`, from outside: on an escher that is well, and on what an operator meets on a bad day.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use escher_client::{Diagnostic, Severity};
use escher_tests::{Ctl, Daemon, Ended, Home, Tmpfs, escherctl, finish, in_runtime, is_root_for};
use escherd::{ExecutionEngine, OnStop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, chown};
use serde_json::Value;

const ALICE: u32 = 61_001;
const GROUP: u32 = 61_400;

fn doctor(ctl: &Ctl, code: i32) -> Vec<Value> {
    ctl.run(["doctor", "--json"]).expect(code).json_lines()
}

/// Against a socket with no [`Daemon`] behind it.
fn doctor_at(socket: &Path) -> Ended {
    let mut command = Command::new(escherctl());
    command
        .args(["doctor", "--json"])
        .env("ESCHER_SOCKET", socket);
    finish(command)
}

/// The severity, message and advice of the first finding of a check.
#[track_caller]
fn of<'v>(findings: &'v [Value], check: &str) -> (&'v str, &'v str, &'v str) {
    let found = findings.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} among {findings:#?}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    (text("severity"), text("message"), text("advice"))
}

#[test]
fn an_escher_that_is_well_has_no_failure() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let findings = doctor(&ctl, 0);
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
        assert_eq!(of(&findings, check).0, "ok", "{:?}", of(&findings, check));
    }
    for finding in &findings {
        let fields: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 4, "{finding}");
        assert_ne!(finding["severity"], "failure", "{finding}");
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
fn without_an_escherd_it_says_what_can_be_seen() {
    let home = Home::new();
    let findings = doctor_at(&home.socket()).expect(1).json_lines();
    let (severity, message, advice) = of(&findings, "socket");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("by ESCHER_SOCKET") && !advice.is_empty(),
        "{message}"
    );
    assert_eq!(of(&findings, "connection").0, "failure");

    // One that was killed leaves its socket.
    drop(UnixListener::bind(home.socket()).unwrap());
    let findings = doctor_at(&home.socket()).expect(1).json_lines();
    assert_eq!(of(&findings, "socket").0, "ok");
    let (severity, message, advice) = of(&findings, "connection");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("no escherd listens") && !advice.is_empty(),
        "{message}"
    );
}

#[test]
fn an_escherd_that_is_stopped_is_told_from_one_that_is_not_there() {
    let daemon = Daemon::start();
    kill(daemon.pid(), Signal::SIGSTOP).unwrap();
    let findings = doctor(&daemon.ctl(), 1);
    kill(daemon.pid(), Signal::SIGCONT).unwrap();
    let (severity, message, advice) = of(&findings, "connection");
    assert_eq!(severity, "failure");
    assert!(message.contains("did not answer within"), "{message}");
    assert!(advice.contains("hangs"), "{advice}");
}

#[test]
fn who_is_not_in_the_group_is_told_which_it_is() {
    if !is_root_for("doctor for somebody outside of the socket's group") {
        return;
    }
    let daemon = Daemon::start();
    chown(&daemon.home().socket(), None, Some(Gid::from_raw(GROUP))).unwrap();
    let outside = doctor(&daemon.ctl().as_user(ALICE, ALICE, &[]), 1);
    let (severity, message, advice) = of(&outside, "access");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("61400") && advice.contains("usermod -aG"),
        "{message}: {advice}"
    );
    assert_eq!(of(&outside, "connection").0, "failure");

    let inside = doctor(&daemon.ctl().as_user(ALICE, ALICE, &[GROUP]), 0);
    assert_eq!(of(&inside, "access").0, "ok");
    assert_eq!(of(&inside, "privileges").0, "note", "not all is told");
}

#[test]
fn a_configuration_that_was_changed_is_held_against_what_is_in_force() {
    let daemon = Daemon::with_config("[execution]\nmax_pending_executions = 7");
    let file = daemon.home().path().join("escher.toml");
    fs::write(&file, "[execution]\nmax_pending_executions = 8\n").unwrap();
    let findings = doctor(&daemon.ctl(), 0);
    let (severity, message, advice) = of(&findings, "configuration");
    assert_eq!(severity, "warning");
    assert!(
        message.contains("execution.max_pending_executions"),
        "{message}"
    );
    assert!(advice.contains("escherctl reload"), "{advice}");

    fs::write(&file, "[execution]\nmax_secret_executions = 8\n").unwrap();
    let findings = doctor(&daemon.ctl(), 1);
    let (severity, message, _) = of(&findings, "configuration");
    assert_eq!(severity, "failure");
    assert!(message.contains("max_secret_executions"), "{message}");
    if is_root_for("that faults of the configuration are not told to everybody") {
        fs::set_permissions(daemon.home().socket(), Permissions::from_mode(0o666)).unwrap();
        let findings = doctor(&daemon.ctl().as_user(ALICE, ALICE, &[]), 1);
        let (severity, message, _) = of(&findings, "configuration");
        assert_eq!(severity, "failure");
        assert!(!message.contains("max_secret_executions"), "{message}");
    }
}

#[test]
fn a_log_directory_without_room_is_told() {
    if !is_root_for("doctor on a full disk") {
        return;
    }
    let home = Arc::new(Home::new());
    let disk = Tmpfs::mount(&home.logs(), "80m");
    let daemon = Daemon::builder()
        .home(&home)
        .config("[execution]\nlog_min_free_bytes = 1048576")
        .start();
    let ctl = daemon.ctl();
    assert_eq!(of(&doctor(&ctl, 0), "log-space").0, "ok");
    disk.fill();
    let findings = doctor(&ctl, 1);
    let (severity, message, advice) = of(&findings, "log-space");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("log_min_free_bytes") && advice.contains("prune"),
        "{message}"
    );
    disk.empty();
    assert_eq!(of(&doctor(&ctl, 0), "log-space").0, "ok");
}

#[test]
fn a_policy_that_others_can_write_is_named() {
    if !is_root_for("doctor on policies") {
        return;
    }
    let home = Arc::new(Home::new());
    let etc = home.path().join("etc");
    let policies = etc.join("escher/policy.d");
    fs::create_dir_all(&policies).unwrap();
    let policy = policies.join("ops.toml");
    fs::write(&policy, "").unwrap();
    fs::set_permissions(&policy, Permissions::from_mode(0o666)).unwrap();
    let daemon = Daemon::builder().home(&home).etc(&etc).start();
    let findings = doctor(&daemon.ctl(), 1);
    let (severity, message, advice) = of(&findings, "policies");
    assert_eq!(severity, "failure");
    assert!(
        message.contains("ops.toml") && advice.contains("chmod"),
        "{message}"
    );
}

#[test]
fn a_store_that_was_set_aside_is_named_until_it_is_removed() {
    let home = Arc::new(Home::new());
    fs::create_dir(home.state()).unwrap();
    fs::write(home.state().join("escher.db"), [b'x'; 8192]).unwrap();
    let daemon = Daemon::builder().home(&home).start();
    let findings = doctor(&daemon.ctl(), 0);
    let (severity, message, advice) = of(&findings, "store-set-aside");
    assert_eq!(severity, "warning");
    assert!(!advice.is_empty());
    let (_, name) = message.split_once(": ").unwrap();
    fs::remove_file(home.state().join(name)).unwrap();
    let findings = doctor(&daemon.ctl(), 0);
    let mut checks = findings.iter().map(|finding| &finding["check"]);
    assert!(
        !checks.any(|check| check == "store-set-aside"),
        "{findings:#?}"
    );
}

#[test]
fn an_engine_in_a_program_examines_itself_too() {
    let home = Home::new();
    in_runtime(async {
        let engine = ExecutionEngine::new(home.engine_config()).await.unwrap();
        let findings: Vec<Diagnostic> = engine.diagnose().await.unwrap();
        let store = findings.iter().find(|finding| &*finding.check == "store");
        assert_eq!(store.unwrap().severity, Severity::Ok);
        engine.shutdown(OnStop::Cancel).await;
    });
}
