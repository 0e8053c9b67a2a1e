//! No contents of a file make escherd panic, and valid values are read as they were written.

use proptest::prelude::*;

use escher_protocol::SettingValue;

use super::{Host, read, values};
use crate::config::Configuration;
use crate::config::schema::SETTINGS;
use crate::config::value_type::ValueType;

/// A value of a file, often of the wrong type.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..100_u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-7]{3,4}|/[a-z]{0,8}|drop|kill|power|testing".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(Value::from_iter),
        ]
    })
}

/// A name, known or not.
fn any_name() -> impl Strategy<Value = String> {
    let known = (0..SETTINGS.len()).prop_map(|index| SETTINGS[index].name);
    prop_oneof![
        4 => known.clone().prop_map(str::to_owned),
        1 => known.prop_map(|name| name.replace('.', "")),
        1 => Just("daemon.log_dir".to_owned()),
        1 => Just("profile".to_owned()),
        1 => any::<String>(),
    ]
}

/// A document of such names and values. `a.b` is the key b in the table a.
fn any_document() -> impl Strategy<Value = serde_json::Value> {
    let entries = proptest::collection::vec((any_name(), any_value(), any::<bool>()), 0..12);
    entries.prop_map(|entries| {
        let mut root = serde_json::Map::new();
        for (name, value, is_flat) in entries {
            match name.split_once('.') {
                Some((table, key)) if !is_flat => {
                    let table = root
                        .entry(table)
                        .or_insert_with(|| serde_json::Map::new().into());
                    if let Some(table) = table.as_object_mut() {
                        table.insert(key.to_owned(), value);
                    }
                }
                Some((_, key)) => _ = root.insert(key.to_owned(), value),
                None => _ = root.insert(name, value),
            }
        }
        root.into()
    })
}

/// Pieces of TOML in any order.
fn toml_pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any_name(),
        "[\\[\\]{}=.,\"'#\\n\\\\ \\-+_0-9a-fxobnt:T]{1,6}",
        Just("[execution]\n".to_owned()),
        Just("[[execution]]\n".to_owned()),
        Just("[execution.a]\n".to_owned()),
        Just("a = 1\n".to_owned()),
        Just("a.b = [1,\n".to_owned()),
        Just("\"\"\"\n".to_owned()),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Asserts that every problem names a line of the file and is one line long.
fn assert_sound(result: Result<Configuration, Vec<String>>, name: &str) {
    if let Err(problems) = result {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(problem.starts_with(&format!("~/{name}:")), "{problem:?}");
            assert!(!problem.contains('\n'), "{problem:?}");
        }
    }
}

/// A value that the setting accepts.
fn valid_value(value_type: &'static ValueType) -> BoxedStrategy<serde_json::Value> {
    use serde_json::Value;
    match value_type {
        ValueType::Flag { .. } => any::<bool>().prop_map(Value::from).boxed(),
        // Small enough for every host's memory, and for TOML.
        ValueType::Number { range, .. } => {
            let least = *range.start();
            let most = (*range.end()).min(least.max(1000));
            (least..=most).prop_map(Value::from).boxed()
        }
        ValueType::Percent { .. } => (1..=100_u8)
            .prop_map(|percent| Value::from(format!("{percent}%")))
            .boxed(),
        ValueType::Duration { .. } => (1..=60_u32)
            .prop_map(|seconds| Value::from(format!("{seconds}s")))
            .boxed(),
        ValueType::Choice { choices } => (0..choices.len())
            .prop_map(|index| Value::from(choices[index].0))
            .boxed(),
        ValueType::Mode { .. } => (0..=0o777_u32)
            .prop_map(|mode| Value::from(format!("{mode:04o}")))
            .boxed(),
        ValueType::Name { .. } => "[a-z]{1,8}".prop_map(Value::from).boxed(),
        ValueType::Path { .. } => "/tmp/[a-z \"\u{e9}]{1,8}".prop_map(Value::from).boxed(),
    }
}

