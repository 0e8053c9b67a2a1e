//! Sessions in the documentation: commands with what they print, which tests run.
//!
//! They stand in Markdown blocks of the language `console`. A line that begins with `$ ` is a command, one with `> `
//! below it continues it, and the others are what the commands print, on either output. An ellipsis, `…`, stands for any
//! text within a line; on a line of its own it stands for any number of lines. All blocks of a page are one session, in
//! one shell.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use crate::{DEADLINE, Daemon, RunningProgram, escherctl};

/// Begins and ends what the shell prints after each command; no text has it.
const SEPARATOR: char = '\u{1e}';

/// The text that stands for any other.
const ELLIPSIS: &str = "…";

/// A command of a session, and what it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The line of the page where it is, from 1.
    pub line: usize,
    /// The command, which may have several lines.
    pub command: String,
    /// What it prints, line by line.
    pub output: Vec<String>,
}

/// Returns the session in a page of Markdown.
#[must_use]
pub fn session(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_inside = false;
    for (index, line) in page.lines().enumerate() {
        let fence = line.strip_prefix("```");
        if let Some(language) = fence {
            is_inside = !is_inside && language == "console";
        } else if !is_inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                line: index + 1,
                command: command.to_owned(),
                output: Vec::new(),
            });
        } else {
            let step = steps.last_mut().expect("a block begins with a command");
            match line.strip_prefix("> ") {
                Some(more) if step.output.is_empty() => {
                    step.command += "\n";
                    step.command += more;
                }
                _ => step.output.push(line.to_owned()),
            }
        }
    }
    steps
}

/// Runs the commands in one shell, whose escherctl uses `daemon`, and returns the lines that each has printed.
#[must_use]
pub fn run(steps: &[Step], daemon: &Daemon) -> Vec<Vec<String>> {
    let mut script = String::new();
    for step in steps {
        // The status stays that of the command, for a next one that asks for it.
        let _ = writeln!(
            script,
            "{{ {}\n}} 2>&1 </dev/null; s=$?; printf '{SEPARATOR}'; (exit $s)",
            step.command
        );
    }
    let mut path = escherctl()
        .parent()
        .expect("a directory")
        .as_os_str()
        .to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script])
        .env("PATH", path)
        .env("ESCHER_SOCKET", daemon.home().socket())
        .env("LC_ALL", "C.UTF-8")
        .current_dir(daemon.home().work())
        .stdin(Stdio::null());
    let ended = RunningProgram::spawn(shell, DEADLINE).wait();
    let mut outputs: Vec<Vec<String>> = ended
        .out()
        .split(SEPARATOR)
        .map(|output| output.lines().map(str::to_owned).collect())
        .collect();
    assert_eq!(outputs.pop(), Some(Vec::new()), "after the last: {ended:?}");
    assert_eq!(outputs.len(), steps.len(), "{ended:?}");
    outputs
}

/// Returns whether `lines` are as `pattern` says.
#[must_use]
pub fn matches(pattern: &[String], lines: &[String]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first.trim() == ELLIPSIS => {
            (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines.split_first().is_some_and(|(line, others)| {
            line_matches(first.trim_end(), line.trim_end()) && matches(rest, others)
        }),
    }
}

/// Returns whether a line is as `pattern` says.
fn line_matches(pattern: &str, line: &str) -> bool {
    let Some((head, rest)) = pattern.split_once(ELLIPSIS) else {
        return pattern == line;
    };
    let Some(line) = line.strip_prefix(head) else {
        return false;
    };
    let ends = line.char_indices().map(|(index, _)| index);
    let mut ends = ends.chain([line.len()]);
    ends.any(|end| line_matches(rest, &line[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_session_is_what_stands_in_blocks_for_the_console() {
        let page = "Text\n```console\n$ one \\\n> two\nout\n> no command\n$ three\n```\n\
                    ```sh\n$ not this\n```\n```console\n$ four\n\nout\n```\n";
        let step = |line, command: &str, output: &[&str]| Step {
            line,
            command: command.to_owned(),
            output: output.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(
            session(page),
            [
                step(3, "one \\\ntwo", &["out", "> no command"]),
                step(7, "three", &[]),
                step(13, "four", &["", "out"]),
            ]
        );
    }

    #[test]
    fn an_ellipsis_stands_for_any_text_and_any_lines() {
        for (pattern, text, expected) in [
            ("a\nb", "a\nb", true),
            ("a", "a\nb", false),
            ("a\nb", "a", false),
            ("a…c", "abc", true),
            ("a…c", "ac", true),
            ("a…c…", "a ccx", true),
            ("a…c", "abcd", false),
            ("…\nb", "b", true),
            ("a\n…\nb", "a\nx\ny\nb", true),
            ("a\n…", "b\nx", false),
            ("…", "", true),
            ("a  ", "a", true),
        ] {
            assert_eq!(
                matches(&lines(pattern), &lines(text)),
                expected,
                "{pattern:?} {text:?}"
            );
        }
    }
}
