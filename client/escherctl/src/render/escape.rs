//! Escapes what a terminal would act on, and what nobody would see.

use std::fmt::Write;

use escher_client::protocol::invisible::is_invisible;

/// Escapes what would move the cursor, change a colour, reverse the direction of text or not be seen.
pub(crate) fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    push_text(&mut escaped, text);
    escaped
}

/// Like [`text`], for bytes: what is not UTF-8 becomes `\xNN`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    push_bytes(&mut escaped, bytes);
    escaped
}

/// Returns a command line that a shell (bash, zsh, ksh) reads as exactly these words.
pub(crate) fn command_line<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> String {
    let words: Vec<String> = words.into_iter().map(quote).collect();
    words.join(" ")
}

fn quote(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        return String::from_utf8_lossy(word).into_owned();
    }
    match std::str::from_utf8(word) {
        Ok(text) if !text.contains(is_invisible) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let quoted = bytes(&escape_quotes(word));
            format!("$'{quoted}'")
        }
    }
}

/// Puts a backslash before each backslash and quote, as `$'…'` requires.
fn escape_quotes(word: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(word.len());
    for &byte in word {
        if matches!(byte, b'\\' | b'\'') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

fn push_bytes(escaped: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        push_text(escaped, chunk.valid());
        for byte in chunk.invalid() {
            push(escaped, format_args!("\\x{byte:02x}"));
        }
    }
}

fn push_text(escaped: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            c if !is_invisible(c) => escaped.push(c),
            c if c.is_ascii() => push(escaped, format_args!("\\x{:02x}", u32::from(c))),
            c => push(escaped, format_args!("\\u{:04x}", u32::from(c))),
        }
    }
}

fn push(escaped: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = escaped.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_acts_on() {
        assert_eq!(text("a\x1b[2Jb\x07\n"), r"a\x1b[2Jb\x07\n");
        assert_eq!(text("\u{9b}31m\u{202e}\x7f"), r"\u009b31m\u202e\x7f");
        assert_eq!(text("a\u{200b}b\u{feff}"), r"a\u200bb\ufeff");
        assert_eq!(text("Grüße, 世界"), "Grüße, 世界");
        assert_eq!(bytes(b"ok\xff\xc3"), r"ok\xff\xc3");
    }

    #[test]
    fn command_lines_can_be_pasted_into_a_shell() {
        let words: [&[u8]; 6] = [b"echo", b"a b", b"it's", b"", b"-x=1", b"a\n'\\\xff"];
        assert_eq!(
            command_line(words),
            r"echo 'a b' 'it'\''s' '' -x=1 $'a\n\'\\\xff'"
        );
    }
}
