//! The assignment of an execution to a shim.

use escher_launcher::ipc::wire::{
    Assignment, FIRST_ATTEMPT, LaunchSpec, LogLimits, MAX_SUBMISSION_BACKUP_BYTES,
};
use escher_protocol::codec::{self, CodecError};
use escher_protocol::execution::LISTED_COMMAND_BYTES;
use escher_protocol::{Blob, KillMode, Parts, ResourceLimits, StdinMode};

use super::Submission;
use super::arguments::environment;

/// The umask of a command whose request sets none.
const DEFAULT_UMASK: u32 = 0o022;

/// Creates the assignment for `submission`. `user_limits` are those of everything that its submitter runs, and so
/// many of its executions may have left processes (`max_left`).
#[must_use]
pub fn assignment(
    submission: &Submission,
    log_limits: LogLimits,
    log_budget: u64,
    output_limit: Option<u64>,
    user_limits: ResourceLimits,
    max_left: u32,
) -> Assignment {
    Assignment {
        spec: launch_spec(submission, max_left),
        submission_backup: submission_backup(submission),
        log_limits,
        log_budget,
        output_limit,
        limits: submission.request.limits,
        user_limits,
        parts: Parts::new(),
    }
}

/// Returns the PATH in which the program of `assignment` is looked up; `None` if it is a path itself.
#[must_use]
pub fn search_path(assignment: &Assignment) -> Option<Blob> {
    let program = assignment.spec.argv.first()?;
    let path = |variable: &Blob| variable.strip_prefix(b"PATH=").map(Blob::from);
    let variables = &mut assignment.spec.environment.iter();
    variables
        .find_map(path)
        .filter(|_| !program.contains(&b'/'))
}

/// Encodes the backup of a submission that its shim keeps, in case the store is lost: without the environment,
/// which may be secret, and with a shortened command if it is too long.
fn submission_backup(submission: &Submission) -> Blob {
    let mut backup = submission.clone();
    backup.request.inherited = Vec::new();
    backup.request.environment = Vec::new();
    let bytes = codec::encode(&backup).unwrap_or_default();
    if bytes.len() <= MAX_SUBMISSION_BACKUP_BYTES {
        return bytes.into();
    }
    backup.request.command =
        super::record::shorten(&backup.request.command, LISTED_COMMAND_BYTES).0;
    let bytes = codec::encode(&backup).unwrap_or_default();
    if bytes.len() <= MAX_SUBMISSION_BACKUP_BYTES {
        bytes.into()
    } else {
        Blob::default()
    }
}

/// Decodes the backup of a submission.
///
/// # Errors
/// If it is empty, or of an unknown version.
pub fn decode_submission_backup(backup: &[u8]) -> Result<Submission, CodecError> {
    codec::decode(backup)
}

/// Creates the part of an assignment that says what to run, and as whom.
fn launch_spec(submission: &Submission, max_left: u32) -> LaunchSpec {
    let Submission {
        request,
        timeouts,
        account,
        ..
    } = submission;
    let home = account.home.clone();
    LaunchSpec {
        id: submission.id,
        attempt: FIRST_ATTEMPT,
        number: submission.number,
        submitter_uid: submission.submitter.uid,
        argv: request.command.to_argv(),
        environment: environment(request, account, submission.id),
        working_dir: request.working_dir.clone().unwrap_or(home),
        falls_back_to_root_dir: request.working_dir.is_none(),
        identity: account.identity.clone(),
        umask: request.umask.unwrap_or(DEFAULT_UMASK),
        process: request.process.clone(),
        merges_output: request.merges_output,
        stdin: request.stdin == StdinMode::Stream,
        timeout_ms: timeouts.timeout_ms,
        kill_grace_ms: timeouts.kill_grace_ms,
        drain_ms: timeouts.drain_ms,
        may_leave: (request.kill_mode == KillMode::Process).then_some(max_left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::sample;
    use escher_protocol::{Command, ExecutionRequest, Part, ProcessLimits, ResourceLimits};

    #[test]
    fn a_backup_has_the_limits_and_parts_of_the_request() {
        let submission = sample::submission(
            1,
            ExecutionRequest {
                command: Command::Exec {
                    argv: vec!["true".into()],
                },
                limits: ResourceLimits {
                    memory_max: Some(1 << 20),
                    tasks_max: Some(7),
                    ..ResourceLimits::default()
                },
                process: ProcessLimits {
                    nice: Some(7),
                    ..ProcessLimits::default()
                },
                parts: vec![Part::new(2, "x")].try_into().unwrap(),
                ..ExecutionRequest::default()
            },
        );
        assert_eq!(
            decode_submission_backup(&submission_backup(&submission)),
            Ok(submission)
        );
        assert!(decode_submission_backup(b"").is_err());
    }

    #[test]
    fn a_backup_has_no_environment_and_a_shorter_command_if_it_is_too_long() {
        let with_argument = |bytes: usize| {
            let argument = "x".repeat(bytes);
            sample::submission(
                1,
                ExecutionRequest {
                    command: Command::Exec {
                        argv: vec!["true".into(), Blob::from(&*argument)],
                    },
                    environment: vec![("SECRET".into(), "s3cr3t".into())],
                    inherited: vec![("TOKEN".into(), "t0k3n".into())],
                    ..ExecutionRequest::default()
                },
            )
        };
        let encoded = submission_backup(&with_argument(0)).len();
        // The length of an argument over 251 bytes takes two bytes more (bincode's variable integers).
        let longest = MAX_SUBMISSION_BACKUP_BYTES - encoded - 2;
        for (bytes, is_whole) in [(longest, true), (longest + 1, false)] {
            let submission = with_argument(bytes);
            let encoded = submission_backup(&submission);
            assert!(encoded.len() <= MAX_SUBMISSION_BACKUP_BYTES);
            let backup = decode_submission_backup(&encoded).unwrap();
            let (command, expected) = (backup.request.command, submission.request.command);
            assert_eq!(command == expected, is_whole, "{bytes}");
            assert_eq!(backup.request.environment, []);
            assert_eq!(backup.request.inherited, []);
        }
    }

    #[test]
    fn a_program_without_a_slash_is_looked_up_in_the_path_of_its_environment() {
        let search_path = |program: &str, path: &str| {
            let request = ExecutionRequest {
                command: Command::Exec {
                    argv: vec![program.into(), "a/b".into()],
                },
                environment: vec![("PATH".into(), path.into())],
                ..ExecutionRequest::default()
            };
            let submission = sample::submission(1, request);
            let limits = ResourceLimits::default();
            super::search_path(&assignment(
                &submission,
                LogLimits::default(),
                0,
                None,
                limits,
                0,
            ))
        };
        assert_eq!(search_path("ls", "/a:/b"), Some("/a:/b".into()));
        assert_eq!(search_path("./ls", "/a:/b"), None);
    }

    #[test]
    fn what_a_request_leaves_open_is_decided_by_its_user() {
        let spec = |request| launch_spec(&sample::submission(1, request), 5);
        let open = spec(ExecutionRequest::default());
        assert_eq!(open.working_dir, Blob::from("/home/alice"));
        assert!(open.falls_back_to_root_dir);
        assert_eq!((open.may_leave, open.stdin), (None, false));
        let set = spec(ExecutionRequest {
            working_dir: Some("/srv".into()),
            kill_mode: KillMode::Process,
            stdin: StdinMode::Stream,
            ..ExecutionRequest::default()
        });
        assert_eq!(set.working_dir, Blob::from("/srv"));
        assert!(!set.falls_back_to_root_dir);
        assert_eq!((set.may_leave, set.stdin), (Some(5), true));
    }
}
