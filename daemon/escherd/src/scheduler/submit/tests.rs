//! Tests of submissions: keys, limits, shares of users.

use super::*;
use crate::config::Percent;
use crate::scheduler::log_budgets::FIRST_BYTES;
use crate::scheduler::testbed::{at, commit, settings, submit, submit_as};
use crate::scheduler::{Effect, SchedulerSettings};
use escher_launcher::ipc::wire::{Abilities, ExitReport, FIRST_ATTEMPT, FromShim};
use escher_protocol::message::{EventFilter, EventKind};
use escher_protocol::{Controllers, Exit, Part, ResourceLimits, StartStage, Status};

const NONE: ResourceLimits = ResourceLimits {
    memory_max: None,
    memory_high: None,
    cpu_quota: None,
    cpu_weight: None,
    io_weight: None,
    tasks_max: None,
};
const FEW_TASKS: ResourceLimits = ResourceLimits {
    tasks_max: Some(5),
    ..NONE
};

fn scheduler() -> Scheduler {
    let mut scheduler = Scheduler::new(settings(10));
    scheduler.set_controllers(Some(Controllers {
        pids: true,
        ..Controllers::default()
    }));
    scheduler
}

#[test]
fn a_key_covers_the_limits_of_the_request() {
    let mut scheduler = scheduler();
    let number = submit(&mut scheduler, FEW_TASKS, Some("k"));
    assert_eq!(submit(&mut scheduler, FEW_TASKS, Some("k")), number);
    let error = submit(&mut scheduler, NONE, Some("k")).unwrap_err();
    assert_eq!(error.code, ErrorCode::KEY_CONFLICT);
}

fn with_parts(parts: Vec<Part>) -> Box<ExecutionRequest> {
    Box::new(ExecutionRequest {
        key: Some("k".into()),
        command: escher_protocol::Command::Exec {
            argv: vec!["true".into()],
        },
        parts: parts.try_into().unwrap(),
        ..ExecutionRequest::default()
    })
}

#[test]
fn refuses_an_unknown_required_part_without_using_a_number() {
    let mut scheduler = scheduler();
    let request = with_parts(vec![Part::new(2, "optional"), Part::new(7, "required")]);
    let refused = scheduler.submit(SubmitPermit::for_root(), request, at(0));
    let error = refused.unwrap_err();
    assert_eq!(error.code, ErrorCode::UNSUPPORTED);
    assert!(error.message.contains("part 7"), "{error}");
    assert_eq!(commit(&mut scheduler, at(0)), []);
    assert_eq!(submit(&mut scheduler, NONE, None), Ok(1));
}

#[test]
fn keeps_unknown_optional_parts_and_the_key_covers_them() {
    let mut scheduler = scheduler();
    let parts = vec![Part::new(2, "optional")];
    let submit = |scheduler: &mut Scheduler, parts| {
        scheduler.submit(SubmitPermit::for_root(), with_parts(parts), at(0))
    };
    submit(&mut scheduler, parts.clone()).unwrap();
    commit(&mut scheduler, at(0));
    let record = scheduler.status(1).try_recv().unwrap();
    assert_eq!(record.parts, parts.try_into().unwrap());
    let error = submit(&mut scheduler, Vec::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::KEY_CONFLICT);
}

#[test]
fn accepts_only_limits_that_can_be_enforced() {
    let mut scheduler = scheduler();
    let memory = ResourceLimits {
        memory_max: Some(1),
        ..NONE
    };
    let error = submit(&mut scheduler, memory, None).unwrap_err();
    assert_eq!(error.code, ErrorCode::LIMIT_UNENFORCEABLE);
    let nothing = ResourceLimits {
        tasks_max: Some(0),
        ..NONE
    };
    let error = submit(&mut scheduler, nothing, None).unwrap_err();
    assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
}

/// Ends a launched execution, and returns the launches that follow.
fn end(scheduler: &mut Scheduler, id: ExecutionId) -> Vec<ExecutionId> {
    let report = ExitReport::new(id, FIRST_ATTEMPT, Exit::Code(0), at(1));
    scheduler.on_shim_message(id, FromShim::Exited(Box::new(report)), at(1));
    launched(&commit(scheduler, at(1)))
}

fn launched(effects: &[Effect]) -> Vec<ExecutionId> {
    let launched = effects.iter().filter_map(|effect| match effect {
        Effect::Launch(assignment) => Some(assignment.spec.id),
        _ => None,
    });
    launched.collect()
}

