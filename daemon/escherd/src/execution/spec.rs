//! The assignment of an execution to a shim.

use escher_launcher::ipc::wire::{
    Assignment, FIRST_ATTEMPT, LaunchSpec, LogLimits, MAX_SUBMISSION_BACKUP_BYTES,
};
use escher_protocol::codec::{self, CodecError};
use escher_protocol::{Blob, Parts, StdinMode};

use super::Submission;
use super::arguments::environment;

/// Creates the assignment for `submission`.
#[must_use]
pub fn assignment(
    submission: &Submission,
    log_limits: LogLimits,
    output_limit: Option<u64>,
) -> Assignment {
    Assignment {
        spec: launch_spec(submission),
        submission_backup: submission_backup(submission),
        log_limits,
        output_limit,
        limits: submission.request.limits,
        parts: Parts::new(),
    }
}

/// Encodes the backup of a submission that its shim keeps, in case the store is lost: without the environment,
/// which may be secret, and with a shortened command if it is too long.
fn submission_backup(submission: &Submission) -> Blob {
    let mut known = submission.clone();
    known.request.environment = Vec::new();
    let bytes = codec::encode(&known).unwrap_or_default();
    if bytes.len() <= MAX_SUBMISSION_BACKUP_BYTES {
        return bytes.into();
    }
    known.request.command = super::record::shorten(&known.request.command).0;
    let bytes = codec::encode(&known).unwrap_or_default();
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

/// Creates the launch of `submission`.
fn launch_spec(submission: &Submission) -> LaunchSpec {
    let Submission {
        request,
        checked,
        account,
        ..
    } = submission;
    let home = account.home.clone();
    LaunchSpec {
        id: submission.id,
        attempt: FIRST_ATTEMPT,
        argv: request.command.to_argv(),
        environment: environment(&request.environment, account, submission.id),
        working_dir: request.working_dir.clone().unwrap_or(home),
        falls_back_to_root_dir: request.working_dir.is_none(),
        identity: account.identity.clone(),
        stdin: request.stdin == StdinMode::Stream,
        timeout_ms: checked.timeout_ms,
        kill_grace_ms: checked.kill_grace_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Account;
    use crate::execution::Checked;
    use escher_protocol::{
        Command, ExecutionId, ExecutionRequest, Part, ResourceLimits, Timestamp, User,
    };

    fn submission() -> Submission {
        let user = User { uid: 1, name: None };
        Submission {
            id: ExecutionId::from_bytes([1; 16]),
            number: 1,
            request: Box::new(ExecutionRequest {
                command: Command::Exec {
                    argv: vec!["true".into()],
                },
                limits: ResourceLimits {
                    memory_max: Some(1 << 20),
                    cpu_quota: None,
                    tasks_max: Some(7),
                },
                parts: vec![Part::new(2, "x")].try_into().unwrap(),
                ..ExecutionRequest::default()
            }),
            checked: Checked {
                timeout_ms: None,
                kill_grace_ms: 1,
            },
            submitter: user.clone(),
            account: Account {
                user,
                home: "/".into(),
                shell: "/bin/sh".into(),
                identity: None,
            },
            submitted_at: Timestamp::from_micros(1),
            log_path: "/log".into(),
        }
    }

    #[test]
    fn a_backup_has_the_limits_and_parts_of_the_request() {
        let submission = submission();
        assert_eq!(
            decode_submission_backup(&submission_backup(&submission)),
            Ok(submission)
        );
        assert!(decode_submission_backup(b"").is_err());
    }
}
