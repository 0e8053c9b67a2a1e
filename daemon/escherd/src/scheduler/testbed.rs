//! A scheduler without surroundings, for tests: a store that commits at once, and no shims.

use escher_launcher::ipc::wire::LogLimits;
use escher_protocol::{ApiError, Command, ExecutionRequest, ResourceLimits, Timestamp};

use super::{Effect, Scheduler, SchedulerSettings};
use crate::authz::SubmitPermit;
use crate::config::Percent;
use crate::execution::RequestLimits;
use crate::store::{Change, CommitOutcome, Durability};

/// Returns settings under which one execution runs at a time.
pub(crate) fn settings(max_in_memory: usize) -> SchedulerSettings {
    SchedulerSettings {
        request: RequestLimits {
            default_timeout_ms: 0,
            max_timeout_ms: 0,
            kill_grace_ms: 0,
            max_kill_grace_ms: 60_000,
            drain_ms: 0,
            max_drain_ms: 60_000,
        },
        max_concurrent: 1,
        root_slots: 0,
        max_pending: 100,
        max_pending_bytes: u64::MAX,
        user_limits: ResourceLimits::default(),
        max_left: 0,
        queue_share: None,
        max_in_memory,
        max_launch_attempts: 3,
        log_dir: "/logs".into(),
        log_limits: LogLimits::default(),
        log_share: Percent::ALL,
        output_limit: None,
        durability: Durability::Crash,
    }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// Commits all changes, and returns the other effects.
pub(super) fn commit(scheduler: &mut Scheduler, now: Timestamp) -> Vec<Effect> {
    let mut others = Vec::new();
    loop {
        let mut outcomes = Vec::new();
        for effect in scheduler.take_effects() {
            match effect {
                Effect::Commit(entry) => {
                    // There is no store to read from.
                    assert!(!matches!(
                        entry.change,
                        Change::Admitted {
                            reads_submission: true,
                            ..
                        }
                    ));
                    outcomes.push((entry.ticket, CommitOutcome::Committed));
                }
                other => others.push(other),
            }
        }
        if outcomes.is_empty() {
            return others;
        }
        scheduler.on_commits(outcomes, now);
    }
}

/// Submits an execution, commits it, and returns its number.
pub(super) fn submit(
    scheduler: &mut Scheduler,
    limits: ResourceLimits,
    key: Option<&str>,
) -> Result<u64, ApiError> {
    let request = ExecutionRequest {
        key: key.map(Into::into),
        command: Command::Exec {
            argv: vec!["true".into()],
        },
        limits,
        ..ExecutionRequest::default()
    };
    let permit = SubmitPermit::for_root();
    let mut answer = scheduler.submit(permit, Box::new(request), at(0))?;
    commit(scheduler, at(0));
    answer.try_recv().unwrap().map(|submitted| submitted.number)
}

/// Submits an execution for a user, and commits it. Returns its number and the other effects.
pub(super) fn submit_as(
    scheduler: &mut Scheduler,
    uid: u32,
) -> Result<(u64, Vec<Effect>), ApiError> {
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: vec!["true".into()],
        },
        ..ExecutionRequest::default()
    };
    let permit = SubmitPermit::for_uid(uid);
    let mut answer = scheduler.submit(permit, Box::new(request), at(0))?;
    let effects = commit(scheduler, at(0));
    let submitted = answer.try_recv().unwrap()?;
    Ok((submitted.number, effects))
}
