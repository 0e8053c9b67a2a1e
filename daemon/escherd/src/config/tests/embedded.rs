//! The configuration of an embedded engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{EngineConfig, Profile};

#[test]
fn default_directories_are_in_the_users_temporary_directory() {
    let config = EngineConfig::default();
    let name = format!("escher-executions-{}", nix::unistd::geteuid());
    assert_eq!(config.log_dir, std::env::temp_dir().join(name));
    assert_eq!(config.state_dir, config.log_dir.join("state"));
    assert_eq!(config.runtime_dir, config.log_dir.join("run"));
    assert!(config.launcher.ends_with("escher-launcher"));
    let testing = EngineConfig::from_profile(Profile::Testing);
    assert_eq!(testing.log_dir, config.log_dir);
    assert!(!testing.executions.output.stream);
}

#[test]
fn reads_a_file_like_escherd() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.json");
    fs::write(
        &path,
        "{\"kill_grace_ms\": 7, \"daemon\": {\"state_dir\": \"/s\"}}",
    )
    .unwrap();
    let config = EngineConfig::from_file(&path).unwrap();
    assert_eq!(config.executions.request.kill_grace_ms, 7);
    assert_eq!(config.state_dir, Path::new("/s"));
    fs::write(
        &path,
        "{\"kill_grace_ms\": 7, \"wait\": 1,\n\"log_dir\": 1}",
    )
    .unwrap();
    let error = EngineConfig::from_file(&path).unwrap_err();
    assert_eq!(error.problems().len(), 2, "{error}");
}

#[test]
fn log_directory_is_accessible_to_its_group_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        log_dir: dir.path().join("a/logs"),
        state_dir: dir.path().join("state"),
        runtime_dir: dir.path().join("run"),
        ..EngineConfig::default()
    };
    config.make_log_dir().unwrap();
    config.make_log_dir().unwrap();
    let mode = fs::metadata(&config.log_dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0);
    let blocked = EngineConfig {
        log_dir: "/dev/null/logs".into(),
        ..config
    };
    let error = blocked.make_log_dir().unwrap_err().to_string();
    assert!(error.contains("/dev/null/logs"), "{error}");
}

#[test]
fn temporary_directory_is_private_if_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = dir.path().join("temporary");
    for (logs, state) in [
        (temporary.clone(), dir.path().join("state")),
        (dir.path().join("logs"), temporary.join("state")),
    ] {
        let config = EngineConfig {
            log_dir: logs,
            state_dir: state,
            runtime_dir: dir.path().join("run"),
            ..EngineConfig::default()
        };
        config.make_log_dir_with_temporary(&temporary).unwrap();
        let mode = fs::metadata(&temporary).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
        let error = config.make_log_dir_with_temporary(&temporary).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        fs::remove_dir(&temporary).unwrap();
    }
}
