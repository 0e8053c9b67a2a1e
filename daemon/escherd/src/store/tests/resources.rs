//! Limits and measurements of executions.

use super::*;
use escher_protocol::{Measurements, ProcessLimits, Rlimit, RlimitResource};

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(1 << 26),
    memory_high: Some(1 << 25),
    cpu_quota: None,
    cpu_weight: Some(1),
    io_weight: Some(10_000),
    tasks_max: Some(10),
};

fn limited(number: u64) -> Submission {
    let mut limited = submission(number);
    limited.request.limits = LIMITS;
    limited.request.process = ProcessLimits {
        nice: Some(19),
        oom_score_adjust: Some(-1),
        rlimits: vec![Rlimit {
            resource: RlimitResource::OpenFiles,
            soft: 7,
            hard: Rlimit::INFINITY,
        }],
    };
    limited
}

/// The record of `limited(1)` with measurements.
fn measured() -> ExecutionRecord {
    let mut record = record_of(&limited(1), Status::Completed);
    record.resources.measured = Some(Measurements {
        user_us: Some(1),
        oom_kills: Some(0),
        ..Measurements::default()
    });
    record
}

#[tokio::test]
async fn the_limits_of_unfinished_executions_survive_a_crash() {
    let test = TestStore::new();
    test.commit([submitted(&limited(1)), submitted(&submission(2))]);
    let test = test.reopen_after_crash();
    let unfinished = &test.loaded.unfinished;
    let submissions: Vec<&Submission> = unfinished.iter().map(|found| &found.submission).collect();
    assert_eq!(submissions, [&limited(1), &submission(2)]);
    assert_eq!(
        test.record(1).await,
        None,
        "an unfinished execution has no record"
    );
}

#[tokio::test]
async fn limits_and_measurements_stay_with_a_record() {
    let test = TestStore::new();
    test.commit([submitted(&limited(1)), finished_with(measured())]);
    for test in [test.reopen_after_crash(), test.reopen().await] {
        assert_eq!(test.record(1).await, Some(measured()));
    }
}

#[tokio::test]
async fn salvages_limits_and_measurements_and_omits_a_damaged_submission() {
    let test = TestStore::new();
    test.commit([submitted(&limited(1)), finished_with(measured())]);
    test.commit((2..5).map(|number| submitted(&limited(number))));
    test.store.close(DEADLINE).await.unwrap();
    let file = rusqlite::Connection::open(test.path()).unwrap();
    let damage = "UPDATE submission SET body = x'00' WHERE number = 3";
    file.execute(damage, []).unwrap();
    drop(file);
    let test = TestStore::open_in(test.dir);
    assert_eq!(test.quarantined.len(), 1);
    assert_eq!(test.record(1).await, Some(measured()));
    let unfinished = test.loaded.unfinished.iter();
    let submissions: Vec<Submission> = unfinished.map(|found| found.submission.clone()).collect();
    assert_eq!(submissions, [limited(2), limited(4)]);
}
