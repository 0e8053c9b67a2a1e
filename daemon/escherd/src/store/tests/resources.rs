//! Limits and measurements of submissions and records.

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
        record: Box::new(record_of(submission, Status::Completed)),
        resources: Box::new(measured()),
    }
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
        test.resources(1).await,
        None,
        "an unfinished execution has no record"
    );
}

#[tokio::test]
async fn limits_and_measurements_stay_with_a_record() {
    let test = TestStore::new();
    test.commit([submitted(&limited(1)), measured_end(&limited(1))]);
    test.commit(submitted_and_finished(&submission(2), Status::Failed));
    for test in [test.reopen_after_crash(), test.reopen().await] {
        assert_eq!(test.resources(1).await, Some(measured()));
        assert_eq!(test.resources(2).await, Some(Resources::default()));
        assert_eq!(test.resources(3).await, None);
    }
}

#[tokio::test]
async fn salvages_limits_and_omits_a_submission_whose_limits_are_damaged() {
    let test = TestStore::new();
    test.commit([submitted(&limited(1)), measured_end(&limited(1))]);
    test.commit((2..5).map(|number| submitted(&limited(number))));
    test.store.close(DEADLINE).await.unwrap();
    let file = rusqlite::Connection::open(test.path()).unwrap();
    // The limits are at the end of the body.
    let damage =
        "UPDATE submission SET body = substr(body, 1, length(body) - 1) || x'0b' WHERE number = 3";
    file.execute(damage, []).unwrap();
    drop(file);
    let test = TestStore::open_in(test.dir);
    assert_eq!(test.quarantined.len(), 1);
    assert_eq!(test.resources(1).await, Some(measured()));
    let unfinished = test.loaded.unfinished.iter();
    let submissions: Vec<Submission> = unfinished.map(|found| found.submission.clone()).collect();
    assert_eq!(submissions, [limited(2), limited(4)]);
}