#[test]
fn a_flood_delays_another_user_by_one_slot_and_root_by_none() {
    const FLOOD: usize = 10_100;
    let (flooding, other) = (1000, 1001);
    let mut scheduler = Scheduler::new(SchedulerSettings {
        max_concurrent: 100,
        root_slots: 10,
        max_pending: 30_000,
        queue_share: Percent::new(50),
        ..settings(10)
    });
    let mut running = Vec::new();
    for _ in 0..FLOOD {
        running.extend(launched(&submit_as(&mut scheduler, flooding).unwrap().1));
    }
    assert_eq!(running.len(), 100, "alone, a user has all slots");
    let by_root = submit_as(&mut scheduler, 0).unwrap().1;
    assert_eq!(launched(&by_root).len(), 1, "root has slots of its own");
    let (number, effects) = submit_as(&mut scheduler, other).unwrap();
    assert_eq!(launched(&effects), []);
    let id = scheduler.entries[&number].execution.submission.id;
    assert_eq!(end(&mut scheduler, running[0]), [id], "the first free slot");
    assert_eq!(end(&mut scheduler, id).len(), 1, "the others go on");
    let quota = scheduler.quota(User {
        uid: flooding,
        name: None,
    });
    assert_eq!((quota.running, quota.pending), (100, 9_999));
    assert_eq!((quota.max_running, quota.max_pending), (100, 15_000));
}

#[test]
fn a_user_over_its_quota_is_refused_and_others_are_not() {
    let mut scheduler = Scheduler::new(SchedulerSettings {
        max_pending: 10,
        root_slots: 1,
        queue_share: Percent::new(50),
        ..settings(10)
    });
    for _ in 0..6 {
        submit_as(&mut scheduler, 1000).unwrap();
    }
    let error = submit_as(&mut scheduler, 1000).unwrap_err();
    assert_eq!((error.code, error.retry), (ErrorCode::OVER_QUOTA, true));
    assert!(error.message.contains("5 executions pending"), "{error}");
    for _ in 0..4 {
        submit_as(&mut scheduler, 1001).unwrap();
    }
    let error = submit_as(&mut scheduler, 1001).unwrap_err();
    assert_eq!((error.code, error.retry), (ErrorCode::QUEUE_FULL, true));
    submit_as(&mut scheduler, 1002).unwrap();
    let error = submit_as(&mut scheduler, 1003).unwrap_err();
    assert_eq!(error.code, ErrorCode::QUEUE_FULL);
    let (_, effects) = submit_as(&mut scheduler, 0).unwrap();
    assert_eq!(launched(&effects).len(), 1, "root runs beside them");
    submit_as(&mut scheduler, 0).expect("and has a place in the queue");
}

#[test]
fn a_withdrawn_execution_no_longer_binds_the_shares_of_others() {
    let mut scheduler = Scheduler::new(SchedulerSettings {
        max_concurrent: 10,
        queue_share: Percent::new(50),
        ..settings(10)
    });
    let mut launches = 0;
    let mut last = 0;
    // Both wait with slots of their own, and the last slot stays free.
    for uid in [1000, 1001, 1001, 1001, 1001, 1001, 1000, 1000, 1000] {
        launches += launched(&submit_as(&mut scheduler, uid).unwrap().1).len();
    }
    assert_eq!(launches, 9);
    for uid in [1000, 1000, 1001] {
        let (number, effects) = submit_as(&mut scheduler, uid).unwrap();
        launches += launched(&effects).len();
        last = number;
    }
    assert_eq!(launches, 10, "1000 waited alone");
    let running = scheduler.entries[&1].execution.submission.id;
    assert_eq!(
        end(&mut scheduler, running),
        [],
        "the tenth slot is for others"
    );
    let scope = crate::authz::Scope::for_root();
    drop(scheduler.cancel(&scope, last, CancelMode::Graceful, at(2)));
    assert_eq!(launched(&commit(&mut scheduler, at(2))).len(), 1);
}

#[test]
fn a_launch_has_the_limits_of_its_user_unless_that_is_root() {
    let mut scheduler = Scheduler::new(SchedulerSettings {
        max_concurrent: 10,
        user_limits: FEW_TASKS,
        ..settings(10)
    });
    let refused = submit_as(&mut scheduler, 1000).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LIMIT_UNENFORCEABLE);
    assert!(refused.message.starts_with("users.max_tasks"), "{refused}");
    scheduler.set_controllers(Some(Controllers {
        pids: true,
        ..Controllers::default()
    }));
    for (uid, limits) in [(0, NONE), (1000, FEW_TASKS)] {
        let (number, effects) = submit_as(&mut scheduler, uid).unwrap();
        let [Effect::Launch(assignment)] = effects.as_slice() else {
            panic!("{effects:?}");
        };
        assert_eq!((assignment.limits, assignment.user_limits), (NONE, limits));
        let spec = &assignment.spec;
        assert_eq!((spec.number, spec.submitter_uid), (number, uid));
    }
}

