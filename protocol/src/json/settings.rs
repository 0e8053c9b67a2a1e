//! Settings, reloads and checks of the configuration.

use std::path::Path;

use serde::Serialize;

use super::object::line;
use crate::{Reloaded, Setting, SettingValue};

/// Returns the object for a setting in force.
pub fn setting(setting: &Setting) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        name: &'a str,
        value: Value<'a>,
        origin: &'a str,
        live: bool,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Value<'a> {
        Unset,
        Flag(bool),
        Number(u64),
        Text(&'a str),
    }
    line(&Line {
        name: &setting.name,
        value: match &setting.value {
            SettingValue::Unset => Value::Unset,
            SettingValue::Flag(value) => Value::Flag(*value),
            SettingValue::Number(value) => Value::Number(*value),
            SettingValue::Text(value) => Value::Text(value),
        },
        origin: &setting.origin,
        live: setting.is_reloadable,
    })
}

/// Returns the object for a reload.
pub fn reloaded(reloaded: &Reloaded) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        applied: Vec<&'a str>,
        need_restart: Vec<&'a str>,
    }
    line(&Line {
        applied: reloaded.applied.iter().map(|name| &**name).collect(),
        need_restart: reloaded.need_restart.iter().map(|name| &**name).collect(),
    })
}

/// Returns the object for a check of `file`, or of what escherd would read.
pub fn config_check(file: Option<&Path>, is_valid: bool, errors: &[&str]) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        file: Option<String>,
        valid: bool,
        faults: &'a [&'a str],
    }
    line(&Line {
        file: file.map(|file| file.to_string_lossy().into_owned()),
        valid: is_valid,
        faults: errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_type_of_its_setting() {
        let shown = |value| {
            setting(&Setting {
                name: "a.b".into(),
                value,
                origin: "default".into(),
                is_reloadable: true,
            })
        };
        for (value, expected) in [
            (SettingValue::Unset, "null"),
            (SettingValue::Flag(false), "false"),
            (SettingValue::Number(120_000), "120000"),
            (SettingValue::Text("0660".into()), r#""0660""#),
        ] {
            let expected =
                format!(r#"{{"name":"a.b","value":{expected},"origin":"default","live":true}}"#);
            assert_eq!(shown(value), expected + "\n");
        }
    }
}
