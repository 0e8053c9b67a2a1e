//! Messages that are broken between words.

use comfy_table::Table;

/// The narrowest terminal for which lines are broken. Some report no width at all, as 0.
const MIN_WIDTH: u16 = 20;

/// Returns lines as they are shown on standard error: broken if that is a terminal.
pub(crate) fn fitted_to_stderr(text: &str) -> String {
    match Table::new().use_stderr().width() {
        Some(width @ MIN_WIDTH..) => wrapped(text, usize::from(width)),
        _ => text.to_owned(),
    }
}

/// Breaks each line of `text` between words, so that it has at most `width` characters. The rest of a line is
/// indented by two more than its beginning. Words that are longer stay whole.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        wrap_line(line, width, &mut lines);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn wrap_line(line: &str, width: usize, lines: &mut Vec<String>) {
    let indent = line.len() - line.trim_start_matches(' ').len();
    if visible_width(line) <= width {
        lines.push(line.to_owned());
        return;
    }
    let mut current = " ".repeat(indent);
    let mut is_empty = true;
    for word in line[indent..].split(' ') {
        let space = usize::from(!is_empty);
        let length = visible_width(&current) + space + visible_width(word);
        if length > width && !is_empty {
            lines.push(std::mem::replace(&mut current, " ".repeat(indent + 2)));
            is_empty = true;
        }
        if !is_empty {
            current.push(' ');
        }
        current.push_str(word);
        is_empty = false;
    }
    lines.push(current);
}

/// Returns the number of characters, without escape sequences for colours.
fn visible_width(text: &str) -> usize {
    let mut is_in_sequence = false;
    let visible = text.chars().filter(|&c| {
        is_in_sequence |= c == '\x1b';
        let is_visible = !is_in_sequence;
        is_in_sequence &= c != 'm';
        is_visible
    });
    visible.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_their_rest_is_indented() {
        assert_eq!(wrapped("short\n", 10), "short\n");
        assert_eq!(
            wrapped(
                "escherctl: there is no user bob\n  hint: see the list of them\n",
                20
            ),
            "escherctl: there is\n  no user bob\n  hint: see the list\n    of them\n"
        );
    }

    #[test]
    fn colours_take_no_room() {
        let red = "\x1b[31mred\x1b[0m";
        assert_eq!(visible_width(red), 3);
        assert_eq!(
            wrapped(&format!("{red} {red}"), 7),
            format!("{red} {red}\n")
        );
    }

    #[test]
    fn words_that_are_too_long_stay_whole() {
        assert_eq!(
            wrapped("see /a/very/long/path now", 10),
            "see\n  /a/very/long/path\n  now\n"
        );
    }
}