#[test]
fn only_root_may_have_any_number_of_executions_that_left_processes() {
    let settings = SchedulerSettings {
        max_left: 3,
        ..settings(10)
    };
    assert_eq!(settings.max_left_of(0), u32::MAX);
    assert_eq!(settings.max_left_of(1000), 3);
}

#[test]
fn a_launch_has_the_abilities_of_the_launcher_that_has_connected() {
    let mut scheduler = Scheduler::new(settings(10));
    let refused = submit(&mut scheduler, FEW_TASKS, None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LIMIT_UNENFORCEABLE);
    scheduler.on_launcher_connected(&Abilities {
        cgroups: Some(Controllers {
            pids: true,
            ..Controllers::default()
        }),
        ..Abilities::default()
    });
    assert!(submit(&mut scheduler, FEW_TASKS, None).is_ok());
}

#[test]
fn a_first_budget_is_a_part_of_the_disk_once_its_size_is_known() {
    let mut scheduler = Scheduler::new(SchedulerSettings {
        max_concurrent: 2,
        ..settings(10)
    });
    let mut budget = || {
        let (_, effects) = submit_as(&mut scheduler, 1000).unwrap();
        let [Effect::Launch(assignment)] = effects.as_slice() else {
            panic!("{effects:?}");
        };
        scheduler.set_log_capacity(Some(80 << 20));
        assignment.log_budget
    };
    assert_eq!(budget(), FIRST_BYTES);
    assert_eq!(budget(), ((80 << 20) - FIRST_BYTES) / 8);
}

#[test]
fn an_execution_counts_as_running_from_its_start_to_its_end() {
    let mut scheduler = Scheduler::new(settings(10));
    let counts = |scheduler: &Scheduler| {
        let counts = scheduler.counts();
        (counts.pending, counts.running)
    };
    let (number, _) = submit_as(&mut scheduler, 1000).unwrap();
    let id = scheduler.entries[&number].execution.submission.id;
    assert_eq!(counts(&scheduler), (1, 0));
    let started = FromShim::Started { pid: 7, at: at(1) };
    scheduler.on_shim_message(id, started, at(1));
    assert_eq!(counts(&scheduler), (0, 1));
    end(&mut scheduler, id);
    assert_eq!(counts(&scheduler), (0, 0));
    let scope = crate::authz::Scope::for_root();
    let page = scheduler
        .events
        .page(&scope, 0, &EventFilter::default(), 10)
        .unwrap();
    let kinds: Vec<EventKind> = page.events.into_iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Submitted,
            EventKind::Started,
            EventKind::Finished(Status::Completed)
        ]
    );
}

#[test]
fn a_program_that_was_not_found_is_named_with_the_path_that_was_searched() {
    let mut scheduler = Scheduler::new(settings(10));
    let (number, _) = submit_as(&mut scheduler, 1000).unwrap();
    let id = scheduler.entries[&number].execution.submission.id;
    let (stage, errno) = (StartStage::Exec, nix::errno::Errno::ENOENT as i32);
    let report = ExitReport::not_started(id, FIRST_ATTEMPT, stage, errno, at(1));
    scheduler.on_shim_message(id, FromShim::Exited(Box::new(report)), at(1));
    commit(&mut scheduler, at(1));
    let record = scheduler.status(number).try_recv().unwrap();
    let message = record.outcome.unwrap().error.unwrap().message;
    assert!(
        message.contains("\"true\" is not in PATH (/usr/local/sbin:"),
        "{message}"
    );
}

#[test]
fn a_launch_has_the_limits_of_its_submission() {
    let mut scheduler = scheduler();
    let request = ExecutionRequest {
        command: escher_protocol::Command::Exec {
            argv: vec!["true".into()],
        },
        limits: FEW_TASKS,
        ..ExecutionRequest::default()
    };
    let permit = SubmitPermit::for_root();
    let answer = scheduler.submit(permit, Box::new(request), at(0));
    let effects = commit(&mut scheduler, at(0));
    assert!(answer.is_ok());
    let [Effect::Launch(assignment)] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(assignment.limits, FEW_TASKS);
}
