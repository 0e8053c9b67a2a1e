//! Limits and measurements of executions.

use super::*;
use escher_protocol::Measurements;

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(1 << 26),
    cpu_quota: None,
    tasks_max: Some(10),
};

fn limited(number: u64) -> Submission {
    let mut limited = submission(number);
    limited.request.limits = LIMITS;
    limited
}

/// The record of `limited(1)`, which has been measured.
fn measured() -> ExecutionRecord {
    let mut record = ended(&limited(1), Status::Completed);
    record.resources.measured = Some(Measurements {
        user_us: Some(1),
        oom_kills: Some(0),
        ..Measurements::default()
    });
    record
}

#[tokio::test]
async fn limits_of_what_is_not_finished_are_there_after_a_crash() {
    let bed = Bed::new();
    bed.commit([submitted(&limited(1)), submitted(&submission(2))]);
    let bed = bed.after_a_crash();
    let unfinished = &bed.loaded.unfinished;
    let submissions: Vec<&Submission> = unfinished.iter().map(|one| &one.submission).collect();
    assert_eq!(submissions, [&limited(1), &submission(2)]);
    assert_eq!(bed.record(1).await, None, "it is not finished");
}

#[tokio::test]
async fn limits_and_measurements_stay_with_a_record() {
    let bed = Bed::new();
    bed.commit([submitted(&limited(1)), over(measured())]);
    for bed in [bed.after_a_crash(), bed.again().await] {
        assert_eq!(bed.record(1).await, Some(measured()));
    }
}

#[tokio::test]
async fn both_are_taken_over_from_a_damaged_store() {
    let bed = Bed::new();
    bed.commit([submitted(&limited(1)), over(measured())]);
    bed.commit((2..5).map(|number| submitted(&limited(number))));
    bed.store.close(DEADLINE).await.unwrap();
    let file = rusqlite::Connection::open(bed.path()).unwrap();
    let spoil = "UPDATE submission SET body = x'00' WHERE number = 3";
    file.execute(spoil, []).unwrap();
    drop(file);
    let bed = Bed::on(bed.dir);
    assert_eq!(bed.notices.len(), 1);
    assert_eq!(bed.record(1).await, Some(measured()));
    let unfinished = bed.loaded.unfinished.iter();
    let submissions: Vec<Submission> = unfinished.map(|one| one.submission.clone()).collect();
    assert_eq!(submissions, [limited(2), limited(4)]);
}
