//! The golden bytes of every message: each variant has a file in `tests/golden/`.
//!
//! `ESCHER_BLESS=1 cargo test -p escher-protocol golden::` writes missing files. It never
//! overwrites one: a file that does not match its message means that the protocol has changed.

mod file;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};

pub(crate) use file::{parse, read};

use crate::samples::{self, Sample};

const BLESS: &str = "ESCHER_BLESS=1 cargo test -p escher-protocol golden::";

#[test]
fn every_message_has_its_golden_bytes() {
    let differences: Vec<String> = samples::all().iter().filter_map(difference).collect();
    assert!(
        differences.is_empty(),
        "{}\nMissing files are written by: {BLESS}",
        differences.join("\n")
    );
}

/// Describes how a sample differs from its file, if it does.
fn difference(sample: &Sample) -> Option<String> {
    let Sample { name, message } = sample;
    let encoded = message.encode();
    if std::env::var_os("ESCHER_BLESS").is_some() {
        bless(sample, &encoded).expect("a golden file can be written");
    }
    let golden = match file::read(name) {
        Ok(golden) => golden,
        Err(error) => return Some(format!("golden/{name}.hex: {error}")),
    };
    if encoded != golden {
        let (is, was) = (file::dump(&encoded), file::dump(&golden));
        return Some(format!("{name} was on the wire\n{was}and is now\n{is}"));
    }
    match message.equals_decoded(&golden) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} decodes to another message")),
        Err(error) => Some(format!("{name} does not decode: {error}")),
    }
}

fn bless(sample: &Sample, encoded: &[u8]) -> io::Result<()> {
    let mut file = match File::create_new(file::path(sample.name)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    };
    for line in format!("{:#?}", sample.message).lines() {
        writeln!(file, "# {line}")?;
    }
    file.write_all(file::dump(encoded).as_bytes())
}

/// A file without a sample is a message that was removed from the protocol.
#[test]
fn every_golden_file_belongs_to_a_message() {
    let samples = samples::all();
    let known: BTreeSet<String> = samples
        .iter()
        .map(|sample| format!("{}.hex", sample.name))
        .collect();
    assert_eq!(known.len(), samples.len(), "two samples have the same name");
    for entry in fs::read_dir(file::folder()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&file), "golden/{file} belongs to no sample");
    }
}
