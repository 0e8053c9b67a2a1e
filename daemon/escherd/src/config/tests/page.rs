//! Compares docs/configuration.md with the code.

use escher_protocol::SettingValue;

use super::{Host, read};
use crate::config::schema::SETTINGS;
use crate::config::{Origin, Profile};

const PAGE: &str = include_str!("../../../../../docs/configuration.md");

/// Returns the code blocks in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = PAGE.split(&fence).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn every_example_is_valid() {
    for (language, name) in [("toml", "a.toml"), ("json", "a.json")] {
        assert!(!blocks(language).is_empty());
        for block in blocks(language) {
            let read = read(name, block);
            assert!(read.is_ok(), "{block}: {:?}", read.err());
        }
    }
}

#[test]
fn example_of_all_settings_has_the_defaults() {
    let complete = blocks("toml")
        .into_iter()
        .max_by_key(|block| block.len())
        .unwrap();
    let complete = read("a.toml", complete).unwrap();
    let plain = Host::new().load(&[]).unwrap();
    // Has another default where escherd is not started by root.
    let depends_on_user = ["daemon.socket_group"];
    // Comments in the example: the default is none, or depends on the installation.
    let left_out = [
        "execution.log_dir",
        "daemon.launcher",
        "daemon.launcher_socket",
        "daemon.metrics_socket",
    ];
    for (setting, default) in complete.effective.iter().zip(&plain.effective) {
        let name = setting.name;
        if left_out.contains(&name) {
            continue;
        }
        assert_ne!(setting.origin, Origin::Default, "{name} is missing");
        if !depends_on_user.contains(&name) {
            assert_eq!(setting.value, default.value, "{name}");
        }
    }
    assert_eq!(
        complete.value("daemon.socket_group"),
        &super::text("escher")
    );
}

#[test]
fn tables_have_every_setting_with_its_default_variable_and_restart_mark() {
    let plain = Host::new().load(&[]).unwrap();
    for (key, setting) in SETTINGS.iter().zip(&plain.effective) {
        let line = PAGE
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", key.name)))
            .unwrap_or_else(|| panic!("{} is not in the page", key.name));
        let default = match (&setting.value, key.name) {
            (_, "daemon.launcher") => "see below".to_owned(),
            (_, "daemon.socket_group") => "`\"escher\"`".to_owned(),
            (SettingValue::Unset, _) => "none".to_owned(),
            (SettingValue::Text(text), _) => format!("`{:?}`", text.as_str()),
            (value, _) => format!("`{value}`"),
        };
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[2], default, "{line}");
        let variable = cells[4].trim_matches('`');
        assert_eq!(variable, key.variable.unwrap_or(""), "{line}");
        let is_reloadable = if key.is_reloadable { "" } else { "restart" };
        assert_eq!(cells[5], is_reloadable, "{line}");
    }
    let rows = PAGE.lines().filter(|line| {
        let sections = ["daemon", "execution", "users", "store", "history"];
        let heads = sections.map(|section| format!("| `{section}."));
        heads.iter().any(|head| line.starts_with(head))
    });
    assert_eq!(
        rows.count(),
        SETTINGS.len(),
        "the page has a setting that is not there"
    );
}

#[test]
fn table_has_the_profiles() {
    for profile in Profile::ALL {
        let chosen = Host::new().load(&["--profile", profile.name()]).unwrap();
        let line = PAGE
            .lines()
            .find(|line| line.starts_with(&format!("| `{profile}` |")))
            .unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).skip(2).collect();
        for (cell, name) in cells.iter().zip([
            "default_timeout_ms",
            "max_timeout_ms",
            "stream_output",
            "max_concurrent_executions",
            "max_in_memory_executions",
            "execution_retention_secs",
            "enable_auto_cleanup",
            "max_output_size_bytes",
        ]) {
            let value = chosen.value(&format!("execution.{name}"));
            assert_eq!(*cell, value.to_string(), "{line}");
        }
    }
}
