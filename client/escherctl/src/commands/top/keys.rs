//! The keys of a terminal, out of the bytes that it sends.

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// Ctrl with a letter, in lower case.
    Ctrl(char),
    Enter,
    Escape,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// A function key.
    F(u8),
}

/// What follows ESC, for each key that sends more than a character: as xterm sends it, and as a terminal does in the
/// application mode of its cursor keys, rxvt and the Linux console do where that is different.
const SEQUENCES: &[(&str, Key)] = &[
    ("[A", Key::Up),
    ("OA", Key::Up),
    ("[B", Key::Down),
    ("OB", Key::Down),
    ("[5~", Key::PageUp),
    ("[6~", Key::PageDown),
    ("[H", Key::Home),
    ("OH", Key::Home),
    ("[1~", Key::Home),
    ("[7~", Key::Home),
    ("[F", Key::End),
    ("OF", Key::End),
    ("[4~", Key::End),
    ("[8~", Key::End),
    ("OP", Key::F(1)),
    ("[11~", Key::F(1)),
    ("[[A", Key::F(1)),
    ("[21~", Key::F(10)),
];

/// Returns the keys in what was read from a terminal at once. A terminal writes what a key sends at once, too, so an ESC
/// at the end is a key by itself. Keys that nobody asks for are left out.
pub(super) fn decode(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        let (key, length) = match first {
            0x1b if rest.is_empty() => (Some(Key::Escape), 0),
            0x1b => sequence(rest),
            b'\r' | b'\n' => (Some(Key::Enter), 0),
            1..=26 => (Some(Key::Ctrl(char::from(b'a' + first - 1))), 0),
            b' '..=b'~' => (Some(Key::Char(char::from(*first))), 0),
            _ => (None, 0),
        };
        keys.extend(key);
        bytes = &rest[length..];
    }
    keys
}

/// Returns the key whose sequence begins behind an ESC, if it is known, and the length of the sequence.
fn sequence(rest: &[u8]) -> (Option<Key>, usize) {
    let length = match rest {
        // The Linux console's function keys.
        [b'[', b'[', _, ..] => 3,
        // Parameters and one final character (ECMA-48, 5.4).
        [b'[', parameters @ ..] => {
            let is_final = |byte: &u8| (b'@'..=b'~').contains(byte);
            let end = parameters.iter().position(is_final);
            1 + end.map_or(parameters.len(), |end| end + 1)
        }
        [b'O', _, ..] => 2,
        // Alt with another key.
        _ => 1,
    };
    let sequence = &rest[..length];
    let known = SEQUENCES
        .iter()
        .find(|(text, _)| text.as_bytes() == sequence);
    (known.map(|(_, key)| *key), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_the_terminal_sends_for_it() {
        for (bytes, expected) in [
            (&b"q"[..], &[Key::Char('q')][..]),
            (b"P?", &[Key::Char('P'), Key::Char('?')]),
            (
                b"\x03\x1a\x0c",
                &[Key::Ctrl('c'), Key::Ctrl('z'), Key::Ctrl('l')],
            ),
            (b"\r", &[Key::Enter]),
            (b"\x1b", &[Key::Escape]),
            (b"\x1b[A\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[5~\x1b[6~", &[Key::PageUp, Key::PageDown]),
            (b"\x1b[H\x1b[4~", &[Key::Home, Key::End]),
            (b"\x1bOP\x1b[11~\x1b[[A", &[Key::F(1); 3]),
            (b"\x1b[21~q", &[Key::F(10), Key::Char('q')]),
            (b"\x1b[Aq\x1b", &[Key::Up, Key::Char('q'), Key::Escape]),
            // Keys, sequences and characters that nobody asks for.
            (b"\x1b[1;5Cq", &[Key::Char('q')]),
            (b"\x1b[3~\x1bOQ\x1bxq", &[Key::Char('q')]),
            ("\u{e9}q\x7f".as_bytes(), &[Key::Char('q')]),
            (b"\x1b[", &[]),
            (b"\x1b[12", &[]),
            (b"\x1b[[", &[]),
            (b"\x1bO", &[]),
        ] {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(decode(bytes), expected, "{shown:?}");
        }
    }
}
