//! The store with its journal.

use super::*;

/// The outcome of a change that leaves no log.
const JOURNALED: CommitOutcome = CommitOutcome::Journaled { log_bytes: 0 };

/// Returns an intake whose filter of known keys is built.
async fn intake(test: &TestStore) -> Intake {
    test.store.flush(DEADLINE).await.unwrap();
    test.store.intake()
}

fn with_key(number: u64, key: &str) -> Submission {
    let mut submission = submission(number);
    submission.request.key = Some(key.into());
    submission
}

/// Writes one change, and returns its outcome if that is there at once.
fn write(intake: &mut Intake, ticket: u64, change: Change) -> Option<CommitOutcome> {
    let mut outcomes = intake.write(vec![entry(ticket, change)]);
    let outcome = outcomes.pop();
    outcome.map(|(of, outcome)| {
        assert_eq!(of, ticket);
        outcome
    })
}

/// Waits for the next outcome from the database, and notes it.
fn wait(test: &TestStore, intake: &mut Intake) -> (u64, CommitOutcome) {
    let mut outcomes = test.outcomes.recv_timeout(DEADLINE).unwrap();
    intake.note_outcomes(&outcomes);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}

#[tokio::test]
async fn what_was_journaled_outlives_a_crash_and_is_applied_once() {
    let test = TestStore::new();
    let mut intake = intake(&test).await;
    let (one, two) = (submission(1), submission(2));
    let changes = [
        submitted(&one),
        submitted(&two),
        admission(1),
        finished(&one, Status::Completed),
    ];
    for (ticket, change) in (1..).zip(changes) {
        let outcome = write(&mut intake, ticket, change);
        assert_eq!(outcome, Some(JOURNALED));
    }
    let next = test.reopen_after_crash();
    assert_eq!(next.unfinished_numbers(), [2]);
    assert_eq!(next.finished_numbers().await, [1]);
    assert_eq!(next.loaded.last_number, 2);
    let again = next.reopen_after_crash();
    assert_eq!(again.unfinished_numbers(), [2]);
    assert_eq!(again.store.finished_count().await, 1);
}

#[tokio::test]
async fn an_end_has_another_outcome_when_the_database_has_it() {
    let test = TestStore::new();
    let mut intake = intake(&test).await;
    let one = submission(1);
    let _ = intake.write(vec![entry(1, submitted(&one))]);
    let end = write(&mut intake, 2, finished(&one, Status::Completed));
    assert_eq!(end, Some(JOURNALED));
    let in_database = wait(&test, &mut intake);
    assert_eq!(in_database, (2, CommitOutcome::Finished { log_bytes: 0 }));
}

#[tokio::test]
async fn queries_see_what_only_the_journal_had() {
    let test = TestStore::new();
    let mut intake = intake(&test).await;
    let one = submission(1);
    let changes = [submitted(&one), finished(&one, Status::Failed)];
    for (ticket, change) in (1..).zip(changes) {
        assert!(write(&mut intake, ticket, change).is_some());
        assert!(
            test.store
                .find(LookupScope::ALL, &one.id.into())
                .await
                .unwrap()
                .is_some()
        );
    }
    assert_eq!(test.finished_numbers().await, [1]);
}

#[tokio::test]
async fn a_key_that_may_be_known_waits_for_the_database() {
    let test = TestStore::new();
    let mut intake = intake(&test).await;
    let first = write(&mut intake, 1, submitted(&with_key(1, "deploy")));
    assert_eq!(first, Some(JOURNALED), "it is new");
    assert_eq!(
        write(&mut intake, 2, submitted(&with_key(2, "deploy"))),
        None
    );
    // The outcomes come in order, so this waits too.
    assert_eq!(write(&mut intake, 3, submitted(&submission(3))), None);
    let taken = wait_for_both(&test, &mut intake);
    assert!(
        matches!(taken, CommitOutcome::KeyTaken { number: 1, .. }),
        "{taken:?}"
    );
    assert_eq!(
        write(&mut intake, 4, submitted(&submission(4))),
        Some(JOURNALED)
    );

    let next = test.reopen_after_crash();
    assert_eq!(next.unfinished_numbers(), [1, 3, 4]);
    let mut intake = next.store.intake();
    next.store.flush(DEADLINE).await.unwrap();
    assert_eq!(
        write(&mut intake, 1, submitted(&with_key(5, "deploy"))),
        None
    );
    let (_, outcome) = wait(&next, &mut intake);
    assert!(
        matches!(outcome, CommitOutcome::KeyTaken { number: 1, .. }),
        "{outcome:?}"
    );
}

/// Waits for the outcomes of two changes, of which the second is committed, and returns the first.
fn wait_for_both(test: &TestStore, intake: &mut Intake) -> CommitOutcome {
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        outcomes.extend(test.outcomes.recv_timeout(DEADLINE).unwrap());
    }
    intake.note_outcomes(&outcomes);
    let [(2, first), (3, CommitOutcome::Committed)] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    first.clone()
}

#[tokio::test]
async fn a_removal_comes_after_what_was_journaled_before_it() {
    let test = TestStore::new();
    let mut intake = intake(&test).await;
    let one = submission(1);
    let entries = vec![
        entry(1, submitted(&one)),
        entry(2, finished(&one, Status::Completed)),
        entry(3, Change::Removed { numbers: vec![1] }),
    ];
    let outcomes = intake.write(entries);
    assert_eq!(outcomes, [1, 2].map(|ticket| (ticket, JOURNALED)));
    let mut from_database = Vec::new();
    while from_database.len() < 2 {
        from_database.extend(test.outcomes.recv_timeout(DEADLINE).unwrap());
    }
    assert!(
        matches!(&*from_database, [
            (2, CommitOutcome::Finished { .. }),
            (3, CommitOutcome::Removed { removed, .. }),
        ] if removed.executions == 1),
        "{from_database:?}"
    );
}

#[tokio::test]
async fn no_environment_stays_in_the_journal() {
    let test = TestStore::new();
    let mut intake = intake(&test).await;
    let files = ["escher-journal.0", "escher-journal.1"].map(|name| test.dir.path().join(name));
    let has_secret = || {
        files.iter().any(|file| {
            let content = std::fs::read(file).unwrap();
            content
                .windows(SECRET.len())
                .any(|window| window == SECRET.as_bytes())
        })
    };
    let outcome = write(&mut intake, 1, submitted(&submission(1)));
    assert_eq!(outcome, Some(JOURNALED));
    test.store.flush(DEADLINE).await.unwrap();
    assert!(!has_secret(), "the database has it");
}

#[tokio::test]
async fn what_survives_a_power_cut_is_not_journaled() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        durability: Durability::Power,
        ..SETTINGS
    };
    let (store, _, _) = open(&store_path(dir.path()), settings, |_| {}).unwrap();
    store.flush(DEADLINE).await.unwrap();
    assert_eq!(
        write(&mut store.intake(), 1, submitted(&submission(1))),
        None
    );
}
