//! `escherctl config check`, which runs the escherd beside it.

use std::process::Command;

use escher_tests::{Home, escherctl, run_program};
use serde_json::json;

fn config_check(words: &[&str]) -> Command {
    let mut command = Command::new(escherctl());
    command.args(["config", "check"]).args(words).env_clear();
    command
}

#[test]
fn a_configuration_is_checked_without_a_running_escherd() {
    let home = Home::new();
    let valid = home.file("valid.toml", "[execution]\n", 0o644);
    let invalid = home.file(
        "invalid.toml",
        "[execution]\nkill_grace_ms = \"long\"\n",
        0o644,
    );
    let (valid, invalid) = (valid.to_str().unwrap(), invalid.to_str().unwrap());
    let check = |words: &[&str]| run_program(config_check(words));

    let ended = check(&[valid]).expect(0);
    assert_eq!(ended.out(), format!("{valid} is valid\n"));
    assert_eq!(check(&["-q", valid]).expect(0).out(), "");
    let object = &check(&["--json", valid]).expect(0).json_lines()[0];
    assert_eq!(
        object,
        &json!({ "file": valid, "valid": true, "faults": [] })
    );

    let ended = check(&[invalid]).expect(1);
    assert_eq!(ended.out(), "");
    for part in ["escherd: ", "invalid.toml", "kill_grace_ms"] {
        assert!(ended.err().contains(part), "{part} is not in {ended:?}");
    }
    let ended = check(&["--json", invalid]).expect(1);
    assert_eq!(ended.err(), "");
    let object = &ended.json_lines()[0];
    assert_eq!(
        (&object["file"], &object["valid"]),
        (&json!(invalid), &json!(false))
    );
    let first = object["faults"][0].as_str().unwrap();
    assert!(
        first.contains("invalid.toml") && !first.starts_with("escherd"),
        "{object}"
    );
}

#[test]
fn a_file_to_check_is_named_from_the_callers_directory() {
    let home = Home::new();
    home.file("-odd.toml", "", 0o644);
    let mut command = config_check(&["--", "-odd.toml"]);
    command.current_dir(home.work());
    assert_eq!(run_program(command).expect(0).out(), "-odd.toml is valid\n");
    let missing = run_program(config_check(&["/no/such/file.toml"])).expect(1);
    assert!(missing.err().contains("/no/such/file.toml"), "{missing:?}");
}