/// Some settings with values that are valid together.
fn valid_assignments() -> impl Strategy<Value = Vec<(&'static str, serde_json::Value)>> {
    use serde_json::Value;
    let all =
        proptest::sample::subsequence((0..SETTINGS.len()).collect::<Vec<_>>(), 0..=SETTINGS.len());
    all.prop_flat_map(|indices| {
        let values: Vec<_> = indices
            .into_iter()
            .map(|index| {
                (
                    Just(SETTINGS[index].name),
                    valid_value(&SETTINGS[index].value_type),
                )
            })
            .collect();
        values
    })
    .prop_map(|mut values| {
        // No maximum timeout, a limit above every tail, a path of its own for each socket, a log that
        // can forget.
        for (name, value) in [
            ("execution.max_timeout_ms", Value::from(0)),
            ("execution.max_output_size_bytes", Value::from(5000)),
            ("execution.max_log_bytes", Value::from(65_536)),
            (
                "daemon.metrics_socket",
                Value::from("/tmp/socket/of/metrics"),
            ),
        ] {
            values.retain(|(other, _)| *other != name);
            values.push((name, value));
        }
        values
    })
}

fn nested(values: &[(&'static str, serde_json::Value)]) -> serde_json::Value {
    let mut root = serde_json::json!({});
    for (name, value) in values {
        let (table, key) = name.split_once('.').unwrap();
        root[table][key] = value.clone();
    }
    root
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_accepted_or_refused(text in any::<String>()) {
        assert_sound(read("a.toml", &text), "a.toml");
        assert_sound(read("a.json", &text), "a.json");
    }

    #[test]
    fn any_bytes_are_accepted_or_refused(bytes in any::<Vec<u8>>()) {
        for name in ["a.toml", "a.json"] {
            let host = Host::new().file(name, &bytes);
            assert_sound(host.load(&["--config", &format!("~/{name}")]), name);
        }
    }

    #[test]
    fn anything_like_toml_is_accepted_or_refused(text in toml_pieces()) {
        assert_sound(read("a.toml", &text), "a.toml");
    }

    #[test]
    fn any_json_is_accepted_or_refused(document in any_document()) {
        assert_sound(read("a.json", &document.to_string()), "a.json");
        assert_sound(read("a.json", &format!("{document:#}")), "a.json");
    }

    #[test]
    fn any_toml_is_accepted_or_refused(document in any_document()) {
        // TOML has neither null nor large numbers.
        if let Ok(text) = toml::to_string(&document) {
            assert_sound(read("a.toml", &text), "a.toml");
        }
    }

    #[test]
    fn any_value_of_a_variable_is_accepted_or_refused(index in 0..SETTINGS.len(), value in any::<String>()) {
        if let Some(name) = SETTINGS[index].variable
            && let Err(problems) = Host::new().variable(name, value).load(&[])
        {
            let head = format!("{name}=");
            prop_assert!(problems.iter().all(|problem| problem.starts_with(&head)), "{:?}", problems);
        }
    }

    #[test]
    fn valid_values_are_read_as_they_were_written(values_written in valid_assignments()) {
        let document = nested(&values_written);
        let json = read("a.json", &document.to_string()).unwrap();
        let toml = read("a.toml", &toml::to_string(&document).unwrap()).unwrap();
        prop_assert_eq!(values(&json), values(&toml));
        prop_assert_eq!(format!("{:?}", json.settings), format!("{:?}", toml.settings));
        for (name, written) in values_written {
            let read = match json.value(name) {
                SettingValue::Unset => serde_json::Value::Null,
                SettingValue::Flag(flag) => (*flag).into(),
                SettingValue::Number(number) => (*number).into(),
                SettingValue::Text(text) => text.as_str().into(),
            };
            prop_assert_eq!(read, written, "{}", name);
        }
    }
}
