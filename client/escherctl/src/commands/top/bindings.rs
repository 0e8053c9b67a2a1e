//! What the keys do, as top(1) and htop(1) have taught.

use super::keys::Key;
use super::rows::SortKey;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Select(Movement),
    Cancel,
    PauseOrResume,
    ShowOrHideLog,
    SortBy(SortKey),
    ReverseOrder,
    Help,
    Redraw,
    Suspend,
    Quit,
}

/// Where the selection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Movement {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// Keys that do the same, or belong together, with what the help says of them.
pub(super) struct Binding {
    keys: &'static [(Key, Command)],
    pub(super) shown_keys: &'static str,
    pub(super) description: &'static str,
}

/// All keys, in the order of the help.
pub(super) const BINDINGS: &[Binding] = &[
    Binding {
        keys: &[
            (Key::Up, Command::Select(Movement::Up)),
            (Key::Down, Command::Select(Movement::Down)),
            (Key::PageUp, Command::Select(Movement::PageUp)),
            (Key::PageDown, Command::Select(Movement::PageDown)),
            (Key::Home, Command::Select(Movement::First)),
            (Key::End, Command::Select(Movement::Last)),
        ],
        shown_keys: "arrows, Home, End",
        description: "select; PgUp and PgDn by pages",
    },
    Binding {
        keys: &[
            (Key::Char('c'), Command::Cancel),
            (Key::Char('k'), Command::Cancel),
        ],
        shown_keys: "c, k",
        description: "cancel it, after a question",
    },
    Binding {
        keys: &[(Key::Char('p'), Command::PauseOrResume)],
        shown_keys: "p",
        description: "pause or resume it",
    },
    Binding {
        keys: &[
            (Key::Char('l'), Command::ShowOrHideLog),
            (Key::Enter, Command::ShowOrHideLog),
        ],
        shown_keys: "l, Enter",
        description: "show or hide its output",
    },
    Binding {
        keys: &[
            (Key::Char('P'), Command::SortBy(SortKey::Cpu)),
            (Key::Char('M'), Command::SortBy(SortKey::Memory)),
            (Key::Char('T'), Command::SortBy(SortKey::Time)),
            (Key::Char('D'), Command::SortBy(SortKey::Io)),
            (Key::Char('N'), Command::SortBy(SortKey::Number)),
        ],
        shown_keys: "P M T D N",
        description: "sort by CPU, memory, time, disk, number",
    },
    Binding {
        keys: &[
            (Key::Char('R'), Command::ReverseOrder),
            (Key::Char('I'), Command::ReverseOrder),
        ],
        shown_keys: "R, I",
        description: "reverse the order",
    },
    Binding {
        keys: &[(Key::Ctrl('l'), Command::Redraw)],
        shown_keys: "Ctrl-L",
        description: "draw the screen again",
    },
    Binding {
        keys: &[(Key::Ctrl('z'), Command::Suspend)],
        shown_keys: "Ctrl-Z",
        description: "suspend top; fg continues it",
    },
    Binding {
        keys: &[
            (Key::Char('?'), Command::Help),
            (Key::Char('h'), Command::Help),
            (Key::F(1), Command::Help),
        ],
        shown_keys: "?, h, F1",
        description: "this help",
    },
    Binding {
        keys: &[
            (Key::Char('q'), Command::Quit),
            (Key::Ctrl('c'), Command::Quit),
            (Key::F(10), Command::Quit),
        ],
        shown_keys: "q, F10, Ctrl-C",
        description: "quit",
    },
];

/// Returns what `key` asks for.
pub(super) fn command_of(key: Key) -> Option<Command> {
    let mut keys = BINDINGS.iter().flat_map(|binding| binding.keys);
    keys.find(|(bound, _)| *bound == key)
        .map(|(_, command)| *command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_two_meanings() {
        let all: Vec<Key> = BINDINGS
            .iter()
            .flat_map(|binding| binding.keys)
            .map(|(key, _)| *key)
            .collect();
        for (index, key) in all.iter().enumerate() {
            assert!(!all[..index].contains(key), "{key:?}");
        }
        assert_eq!(command_of(Key::Char('q')), Some(Command::Quit));
        assert_eq!(command_of(Key::Char('x')), None);
    }
}
