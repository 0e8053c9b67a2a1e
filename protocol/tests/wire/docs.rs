//! `docs/protocol.md` agrees with the code: its types, examples and tables.

use std::collections::BTreeSet;

use escher_protocol::blob::MAX_LIST_ITEMS;
use escher_protocol::codec::{MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES};
use escher_protocol::execution::{
    KEPT_COMMAND_BYTES, LISTED_COMMAND_BYTES, MAX_LABELS, MAX_NAME_BYTES, MAX_VARIABLE_NAME_BYTES,
    MAX_VARIABLES,
};
use escher_protocol::handshake::{HIGHEST_VERSION, LOWEST_VERSION, MAX_HANDSHAKE_BYTES};
use escher_protocol::id::MAX_REFERENCE_BYTES;
use escher_protocol::message::{MAX_CONDITIONS, MAX_RESULT_GAPS, MAX_STDIN_BYTES};
use escher_protocol::output::MAX_CHUNK_BYTES;
use escher_protocol::parts::{MAX_PARTS, MAX_PARTS_BYTES};
use escher_protocol::{ErrorCode, Status};

use crate::schema::{Decoder, Schema};
use crate::{golden, samples};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// Returns the code blocks of this kind, each with the rest of its first line.
fn fences(kind: &str) -> Vec<(&'static str, &'static str)> {
    let begun = PAGE.split("\n```").skip(1).step_by(2);
    let fences = begun.filter_map(|fence| {
        let (first, body) = fence.split_once('\n')?;
        let rest = first.strip_prefix(kind)?;
        Some((rest.trim(), body))
    });
    fences.collect()
}

/// Returns the section of the page with this title.
fn section(title: &str) -> &'static str {
    let heading = format!("\n## {title}\n");
    let (_, rest) = PAGE.split_once(&heading).expect("the section is there");
    rest.split("\n## ").next().unwrap_or_default()
}

/// Returns the cells of a section's table without its head.
fn rows(title: &str) -> Vec<Vec<&'static str>> {
    let lines = section(title).lines().filter(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.skip(2).map(cells).collect()
}

fn schema() -> Schema {
    match fences("schema").as_slice() {
        [(_, body)] => Schema::parse(body),
        other => panic!("{} schemas", other.len()),
    }
}

#[test]
fn a_decoder_made_from_the_page_reads_every_golden_file() {
    let schema = schema();
    for sample in samples::all() {
        let bytes = golden::read(sample.name).unwrap();
        let type_name = sample.name.split('.').next().unwrap();
        let decoded = Decoder::new(&schema, &bytes).decode_all(type_name);
        assert_eq!(decoded, format!("{:?}", sample.message), "{}", sample.name);
    }
}

#[test]
fn the_page_has_every_variant_and_no_other() {
    let schema = schema();
    let on_the_page: BTreeSet<String> = schema
        .variants()
        .flat_map(|(name, variants)| variants.map(move |variant| format!("{name}.{variant}")))
        .collect();
    let is_variant = |name: &&str| match name.split('.').collect::<Vec<_>>()[..] {
        [_, variant] => variant.starts_with(char::is_uppercase),
        _ => false,
    };
    let names = samples::all().into_iter().map(|sample| sample.name);
    let in_the_code: BTreeSet<String> = names.filter(is_variant).map(str::to_owned).collect();
    assert_eq!(on_the_page, in_the_code);
}

#[test]
fn the_examples_equal_their_golden_files() {
    let examples = fences("hex");
    assert_eq!(examples.len(), 2);
    for (name, body) in examples {
        assert_eq!(golden::parse(body), golden::read(name).unwrap(), "{name}");
    }
    let header = "with its header is `00 00 00 1a`";
    assert!(PAGE.contains(header) && golden::read("Hello").unwrap().len() == 0x1a);
}

#[test]
fn the_page_lists_every_error() {
    let shown: Vec<[String; 3]> = rows("Errors")
        .iter()
        .map(|row| [row[0], row[1], row[2]].map(str::to_owned))
        .collect();
    let table: Vec<[String; 3]> = ErrorCode::TABLE
        .iter()
        .map(|(code, name, retry)| {
            let retry = if *retry { "yes" } else { "no" };
            [
                code.number().to_string(),
                format!("`{name}`"),
                retry.to_owned(),
            ]
        })
        .collect();
    assert_eq!(shown, table);
}

#[test]
fn the_page_lists_every_state() {
    let shown: Vec<(String, String)> = rows("States")
        .iter()
        .map(|row| (row[0].to_owned(), row[1].to_owned()))
        .collect();
    let table: Vec<(String, String)> = Status::TABLE
        .iter()
        .enumerate()
        .map(|(index, (_, name))| (index.to_string(), format!("`{name}`")))
        .collect();
    assert_eq!(shown, table);
}

#[test]
fn the_page_lists_every_limit() {
    let shown: Vec<&str> = rows("Limits").iter().map(|row| row[1]).collect();
    let limits = [
        format!("{MAX_HANDSHAKE_BYTES} bytes"),
        format!("{MAX_PAYLOAD_BYTES} bytes"),
        format!("{MAX_REQUEST_BYTES} bytes"),
        MAX_LIST_ITEMS.to_string(),
        format!("{MAX_CHUNK_BYTES} bytes"),
        format!("{MAX_STDIN_BYTES} bytes"),
        MAX_RESULT_GAPS.to_string(),
        format!("{MAX_NAME_BYTES} bytes"),
        format!("{MAX_REFERENCE_BYTES} bytes"),
        MAX_CONDITIONS.to_string(),
        MAX_LABELS.to_string(),
        MAX_VARIABLES.to_string(),
        format!("{MAX_VARIABLE_NAME_BYTES} bytes"),
        format!("{LISTED_COMMAND_BYTES} bytes"),
        format!("{KEPT_COMMAND_BYTES} bytes"),
        MAX_PARTS.to_string(),
        format!("{MAX_PARTS_BYTES} bytes"),
    ];
    assert_eq!(shown, limits);
    assert_eq!(
        (LOWEST_VERSION, HIGHEST_VERSION),
        (1, 1),
        "the page names one version"
    );
}
