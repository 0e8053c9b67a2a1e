//! The error for a key that belongs to another request: it says in which fields the two differ.

use escher_protocol::{ApiError, ErrorCode, ExecutionRequest};

use crate::execution::{Execution, Extent};

/// Returns the error for `request`, whose key the execution `number` has. `known` is that execution,
/// if it is in memory.
pub(super) fn key_conflict(
    request: &ExecutionRequest,
    number: u64,
    known: Option<&Execution>,
) -> ApiError {
    let key = request.key.as_deref().unwrap_or_default();
    let mut message = format!("the key {key:?} belongs to another request, of execution {number}");
    let fields = known.map(|known| differing_fields(request, known));
    if let Some([others @ .., last]) = fields.as_deref() {
        let others = others.join(", ");
        message += &match (others.is_empty(), *last) {
            (true, "limits" | "labels") => format!(": the {last} differ"),
            (true, _) => format!(": the {last} differs"),
            (false, _) => format!(": {others} and {last} differ"),
        };
    }
    ApiError::new(ErrorCode::KEY_CONFLICT, message).with_hint("use a new key for a new request")
}

fn differing_fields(request: &ExecutionRequest, known: &Execution) -> Vec<&'static str> {
    let other = &known.submission.request;
    let is_whole = known.extent == Extent::Whole;
    let fields = [
        ("name", request.name != other.name),
        // What memory does not have of a large request cannot be compared.
        (
            "command",
            !known.extent.is_command_cut() && request.command != other.command,
        ),
        (
            "environment",
            is_whole && request.environment != other.environment,
        ),
        (
            "working directory",
            request.working_dir != other.working_dir,
        ),
        ("user", request.run_as != other.run_as),
        ("standard input", request.stdin != other.stdin),
        (
            "loss of standard input",
            request.stdin_lost != other.stdin_lost,
        ),
        (
            "merged output",
            request.merges_output != other.merges_output,
        ),
        ("timeout", request.timeout != other.timeout),
        ("grace period", request.kill_grace_ms != other.kill_grace_ms),
        ("drain", request.drain_ms != other.drain_ms),
        ("kill mode", request.kill_mode != other.kill_mode),
        (
            "limits",
            request.limits != other.limits || request.process != other.process,
        ),
        ("labels", request.labels != other.labels),
    ];
    let differing = fields.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(field, _)| field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::{State, sample};
    use escher_protocol::{Command, KillMode, OnStdinLost, RunAs, StdinMode, Timeout};

    fn message(request: &ExecutionRequest, extent: Extent) -> String {
        let submission = sample::submission(7, ExecutionRequest::default());
        let known = Execution {
            extent,
            ..Execution::in_state(submission, State::Queued)
        };
        key_conflict(request, 7, Some(&known)).message.to_string()
    }

    #[test]
    fn names_the_fields_that_differ() {
        let same = ExecutionRequest {
            key: Some("k".into()),
            ..*sample::submission(7, ExecutionRequest::default()).request
        };
        let prefix = "the key \"k\" belongs to another request, of execution 7";
        assert_eq!(message(&same, Extent::Whole), prefix);
        let none = key_conflict(&same, 7, None);
        assert_eq!(&*none.message, prefix);
        let mut request = same.clone();
        request.environment = vec![("A".into(), "b".into())];
        assert_eq!(
            message(&request, Extent::Whole),
            format!("{prefix}: the environment differs")
        );
        let shortened = Extent::Shortened { command_cut: true };
        assert_eq!(message(&request, shortened), prefix);
        request.command = Command::Exec {
            argv: vec!["other".into()],
        };
        request.labels = vec![("a".into(), "b".into())];
        assert_eq!(
            message(&request, Extent::Whole),
            format!("{prefix}: command, environment and labels differ")
        );
        assert_eq!(
            message(&request, shortened),
            format!("{prefix}: the labels differ")
        );
        let mut niced = same.clone();
        niced.process.nice = Some(1);
        let differ = format!("{prefix}: the limits differ");
        assert_eq!(message(&niced, Extent::Whole), differ);
        let request = ExecutionRequest {
            working_dir: Some("/other".into()),
            timeout: Timeout::Unlimited,
            stdin: StdinMode::Stream,
            ..same
        };
        assert_eq!(
            message(&request, Extent::Whole),
            format!("{prefix}: working directory, standard input and timeout differ")
        );
    }

    /// `--merge`, `--stdin-lost` and `-p KillMode` differed without a word.
    #[test]
    fn each_field_that_differs_is_named() {
        let same = ExecutionRequest {
            key: Some("k".into()),
            ..*sample::submission(7, ExecutionRequest::default()).request
        };
        let with = |change: fn(&mut ExecutionRequest)| {
            let mut request = same.clone();
            change(&mut request);
            request
        };
        for (request, field) in [
            (with(|it| it.name = Some("n".into())), "name differs"),
            (
                with(|it| {
                    it.command = Command::Exec {
                        argv: vec!["other".into()],
                    }
                }),
                "command differs",
            ),
            (
                with(|it| it.environment = vec![("A".into(), "b".into())]),
                "environment differs",
            ),
            (
                with(|it| it.working_dir = Some("/other".into())),
                "working directory differs",
            ),
            (with(|it| it.run_as = RunAs::Uid(4711)), "user differs"),
            (
                with(|it| it.stdin = StdinMode::Stream),
                "standard input differs",
            ),
            (
                with(|it| it.stdin_lost.then = OnStdinLost::End),
                "loss of standard input differs",
            ),
            (with(|it| it.merges_output = true), "merged output differs"),
            (
                with(|it| it.timeout = Timeout::Unlimited),
                "timeout differs",
            ),
            (
                with(|it| it.kill_grace_ms = Some(4711)),
                "grace period differs",
            ),
            (with(|it| it.drain_ms = Some(4711)), "drain differs"),
            (
                with(|it| it.kill_mode = KillMode::Process),
                "kill mode differs",
            ),
            (with(|it| it.limits.tasks_max = Some(4711)), "limits differ"),
            (
                with(|it| it.labels = vec![("a".into(), "b".into())]),
                "labels differ",
            ),
        ] {
            let message = message(&request, Extent::Whole);
            assert!(message.ends_with(&format!(": the {field}")), "{message}");
        }
    }
}
