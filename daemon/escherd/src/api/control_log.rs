//! Entries in the log for what callers do to running commands. Cancels are not among them: they are
//! events, which are logged as such.

use escher_protocol::SignalRecipients;
use nix::sys::signal::Signal;
use tracing::info;

use super::ExecutionEngine;
use crate::execution::shown_command;
use crate::message_ids::CONTROLLED;

/// What a caller has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlAction {
    Pause,
    Resume,
    Signal {
        signal: i32,
        recipients: SignalRecipients,
    },
}

impl ControlAction {
    /// Returns the action as the predicate of a sentence about the execution `of`.
    fn describe(self, of: &str) -> String {
        match self {
            ControlAction::Pause => format!("has paused {of}"),
            ControlAction::Resume => format!("has resumed {of}"),
            ControlAction::Signal { signal, recipients } => {
                let name = match Signal::try_from(signal) {
                    Ok(signal) => signal.as_str().to_owned(),
                    Err(_) => format!("signal {signal}"),
                };
                let whom = match recipients {
                    SignalRecipients::MainProcess => "",
                    SignalRecipients::ProcessGroup => "the process group of ",
                    SignalRecipients::Tree => "all processes of ",
                };
                format!("has sent {name} to {whom}{of}")
            }
        }
    }
}

impl ExecutionEngine {
    /// Logs what the caller has done to the execution `number`, and who it is.
    pub(super) async fn log_control(&self, number: u64, action: ControlAction) {
        // An execution that was removed meanwhile has no record any more.
        let Ok(record) = self.get_status(number.to_string().as_str()).await else {
            return;
        };
        let command = shown_command(&record.command);
        let user = record.user.to_string();
        let of = format!("execution {number} of {user}");
        info!(
            MESSAGE_ID = CONTROLLED,
            ESCHER_EXECUTION_ID = record.id.to_string(),
            ESCHER_EXECUTION_NUMBER = number,
            ESCHER_USER = user,
            ESCHER_COMMAND = command,
            ESCHER_STATUS = record.status.name(),
            "{} {}: {command}",
            self.scope.caller(),
            action.describe(&of)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_the_predicate_of_a_sentence() {
        use SignalRecipients::{MainProcess, ProcessGroup, Tree};
        let signal = |signal, recipients| ControlAction::Signal { signal, recipients };
        for (action, expected) in [
            (ControlAction::Pause, "has paused it"),
            (ControlAction::Resume, "has resumed it"),
            (signal(10, MainProcess), "has sent SIGUSR1 to it"),
            (
                signal(2, ProcessGroup),
                "has sent SIGINT to the process group of it",
            ),
            (signal(15, Tree), "has sent SIGTERM to all processes of it"),
            (signal(40, MainProcess), "has sent signal 40 to it"),
        ] {
            assert_eq!(action.describe("it"), expected);
        }
    }
}
