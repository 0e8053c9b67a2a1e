//! The files in `tests/golden/`: the value in comments, then its bytes in hex and ASCII.

use std::fmt::Write;
use std::path::PathBuf;
use std::{fs, io};

/// Returns the folder of the files.
pub(super) fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden"]
        .iter()
        .collect()
}

/// Reads the bytes of the message `name`.
pub(crate) fn read(name: &str) -> io::Result<Vec<u8>> {
    fs::read_to_string(path(name)).map(|text| parse(&text))
}

/// Returns the path of the file with the message `name`.
pub(super) fn path(name: &str) -> PathBuf {
    folder().join(format!("{name}.hex"))
}

/// Formats `bytes` in lines of sixteen.
pub(super) fn dump(bytes: &[u8]) -> String {
    bytes.chunks(16).fold(String::new(), |mut text, line| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii = line.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        });
        let ascii: String = ascii.collect();
        let _ = writeln!(text, "{:<47}  |{ascii}|", hex.join(" "));
        text
    })
}

/// Parses the output of [`dump`], with or without comments.
pub(crate) fn parse(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let hex = lines.flat_map(|line| {
        line.split('|')
            .next()
            .unwrap_or_default()
            .split_whitespace()
    });
    hex.map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect()
}
