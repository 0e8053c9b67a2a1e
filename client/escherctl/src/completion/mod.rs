//! Completions for shells.
//!
//! A shell with one of the [`SCRIPTS`] runs `ESCHER_COMPLETE=SHELL escherctl -- WORD…` with the
//! words up to the cursor and reads the candidates from standard output. Without words it gets the
//! script. `command_line` parses the words, `candidates` knows the values of options, `executions`
//! asks escherd, and `shell` has what differs between shells.

mod candidates;
mod command_line;
mod executions;
mod shell;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap_complete::engine::{CompletionCandidate, complete};

use crate::args::definition;
use crate::context::print_notice;
use crate::exit_status::{ExitMapping, for_usage_error};
use crate::render;
use command_line::CommandLine;
use shell::Shell;

pub use shell::SCRIPTS;

/// The variable in which a shell passes its name.
const VARIABLE: &str = "ESCHER_COMPLETE";

/// The exit status where the cursor is in the command to run, whose completion is not escherctl's. The answer is how many
/// words come before it.
const IN_COMMAND: u8 = 3;

/// Prints candidates or a script if a shell has called escherctl for completion.
pub(super) fn respond(arguments: &[OsString]) -> Option<ExitCode> {
    let name = std::env::var_os(VARIABLE).filter(|name| !name.is_empty())?;
    let Some((shell, script)) = Shell::by_name(&name) else {
        let names = SCRIPTS.map(|(name, _)| name).join(", ");
        print_notice(&format!(
            "{VARIABLE}={}: unknown shell; expected one of {names}",
            name.to_string_lossy()
        ));
        return Some(ExitCode::from(for_usage_error(ExitMapping::Verb)));
    };
    let output = match arguments.get(1..).unwrap_or_default() {
        [] => script.to_owned(),
        [_separator, words @ ..] => {
            let line = CommandLine::parse(shell.rejoin_words(words));
            if let Some(command) = line.command() {
                let offset = shell.offset_of_word(words, command);
                let _ = render::print(&format!("{offset}\n"));
                return Some(ExitCode::from(IN_COMMAND));
            }
            candidates_at_cursor(shell, &line).unwrap_or_default()
        }
    };
    // A shell that has closed the pipe needs no candidates.
    let _ = render::print(&output);
    Some(ExitCode::SUCCESS)
}

/// Returns the candidates for the word at the cursor, as the shell reads them.
fn candidates_at_cursor(shell: Shell, line: &CommandLine) -> io::Result<String> {
    let mut command = candidates::add_candidates(definition(), line);
    let last = line.words().len().saturating_sub(1);
    let directory = std::env::current_dir().ok();
    let found = complete(
        &mut command,
        line.words().to_vec(),
        last,
        directory.as_deref(),
    )?;
    // Options are offered only once a dash is typed, unless there is nothing else to offer.
    let is_option =
        |found: &CompletionCandidate| found.get_value().as_encoded_bytes().starts_with(b"-");
    let hides_options = line.at_cursor().is_empty() && !found.iter().all(is_option);
    Ok(found
        .iter()
        .filter(|candidate| !(hides_options && is_option(candidate)))
        .filter_map(|candidate| shell.candidate_line(candidate, line.at_cursor()))
        .collect())
}
