//! Tests of commits: delayed ones, and requests that wait in the store.

use super::*;
use crate::authz::{Scope, SubmitPermit};
use crate::execution::{Extent, sample};
use crate::scheduler::testbed::{at, commit, settings, submit};
use crate::scheduler::{RecoveredState, SchedulerSettings};
use crate::store::{LoadedState, UnfinishedExecution};
use escher_launcher::ipc::wire::FromShim;
use escher_protocol::{CancelMode, Command, ExecutionId, ExecutionRequest, ResourceLimits, Status};
use std::collections::HashSet;
use tokio::sync::oneshot::error::TryRecvError;

type PendingAnswer = oneshot::Receiver<Result<CancelAnswer, ApiError>>;

/// Returns a scheduler with an execution that a shim of an earlier escherd has, which has not reported itself, and
/// the number and id of the execution.
fn with_silent_shim() -> (Scheduler, u64, ExecutionId) {
    let submission = sample::submission(1, ExecutionRequest::default());
    let id = submission.id;
    let unfinished = UnfinishedExecution {
        submission,
        extent: Extent::Whole,
        request_bytes: 0,
        digest: None,
        is_admitted: true,
        launch_attempts: 1,
        started: None,
        cancel: None,
    };
    let recovered = RecoveredState {
        loaded: LoadedState {
            last_number: 1,
            unfinished: vec![unfinished],
            ..LoadedState::default()
        },
        silent: HashSet::from([id]),
        ..RecoveredState::default()
    };
    (Scheduler::restore(settings(10), recovered, at(1)), 1, id)
}

fn cancel(scheduler: &mut Scheduler, number: u64) -> PendingAnswer {
    scheduler.cancel(&Scope::for_root(), number, CancelMode::Graceful, at(1))
}

/// Has the store delay the only change, and returns the ticket of that.
fn delay_commit(scheduler: &mut Scheduler) -> u64 {
    let effects = scheduler.take_effects();
    let [Effect::Commit(entry)] = &*effects else {
        panic!("{effects:?}");
    };
    scheduler.on_commits(vec![(entry.ticket, CommitOutcome::Delayed)], at(1));
    entry.ticket
}

#[test]
fn a_delayed_cancel_is_not_answered_while_no_shim_has_it() {
    let (mut scheduler, number, _) = with_silent_shim();
    let mut answer = cancel(&mut scheduler, number);
    let ticket = delay_commit(&mut scheduler);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
    scheduler.on_commits(vec![(ticket, CommitOutcome::Committed)], at(2));
    assert_eq!(answer.try_recv(), Ok(Ok(CancelAnswer::Ending)));
}

#[test]
fn a_delayed_cancel_is_answered_when_a_shim_gets_it() {
    let (mut scheduler, number, id) = with_silent_shim();
    let mut answer = cancel(&mut scheduler, number);
    delay_commit(&mut scheduler);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
    let started = FromShim::Started { pid: 7, at: at(3) };
    scheduler.on_shim_message(id, started, at(3));
    assert_eq!(answer.try_recv(), Ok(Ok(CancelAnswer::Ending)));
}

#[test]
fn a_repeated_cancel_is_not_answered_before_the_first_is_safe() {
    let (mut scheduler, number, _) = with_silent_shim();
    let mut answers = [
        cancel(&mut scheduler, number),
        cancel(&mut scheduler, number),
    ];
    for answer in &mut answers {
        assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
    }
    commit(&mut scheduler, at(2));
    let expected = [CancelAnswer::Ending, CancelAnswer::AlreadyEnding];
    for (mut answer, expected) in answers.into_iter().zip(expected) {
        assert_eq!(answer.try_recv(), Ok(Ok(expected)));
    }
}

