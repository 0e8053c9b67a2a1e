//! Nothing that stands in a file makes escherd panic, and what is right is read as it was written.

use proptest::prelude::*;

use super::{Host, read, values};
use crate::config::schema::KEYS;
use crate::config::value_type::Kind;
use crate::config::{Configuration, Value};

/// A value as files have it, often of the wrong type.
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

/// A name that means something, or not.
fn any_name() -> impl Strategy<Value = String> {
    let known = (0..KEYS.len()).prop_map(|index| KEYS[index].name);
    prop_oneof![
        4 => known.clone().prop_map(str::to_owned),
        1 => known.prop_map(|name| name.replace('.', "")),
        1 => Just("daemon.log_dir".to_owned()),
        1 => Just("profile".to_owned()),
        1 => any::<String>(),
    ]
}

/// A document of such names and values: `a.b` is b in the table a.
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

/// Pieces of TOML, to be put together in every wrong way.
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

/// All faults are about some line of the file, and fit a line each.
fn is_sound(result: Result<Configuration, Vec<String>>, name: &str) {
    if let Err(faults) = result {
        assert!(!faults.is_empty());
        for fault in faults {
            assert!(fault.starts_with(&format!("~/{name}:")), "{fault:?}");
            assert!(!fault.contains('\n'), "{fault:?}");
        }
    }
}

/// A value that the setting takes; `None` for those that have none such in common.
fn right_value(kind: &'static Kind) -> BoxedStrategy<serde_json::Value> {
    use serde_json::Value;
    match kind {
        Kind::Flag { .. } => any::<bool>().prop_map(Value::from).boxed(),
        // Few enough for every host's memory, and TOML's numbers.
        Kind::Number { range, .. } => {
            let most = (*range.end()).min(1000);
            (*range.start()..=most).prop_map(Value::from).boxed()
        }
        Kind::Word { words } => (0..words.len())
            .prop_map(|index| Value::from(words[index].0))
            .boxed(),
        Kind::Mode { .. } => (0..=0o777_u32)
            .prop_map(|mode| Value::from(format!("{mode:04o}")))
            .boxed(),
        Kind::Name { .. } => "[a-z]{1,8}".prop_map(Value::from).boxed(),
        Kind::Path { .. } => "/tmp/[a-z \"\u{e9}]{1,8}".prop_map(Value::from).boxed(),
    }
}

/// Some settings with values that they take, alone and beside each other.
fn right_assignment() -> impl Strategy<Value = Vec<(&'static str, serde_json::Value)>> {
    use serde_json::Value;
    let all = proptest::sample::subsequence((0..KEYS.len()).collect::<Vec<_>>(), 0..=KEYS.len());
    all.prop_flat_map(|indices| {
        let values: Vec<_> = indices
            .into_iter()
            .map(|index| (Just(KEYS[index].name), right_value(&KEYS[index].kind)))
            .collect();
        values
    })
    .prop_map(|mut values| {
        // Any timeout is allowed, there is room for a tail, and each socket has a place of its own.
        for (name, value) in [
            ("execution.max_timeout_ms", Value::from(0)),
            ("execution.max_output_size_bytes", Value::from(5000)),
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
    fn any_text_is_taken_or_refused(text in any::<String>()) {
        is_sound(read("a.toml", &text), "a.toml");
        is_sound(read("a.json", &text), "a.json");
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in any::<Vec<u8>>()) {
        for name in ["a.toml", "a.json"] {
            let host = Host::new().file(name, &bytes);
            is_sound(host.load(&["--config", &format!("~/{name}")]), name);
        }
    }

    #[test]
    fn anything_that_looks_like_toml_is_taken_or_refused(text in toml_pieces()) {
        is_sound(read("a.toml", &text), "a.toml");
    }

    #[test]
    fn any_json_is_taken_or_refused(document in any_document()) {
        is_sound(read("a.json", &document.to_string()), "a.json");
        is_sound(read("a.json", &format!("{document:#}")), "a.json");
    }

    #[test]
    fn any_toml_is_taken_or_refused(document in any_document()) {
        // JSON's null and large numbers have no TOML.
        if let Ok(text) = toml::to_string(&document) {
            is_sound(read("a.toml", &text), "a.toml");
        }
    }

    #[test]
    fn any_value_of_a_variable_is_taken_or_refused(index in 0..KEYS.len(), value in any::<String>()) {
        if let Some(name) = KEYS[index].variable
            && let Err(faults) = Host::new().variable(name, value).load(&[])
        {
            let head = format!("{name}=");
            prop_assert!(faults.iter().all(|fault| fault.starts_with(&head)), "{:?}", faults);
        }
    }

    #[test]
    fn what_is_right_is_read_as_it_was_written(values_written in right_assignment()) {
        let document = nested(&values_written);
        let json = read("a.json", &document.to_string()).unwrap();
        let toml = read("a.toml", &toml::to_string(&document).unwrap()).unwrap();
        prop_assert_eq!(values(&json), values(&toml));
        prop_assert_eq!(format!("{:?}", json.settings), format!("{:?}", toml.settings));
        for (name, written) in values_written {
            let read = match json.value(name) {
                Value::Unset => serde_json::Value::Null,
                Value::Flag(flag) => (*flag).into(),
                Value::Number(number) => (*number).into(),
                Value::Text(text) => text.as_str().into(),
            };
            prop_assert_eq!(read, written, "{}", name);
        }
    }
}
