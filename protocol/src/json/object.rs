//! One object as one line, safe to print to a terminal.

use std::io::{self, Write};

use crate::blob::Text;
use crate::invisible::is_invisible;
use crate::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Returns `value` as one line of JSON.
pub fn line(value: &impl Serialize) -> String {
    let mut line = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut line, TerminalSafe);
    // Cannot fail: every value has a form in JSON, and the writer is memory.
    let _ = value.serialize(&mut serializer);
    line.push(b'\n');
    String::from_utf8_lossy(&line).into_owned()
}

/// Returns RFC 3339 in UTC, to the microsecond.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.as_micros());
    // Out of range only if the clock is off by millennia.
    format!("{:.6}", time.unwrap_or(jiff::Timestamp::MAX))
}

/// Formats JSON on one line and escapes, beyond what JSON requires, what a terminal would act on.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_invisible(*c)) {
            // All unsafe characters are in the basic plane, so four digits suffice.
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

pub(super) fn owned(text: Option<&Text>) -> Option<String> {
    text.map(ToString::to_string)
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Returns `bytes` as text if they are UTF-8, else as base64.
pub(super) fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(base64(error.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_to_the_microsecond() {
        let time = |micros| rfc3339(Timestamp::from_micros(micros));
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
        assert!(time(i64::MAX).ends_with('Z'));
    }

    #[test]
    fn escapes_control_characters_beyond_what_json_requires() {
        let text = "\u{9b}31m\x7f\u{202e}\x1b\"é";
        let shown = line(&[text]);
        assert_eq!(shown, "[\"\\u009b31m\\u007f\\u202e\\u001b\\\"é\"]\n");
        let parsed: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(parsed, [text]);
    }
}
