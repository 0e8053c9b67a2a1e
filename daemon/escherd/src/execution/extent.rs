//! How much of a submission is in memory.
//!
//! Arguments and environment may have megabytes, and only a launch needs all of them. So a large request is in the
//! store alone while its execution waits.

use escher_protocol::execution::LISTED_COMMAND_BYTES;
use escher_protocol::{Blob, Command, ExecutionRequest};

use super::Submission;
use super::record::shorten;

/// Memory that the arguments and the environment of a waiting execution may take. It is enough for the environment of
/// most shells: reading a small request costs more than keeping it.
const MAX_KEPT_BYTES: usize = 8 * 1024;

/// How much of a submission is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// All except the environment and, if the command is cut as lists have it, the end of the command.
    Shortened {
        /// Whether it is.
        command_cut: bool,
    },
}

impl Extent {
    /// Returns whether the end of the command is missing.
    pub(crate) fn is_command_cut(self) -> bool {
        self == Extent::Shortened { command_cut: true }
    }
}

impl Submission {
    /// Drops what only the store has to keep, if that takes much memory.
    pub fn shorten_if_large(&mut self) -> Extent {
        if memory_of_texts(&self.request) <= MAX_KEPT_BYTES {
            return Extent::Whole;
        }
        let request = &mut self.request;
        request.inherited = Vec::new();
        request.environment = Vec::new();
        let (command, command_cut) = shorten(&request.command, LISTED_COMMAND_BYTES);
        if command_cut {
            request.command = command;
        }
        Extent::Shortened { command_cut }
    }
}

/// Returns about how much memory the arguments and the environment of a request take.
fn memory_of_texts(request: &ExecutionRequest) -> usize {
    let one = |text: &Blob| size_of::<Blob>() + text.len();
    let command: usize = match &request.command {
        Command::Exec { argv } => argv.iter().map(one).sum(),
        command => command.to_argv().iter().map(one).sum(),
    };
    let variables = request.inherited.iter().chain(&request.environment);
    let environment: usize = variables.map(|(name, value)| one(name) + one(value)).sum();
    command + environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::sample;

    fn with(argument: usize, variable: usize) -> Submission {
        let request = ExecutionRequest {
            command: Command::Exec {
                argv: vec![vec![b'a'; argument].into()],
            },
            environment: vec![(Blob::default(), vec![b'e'; variable].into())],
            ..ExecutionRequest::default()
        };
        sample::submission(1, request)
    }

    #[test]
    fn what_is_large_is_shortened_and_what_is_small_stays_whole() {
        let overhead = memory_of_texts(&with(0, 0).request);
        let most = MAX_KEPT_BYTES - overhead;
        for (argument, variable, expected) in [
            (1, 1, Extent::Whole),
            (most, 0, Extent::Whole),
            (1, most - 1, Extent::Whole),
            (most + 1, 0, Extent::Shortened { command_cut: true }),
            (1, most, Extent::Shortened { command_cut: false }),
            (most, most, Extent::Shortened { command_cut: true }),
        ] {
            let whole = with(argument, variable);
            let mut kept = whole.clone();
            assert_eq!(kept.shorten_if_large(), expected, "{argument}, {variable}");
            if expected == Extent::Whole {
                assert_eq!(kept, whole);
            } else {
                assert!(memory_of_texts(&kept.request) <= MAX_KEPT_BYTES);
                assert!(kept.request.environment.is_empty());
                assert_eq!(
                    kept.request.command,
                    shorten(&whole.request.command, LISTED_COMMAND_BYTES).0
                );
            }
        }
    }
}