#[test]
fn a_delayed_withdrawal_is_answered_with_what_is_sure() {
    let mut scheduler = Scheduler::new(settings(10));
    let number = submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
    let id = scheduler.entries[&number].execution.submission.id;
    let mut answer = cancel(&mut scheduler, number);
    commit(&mut scheduler, at(1));
    scheduler.on_withdrawal(id, true, at(1));
    delay_commit(&mut scheduler);
    let error = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::STORE_UNAVAILABLE);
    assert!(
        error.message.contains("will not start, unless escherd"),
        "{error}"
    );
}

/// Submits a large request, which waits, and commits it. Returns its number.
fn submit_large(scheduler: &mut Scheduler) -> u64 {
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: vec!["true".into()],
        },
        environment: vec![("X".into(), vec![b'x'; 100_000].into())],
        ..ExecutionRequest::default()
    };
    let permit = SubmitPermit::for_root();
    let answer = scheduler.submit(permit, Box::new(request), at(0));
    commit(scheduler, at(0));
    let submitted = answer.unwrap().try_recv().unwrap();
    submitted.unwrap().number
}

/// Returns the ticket of the only effect, an admission whose submission is read.
fn admission(scheduler: &mut Scheduler) -> u64 {
    let effects = scheduler.take_effects();
    let [Effect::Commit(entry)] = &*effects else {
        panic!("{effects:?}");
    };
    let reads =
        |change| matches!(change, &Change::Admitted { reads_submission, .. } if reads_submission);
    assert!(reads(&entry.change), "{entry:?}");
    entry.ticket
}

/// Returns a scheduler with a running execution, and behind it one with a large request and one with a small.
fn with_large() -> (Scheduler, u64) {
    let mut scheduler = Scheduler::new(settings(10));
    submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
    let large = submit_large(&mut scheduler);
    submit(&mut scheduler, ResourceLimits::default(), None).unwrap();
    (scheduler, large)
}

fn raise_slots(scheduler: &mut Scheduler) {
    scheduler.configure(SchedulerSettings {
        max_concurrent: 2,
        ..settings(10)
    });
}

#[test]
fn a_large_request_waits_in_the_store_and_is_launched_whole() {
    let (mut scheduler, large) = with_large();
    let submission = &scheduler.entries[&large].execution.submission;
    assert!(submission.request.environment.is_empty());
    let quota = scheduler.quota(submission.submitter.clone());
    assert!(
        quota.pending_bytes > 100_000,
        "what waits on the disk counts"
    );
    let mut whole = submission.clone();
    whole.request.environment = vec![("X".into(), "whole".into())];
    raise_slots(&mut scheduler);
    let read = CommitOutcome::Admitted(Some(Box::new(whole)));
    let ticket = admission(&mut scheduler);
    scheduler.on_commits(vec![(ticket, read)], at(1));
    let effects = scheduler.take_effects();
    let [Effect::Launch(assignment)] = &*effects else {
        panic!("{effects:?}");
    };
    let variable = "X=whole".into();
    assert!(assignment.spec.environment.contains(&variable));
}

#[test]
fn an_execution_whose_request_cannot_be_read_fails_and_the_next_has_its_slot() {
    for is_cancelled in [false, true] {
        let (mut scheduler, large) = with_large();
        raise_slots(&mut scheduler);
        let ticket = admission(&mut scheduler);
        let _answer = is_cancelled.then(|| cancel(&mut scheduler, large));
        let unreadable = CommitOutcome::Admitted(None);
        scheduler.on_commits(vec![(ticket, unreadable)], at(1));
        let effects = commit(&mut scheduler, at(1));
        assert!(matches!(&*effects, [Effect::Launch(_)]), "{effects:?}");
        let record = scheduler.status(large).try_recv().unwrap();
        let error = record.outcome.unwrap().error.unwrap();
        let (status, code) = if is_cancelled {
            (Status::Cancelled, ErrorCode::CANCELLED)
        } else {
            (Status::Failed, ErrorCode::INTERNAL)
        };
        assert_eq!((record.status, error.code), (status, code));
    }
}
