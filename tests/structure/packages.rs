//! Checks the dependencies against deny.toml: their licences, where they come from, and which must not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What deny.toml accepts, as far as it is checked here.
struct Rules {
    licences: BTreeSet<String>,
    registries: BTreeSet<String>,
    banned: BTreeSet<String>,
    may_be_double: BTreeSet<String>,
}

/// Returns the texts of a list, or those that its tables have as `name`.
fn names(list: &toml::Value) -> BTreeSet<String> {
    let name = |value: &toml::Value| {
        let name = value.get("name").unwrap_or(value);
        name.as_str().expect("a name").to_owned()
    };
    list.as_array().expect("a list").iter().map(name).collect()
}

fn rules(workspace: &Path) -> Rules {
    let text = std::fs::read_to_string(workspace.join("deny.toml")).unwrap();
    let rules: toml::Value = toml::from_str(&text).unwrap();
    Rules {
        licences: names(&rules["licenses"]["allow"]),
        registries: names(&rules["sources"]["allow-registry"]),
        banned: names(&rules["bans"]["deny"]),
        may_be_double: names(&rules["bans"]["skip"]),
    }
}

/// Returns whether a licence expression (SPDX) can be met by accepted licences. In older ones a slash means OR.
fn is_accepted(expression: &str, accepted: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = &words[..];
    let result = any_of(&mut words, accepted);
    assert!(
        words.is_empty(),
        "{expression}: {words:?} was not understood"
    );
    result
}

/// Evaluates alternatives, up to the end or a closing parenthesis.
fn any_of(words: &mut &[&str], accepted: &BTreeSet<String>) -> bool {
    let mut result = all_of(words, accepted);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        result |= all_of(words, accepted);
    }
    result
}

/// Evaluates what must be met together.
fn all_of(words: &mut &[&str], accepted: &BTreeSet<String>) -> bool {
    let mut result = one(words, accepted);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        result &= one(words, accepted);
    }
    result
}

/// Evaluates a licence or an expression in parentheses. A licence with an exception allows more than that alone.
fn one(words: &mut &[&str], accepted: &BTreeSet<String>) -> bool {
    match words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = any_of(words, accepted);
            assert_eq!(words.first(), Some(&")"));
            *words = &words[1..];
            result
        }
        [licence, "WITH", _, rest @ ..] | [licence, rest @ ..] => {
            let result = accepted.contains(*licence);
            *words = rest;
            result
        }
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn dependencies_have_accepted_licences_and_sources() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rules = rules(workspace);
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(workspace)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "{errors}");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50);
    let mut problems = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let text = |field: &str| package[field].as_str();
        let name = text("name").unwrap();
        versions
            .entry(name)
            .or_default()
            .insert(text("version").unwrap());
        match text("license") {
            Some(licence) if is_accepted(licence, &rules.licences) => {}
            licence => problems.push(format!("{name}: its licence is {licence:?}")),
        }
        // A package of the workspace has no source.
        if let Some(source) = text("source") {
            let registry = source.strip_prefix("registry+");
            if registry.is_none_or(|registry| !rules.registries.contains(registry)) {
                problems.push(format!("{name}: it comes from {source}"));
            }
        }
        if rules.banned.contains(name) {
            problems.push(format!("{name} must not be used"));
        }
    }
    for (name, versions) in versions {
        if versions.len() > 1 && !rules.may_be_double.contains(name) {
            problems.push(format!("{name}: {versions:?}"));
        }
    }
    assert!(
        problems.is_empty(),
        "against deny.toml:\n{}",
        problems.join("\n")
    );
}

#[test]
fn licence_expressions_are_evaluated() {
    let accepted = BTreeSet::from(["MIT".to_owned(), "Unicode-3.0".to_owned()]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(MIT OR GPL-3.0) AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ("MIT WITH exception", true),
        ("GPL-3.0 OR MIT AND GPL-2.0", false),
    ] {
        assert_eq!(is_accepted(expression, &accepted), expected, "{expression}");
    }
}
