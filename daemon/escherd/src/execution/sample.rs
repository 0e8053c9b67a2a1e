//! A submission for tests.

use escher_protocol::{ExecutionId, ExecutionRequest, Timestamp, User};

use super::{Submission, Timeouts};
use crate::authz::Account;

/// Returns a submission of `request` by alice, that runs as her.
pub(crate) fn submission(number: u64, request: ExecutionRequest) -> Submission {
    let alice = User {
        uid: 1001,
        name: Some("alice".into()),
    };
    Submission {
        id: ExecutionId::from_bytes([1; 16]),
        number,
        request: Box::new(request),
        timeouts: Timeouts {
            timeout_ms: Some(1000),
            kill_grace_ms: 10,
            drain_ms: 20,
        },
        submitter: alice.clone(),
        account: Account {
            user: alice,
            home: "/home/alice".into(),
            shell: "/bin/sh".into(),
            identity: None,
        },
        submitted_at: Timestamp::from_micros(1),
        log_path: "/nowhere/sample.log".into(),
        lacks_inherited: false,
    }
}
