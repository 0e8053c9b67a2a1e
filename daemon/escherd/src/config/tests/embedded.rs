//! The settings of an embedded engine.

use std::fs;
use std::path::Path;

use crate::config::{EngineSettings, Profile};

#[test]
fn default_directories_are_in_the_users_temporary_directory() {
    let settings = EngineSettings::default();
    let name = format!("escher-executions-{}", nix::unistd::geteuid());
    assert_eq!(settings.log_dir, std::env::temp_dir().join(name));
    assert_eq!(settings.state_dir, settings.log_dir.join("state"));
    assert_eq!(settings.runtime_dir, settings.log_dir.join("run"));
    assert!(settings.launcher.ends_with("escher-launcher"));
    let testing = EngineSettings::from_profile(Profile::Testing);
    assert_eq!(testing.log_dir, settings.log_dir);
    assert!(!testing.reloadable.output.stream);
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
    let settings = EngineSettings::from_file(&path).unwrap();
    assert_eq!(settings.reloadable.request.kill_grace_ms, 7);
    assert_eq!(settings.state_dir, Path::new("/s"));
    fs::write(
        &path,
        "{\"kill_grace_ms\": 7, \"wait\": 1,\n\"log_dir\": 1}",
    )
    .unwrap();
    let error = EngineSettings::from_file(&path).unwrap_err();
    assert_eq!(error.problems().len(), 2, "{error}");
}
