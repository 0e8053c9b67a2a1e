//! Every request, through the checks that it meets before anything is done.
#![no_main]

use std::sync::LazyLock;

use escher_protocol::{ExecutionRequest, Request, User};
use escherd::authz::Account;
use escherd::execution::{
    RequestLimits, check_arguments, check_request, check_selection, check_target,
};
use libfuzzer_sys::fuzz_target;

static ACCOUNT: LazyLock<Account> = LazyLock::new(|| Account {
    user: User {
        uid: 1000,
        name: Some("alice".into()),
    },
    home: "/home/alice".into(),
    shell: "/bin/sh".into(),
    identity: None,
});

const LIMITS: RequestLimits = RequestLimits {
    default_timeout_ms: 120_000,
    max_timeout_ms: 600_000,
    kill_grace_ms: 10_000,
    max_kill_grace_ms: 60_000,
    drain_ms: 2_000,
    max_drain_ms: 60_000,
};

fn check_submission(request: &ExecutionRequest) {
    if let Ok(timeouts) = check_request(request, &LIMITS) {
        assert!(
            timeouts
                .timeout_ms
                .is_some_and(|ms| (1..=LIMITS.max_timeout_ms).contains(&ms))
        );
        assert!(timeouts.kill_grace_ms <= LIMITS.max_kill_grace_ms);
        assert!(timeouts.drain_ms <= LIMITS.max_drain_ms);
        let _ = check_arguments(request, &ACCOUNT);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(request) = escher_fuzz::decode::<Request>(bytes) else {
        return;
    };
    match request {
        Request::Submit(request) => check_submission(&request),
        Request::List(selection) | Request::Prune { selection, .. } => {
            drop(check_selection(&selection));
        }
        Request::Status(target) | Request::Wait(target) | Request::Result(target) => {
            drop(check_target(&target));
        }
        _ => {}
    }
});
