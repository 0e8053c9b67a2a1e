//! Limits and figures, beside submissions and records.

use super::*;
use escher_protocol::Measurements;

const LIMITS: ResourceLimits = ResourceLimits {
    memory_max: Some(1 << 26),
    cpu_quota: None,
    tasks_max: Some(10),
};

fn limited(number: u64) -> Submission {
    Submission {
        limits: LIMITS,
        ..submission(number)
    }
}

fn measured() -> Resources {
    Resources {
        limits: LIMITS,
        paused: false,
        measured: Some(Measurements {
            user_us: Some(1),
            oom_kills: Some(0),
            ..Measurements::default()
        }),
    }
}

fn measured_end(submission: &Submission) -> Change {
    Change::Finished {
        record: Box::new(ended(submission, Status::Completed)),
        resources: Box::new(measured()),
    }
}

#[tokio::test]
async fn limits_of_what_is_not_finished_are_there_after_a_crash() {
    let bed = Bed::new();
    bed.commit([submitted(&limited(1)), submitted(&submission(2))]);
    let bed = bed.after_a_crash();
    let unfinished = &bed.loaded.unfinished;
    let submissions: Vec<&Submission> = unfinished.iter().map(|one| &one.submission).collect();
    assert_eq!(submissions, [&limited(1), &submission(2)]);
    assert_eq!(bed.resources(1).await, None, "it has no record yet");
}

#[tokio::test]
async fn limits_and_figures_stay_with_a_record() {
    let bed = Bed::new();
    bed.commit([submitted(&limited(1)), measured_end(&limited(1))]);
    bed.commit(whole(&submission(2), Status::Failed));
    for bed in [bed.after_a_crash(), bed.again().await] {
        assert_eq!(bed.resources(1).await, Some(measured()));
        assert_eq!(bed.resources(2).await, Some(Resources::default()));
        assert_eq!(bed.resources(3).await, None);
    }
}

#[tokio::test]
async fn both_are_taken_over_from_a_damaged_store_and_nothing_runs_without_its_limits() {
    let bed = Bed::new();
    bed.commit([submitted(&limited(1)), measured_end(&limited(1))]);
    bed.commit((2..5).map(|number| submitted(&limited(number))));
    bed.store.close(DEADLINE).await.unwrap();
    let file = rusqlite::Connection::open(bed.path()).unwrap();
    // The limits are at the end of the body.
    let spoil =
        "UPDATE submission SET body = substr(body, 1, length(body) - 1) || x'0b' WHERE number = 3";
    file.execute(spoil, []).unwrap();
    drop(file);
    let bed = Bed::on(bed.dir);
    assert_eq!(bed.notices.len(), 1);
    assert_eq!(bed.resources(1).await, Some(measured()));
    let unfinished = bed.loaded.unfinished.iter();
    let submissions: Vec<Submission> = unfinished.map(|one| one.submission.clone()).collect();
    assert_eq!(submissions, [limited(2), limited(4)]);
}
