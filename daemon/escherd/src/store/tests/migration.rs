//! Files of earlier versions.

use super::*;
use escher_protocol::Measurements;

/// A store of version 1: executions 1 (completed, keyed, labelled), 2 (failed), 3 (running) and 4 (waiting);
/// 5 was removed, and its log is still there.
const VERSION_1: &str = include_str!("../fixtures/1.sql");

/// What makes version 2 of it.
const VERSION_2: &str = concat!(include_str!("../schema/2.sql"), "PRAGMA user_version = 2;");

/// A file with a store that `made` by these statements.
fn old(made: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(file(dir.path())).unwrap();
    for statements in made {
        old.execute_batch(statements).unwrap();
    }
    dir
}

#[tokio::test]
async fn a_store_of_version_1_is_brought_forward_with_all_that_it_has() {
    is_brought_forward(old(&[VERSION_1])).await;
}

#[tokio::test]
async fn a_store_of_version_2_is_brought_forward_with_all_that_it_has() {
    is_brought_forward(old(&[VERSION_1, VERSION_2])).await;
}

#[tokio::test]
async fn what_was_before_limits_has_none_and_ends_with_figures() {
    let bed = Bed::on(old(&[VERSION_1, VERSION_2]));
    assert_eq!(bed.resources(1).await, Some(Resources::default()));
    let running = &fixture()[2];
    let resources = Resources {
        measured: Some(Measurements {
            peak_tasks: Some(3),
            ..Measurements::default()
        }),
        ..Resources::default()
    };
    bed.commit([Change::Finished {
        record: Box::new(ended(running, Status::Completed)),
        resources: Box::new(resources),
    }]);
    let bed = bed.again().await;
    assert_eq!(bed.resources(3).await, Some(resources));
}

async fn is_brought_forward(dir: TempDir) {
    let bed = Bed::on(dir);
    assert!(bed.notices.is_empty(), "{:?}", bed.notices);
    let numbers: Vec<u64> = bed.all().await.iter().map(|record| record.number).collect();
    assert_eq!((numbers, bed.store.finished_count()), (vec![2, 1], 2));
    let expected = fixture();
    assert_eq!(
        bed.record(1).await,
        Some(ended(&expected[0], Status::Completed))
    );
    assert_eq!(
        bed.record(2).await,
        Some(ended(&expected[1], Status::Failed))
    );
    assert_eq!(
        bed.loaded,
        Loaded {
            last_number: 5,
            unfinished: vec![
                Unfinished {
                    submission: expected[2].clone(),
                    launching: true,
                    started: Some((333, at(3))),
                    cancel: None,
                },
                Unfinished {
                    submission: expected[3].clone(),
                    launching: false,
                    started: None,
                    cancel: None,
                },
            ],
            events: vec![event(9, 3, EventKind::Started)],
            undeleted_logs: vec![id(5)],
        }
    );
    let mut labelled = everything();
    labelled.filter.labels = vec![("team".into(), "blue".into())];
    labelled.until = Some(at(2));
    assert_eq!(
        bed.store
            .list(None, labelled, u64::MAX, 9)
            .await
            .unwrap()
            .len(),
        1
    );
    let bed = bed.again().await;
    assert_eq!(bed.store.finished_count(), 2);
}

/// The submissions of the fixture. They never change, or the fixture was not of version 1.
fn fixture() -> [Submission; 4] {
    [1, 2, 3, 4].map(|number| {
        let mut one = submission(number);
        if number == 1 {
            one.request.key = Some("k".into());
            one.request.labels = vec![("team".into(), "blue".into())];
        }
        one
    })
}
