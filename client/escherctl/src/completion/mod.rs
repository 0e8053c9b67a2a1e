//! What could stand at the cursor of a shell's command line.
//!
//! A shell with one of the [`SCRIPTS`] runs `ESCHER_COMPLETE=SHELL escherctl -- WORD…` with the words up to the
//! cursor; without words it gets the script. `words` reads the line as escherctl would, `candidates` says what
//! stands for each value, `executions` asks escherd for what it has at the moment, `shell` is what differs between shells.

mod candidates;
mod executions;
mod shell;
mod words;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap_complete::engine::{CompletionCandidate, complete};

use self::shell::Shell;
use self::words::Line;
use super::exit_status::{conduct_of, of_usage};
use super::{render, say};

/// The variable that names the shell that asks.
const VARIABLE: &str = "ESCHER_COMPLETE";

/// What makes a shell ask: its name, and what it has to read.
pub const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("escherctl.bash")),
    ("zsh", include_str!("escherctl.zsh")),
    ("fish", include_str!("escherctl.fish")),
];

/// Answers, if it is a shell that asks.
pub(super) fn answer(arguments: &[OsString]) -> Option<ExitCode> {
    let name = std::env::var_os(VARIABLE).filter(|name| !name.is_empty())?;
    let Some((shell, script)) = Shell::named(&name) else {
        let names = SCRIPTS.map(|(name, _)| name).join(", ");
        let name = name.to_string_lossy();
        say(&format!(
            "{VARIABLE}={name}: there are completions for {names}"
        ));
        return Some(ExitCode::from(of_usage(conduct_of(""))));
    };
    let answer = match arguments.get(1..).unwrap_or_default() {
        [] => script.to_owned(),
        [_separator, words @ ..] => candidates_at(shell, words).unwrap_or_default(),
    };
    // A shell that does not listen any more misses nothing.
    let _ = render::print(&answer);
    Some(ExitCode::SUCCESS)
}

/// The candidates for the last of these words, as the shell reads them.
fn candidates_at(shell: Shell, words: &[OsString]) -> io::Result<String> {
    let line = Line::read(shell.join(words));
    let mut command = candidates::offer(super::command(), &line);
    let last = line.words().len().saturating_sub(1);
    let directory = std::env::current_dir().ok();
    let found = complete(
        &mut command,
        line.words().to_vec(),
        last,
        directory.as_deref(),
    )?;
    // Where nothing was begun, options would only bury what a verb is about.
    let is_option =
        |found: &CompletionCandidate| found.get_value().as_encoded_bytes().starts_with(b"-");
    let hides_options = line.at_cursor().is_empty() && !found.iter().all(is_option);
    Ok(found
        .iter()
        .filter(|candidate| !(hides_options && is_option(candidate)))
        .filter_map(|candidate| shell.show(candidate, line.at_cursor()))
        .collect())
}
