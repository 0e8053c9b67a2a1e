//! Each change, read back after a crash and after an orderly stop.

use std::collections::BTreeMap;

use escher_protocol::codec;
use escher_protocol::message::Removed;

use super::*;
use crate::store::readers::Snapshot;

/// Returns what a store loads after `changes`, the same after a crash as after an orderly stop.
async fn loaded_after(changes: Vec<Change>) -> LoadedState {
    let test = TestStore::new();
    test.commit(changes);
    let crashed = test.reopen_after_crash().loaded;
    let orderly = test.reopen().await;
    assert!(orderly.quarantined.is_empty());
    assert_eq!(orderly.loaded, crashed, "a crash loses nothing");
    orderly.loaded
}

#[tokio::test]
async fn loads_each_change_to_an_unfinished_execution() {
    let one = submission(1);
    let waiting = UnfinishedExecution {
        submission: one.clone(),
        extent: Extent::Whole,
        request_bytes: codec::encode(&one.request).unwrap().len() as u64,
        digest: None,
        is_admitted: false,
        launch_attempts: 0,
        started: None,
        cancel: None,
    };
    let admitted = UnfinishedExecution {
        is_admitted: true,
        launch_attempts: 1,
        ..waiting.clone()
    };
    let running = UnfinishedExecution {
        started: Some((77, at(3))),
        ..admitted.clone()
    };
    let cancel = |canceller: &Canceller, mode| Change::CancelRequested {
        number: 1,
        canceller: canceller.clone(),
        mode,
    };
    let (host, bob) = (Canceller::Host, Canceller::User(user(1002)));
    let start = Change::Started {
        number: 1,
        pid: 77,
        at: at(3),
    };
    let submitted_to_shim = Change::Submitted {
        submission: Box::new(one.clone()),
        digest: None,
        is_admitted: true,
    };
    for (changes, expected) in [
        (vec![submitted(&one)], waiting.clone()),
        (vec![submitted_to_shim.clone()], admitted.clone()),
        (vec![submitted(&one), admission(1)], admitted.clone()),
        (
            vec![submitted_to_shim.clone(), start.clone()],
            running.clone(),
        ),
        (
            vec![submitted(&one), start.clone()],
            UnfinishedExecution {
                launch_attempts: 0,
                ..running.clone()
            },
        ),
        (
            vec![submitted_to_shim.clone(), admission(1)],
            UnfinishedExecution {
                launch_attempts: 2,
                ..admitted.clone()
            },
        ),
        (
            vec![
                submitted_to_shim.clone(),
                Change::LaunchAttemptsCleared { numbers: vec![1] },
            ],
            UnfinishedExecution {
                launch_attempts: 0,
                ..admitted.clone()
            },
        ),
        (
            vec![
                submitted_to_shim.clone(),
                cancel(&bob, CancelMode::Graceful),
            ],
            UnfinishedExecution {
                cancel: Some((bob.clone(), CancelMode::Graceful)),
                ..admitted.clone()
            },
        ),
        (
            vec![
                submitted_to_shim.clone(),
                cancel(&bob, CancelMode::Graceful),
                start.clone(),
                cancel(&host, CancelMode::Kill),
            ],
            UnfinishedExecution {
                cancel: Some((bob.clone(), CancelMode::Kill)),
                ..running.clone()
            },
        ),
        (
            vec![
                submitted_to_shim,
                cancel(&host, CancelMode::Kill),
                cancel(&bob, CancelMode::Graceful),
            ],
            UnfinishedExecution {
                cancel: Some((host, CancelMode::Kill)),
                ..admitted
            },
        ),
        // An unfinished execution is not removed.
        (
            vec![submitted(&one), Change::Removed { numbers: vec![1] }],
            waiting,
        ),
    ] {
        let loaded = loaded_after(changes.clone()).await;
        assert_eq!(loaded.unfinished, [expected], "{changes:?}");
        assert_eq!(loaded.last_number, 1);
    }
}

#[tokio::test]
async fn finds_the_record_of_a_finished_execution_for_each_status() {
    let test = TestStore::new();
    let mut records = Vec::new();
    for (number, (status, _)) in (1..).zip(Status::TABLE) {
        if status.is_finished() {
            let one = submission(number);
            test.commit(submitted_and_finished(&one, status));
            records.insert(0, record_of(&one, status));
        }
    }
    let test = test.reopen_after_crash();
    assert_eq!(test.all_records().await, records);
    assert_eq!(test.store.finished_count().await, 5);
    assert!(test.loaded.unfinished.is_empty());
    for record in &records {
        assert_eq!(test.record(record.number).await.as_ref(), Some(record));
    }
}

#[tokio::test]
async fn a_change_to_an_unknown_or_finished_execution_changes_nothing() {
    let test = TestStore::new();
    let one = submission(1);
    test.commit(submitted_and_finished(&one, Status::Completed));
    test.commit([
        admission(1),
        finished(&one, Status::Failed),
        Change::Started {
            number: 9,
            pid: 1,
            at: at(1),
        },
        finished(&submission(9), Status::Failed),
        Change::Removed {
            numbers: vec![9, 10],
        },
        Change::LogsDeleted { ids: vec![id(9)] },
    ]);
    assert_eq!(
        test.all_records().await,
        [record_of(&one, Status::Completed)]
    );
    assert_eq!(test.reopen().await.loaded.last_number, 1);
}

#[tokio::test]
async fn a_key_is_taken_per_submitter_until_its_execution_is_removed() {
    let test = TestStore::new();
    let keyed = |number, uid, digest: u8| {
        let mut one = submission(number);
        one.request.key = Some("k".into());
        one.submitter = user(uid);
        let change = Change::Submitted {
            submission: Box::new(one.clone()),
            digest: Some([digest; 32]),
            is_admitted: false,
        };
        (one, change)
    };
    let (one, first) = keyed(1, 1001, 1);
    let taken = |is_same_request| CommitOutcome::KeyTaken {
        id: id(1),
        number: 1,
        is_same_request,
    };
    // All in one transaction: later entries see earlier ones.
    let outcomes = test.write([
        first,
        keyed(2, 1001, 1).1,
        keyed(3, 1001, 2).1,
        keyed(4, 1002, 1).1,
    ]);
    let committed = CommitOutcome::Committed;
    assert_eq!(
        outcomes,
        [
            committed.clone(),
            taken(true),
            taken(false),
            committed.clone()
        ]
    );
    test.commit([finished(&one, Status::Failed)]);
    let test = test.reopen().await;
    assert_eq!(
        test.unfinished_numbers(),
        [4],
        "refused submissions leave nothing behind"
    );
    assert_eq!(
        test.write([keyed(5, 1001, 1).1]),
        [taken(true)],
        "a finished execution keeps its key"
    );
    let remove_and_reuse = [Change::Removed { numbers: vec![1] }, keyed(6, 1001, 2).1];
    let removed = Removed {
        executions: 1,
        log_bytes: 0,
    };
    let removed = CommitOutcome::Removed {
        removed,
        logs: vec![id(1)],
        freed_log_bytes: BTreeMap::new(),
    };
    assert_eq!(test.write(remove_and_reuse), [removed, committed]);
}

#[tokio::test]
async fn refuses_a_used_number_or_id_and_commits_the_rest() {
    let test = TestStore::new();
    let (one, other) = (submission(1), submission(2));
    let mut same_id = submission(3);
    same_id.id = id(1);
    let outcomes = test.write([&one, &one, &same_id, &other].map(submitted));
    assert!(matches!(
        outcomes.as_slice(),
        [
            CommitOutcome::Committed,
            CommitOutcome::Refused(_),
            CommitOutcome::Refused(_),
            CommitOutcome::Committed
        ]
    ));
    let loaded = test.reopen().await.loaded;
    let unfinished = loaded.unfinished.into_iter();
    let submissions: Vec<Submission> = unfinished.map(|found| found.submission).collect();
    assert_eq!(submissions, [one, other]);
}

#[tokio::test]
async fn remembers_the_logs_of_removed_executions_until_they_are_deleted() {
    let test = TestStore::new();
    let mut changes: Vec<Change> = Vec::new();
    for number in 1..=4 {
        let mut one = submission(number);
        one.request.labels = vec![("team".into(), "blue".into())];
        let mut record = record_of(&one, Status::Completed);
        if number == 3 {
            record = record_of(&one, Status::Lost);
        }
        if number == 2
            && let Some(outcome) = &mut record.outcome
        {
            outcome.output.log_bytes = 1000;
        }
        changes.extend([submitted(&one), finished_with(record)]);
    }
    test.commit(changes);
    let removed = Removed {
        executions: 3,
        log_bytes: 1000,
    };
    let outcomes = test.write([Change::Removed {
        numbers: vec![1, 2, 3],
    }]);
    assert_eq!(
        outcomes,
        [CommitOutcome::Removed {
            removed,
            logs: vec![id(1), id(2), id(3)],
            freed_log_bytes: BTreeMap::from([(1001, 1000)]),
        }]
    );
    assert_eq!(test.store.finished_count().await, 1);
    let test = test.reopen().await;
    assert_eq!(test.finished_numbers().await, [4]);
    assert_eq!(test.store.finished_count().await, 1);
    assert_eq!(test.record(2).await, None);
    let mut logs = test.loaded.undeleted_logs.clone();
    logs.sort_unstable();
    assert_eq!(logs, [id(1), id(2), id(3)], "with and without log bytes");
    test.commit([
        Change::LogsDeleted {
            ids: vec![id(1), id(2), id(3)],
        },
        Change::Removed { numbers: vec![4] },
        Change::LogsDeleted { ids: vec![id(4)] },
    ]);
    let test = test.reopen().await;
    assert!(test.loaded.undeleted_logs.is_empty());
    assert_eq!(test.loaded.last_number, 4, "numbers are never reused");
}

#[tokio::test]
async fn keeps_events_in_order_with_their_changes_until_they_are_dropped() {
    let test = TestStore::new();
    let mut keyed = submission(1);
    keyed.request.key = Some("k".into());
    let entry_with_event = |ticket, change, sequence| ChangeEntry {
        ticket,
        change,
        events: vec![event(sequence, 1, EventKind::Submitted)],
        dropped_events: Vec::new(),
    };
    let refused = entry_with_event(
        1,
        submitted(&Submission {
            number: 2,
            id: id(2),
            ..keyed.clone()
        }),
        999,
    );
    test.store
        .write(vec![entry_with_event(0, submitted(&keyed), 1), refused]);
    assert!(matches!(
        test.outcomes(2)[1],
        CommitOutcome::KeyTaken { .. }
    ));
    let test = test.reopen().await;
    assert_eq!(test.loaded.events, [event(1, 1, EventKind::Submitted)]);

    let launches = (2..=20).map(|sequence| entry_with_event(sequence, admission(1), sequence));
    test.store.write(launches.collect());
    test.outcomes(19);
    let dropped = |uid, sequence| DroppedEvent { uid, sequence };
    let dropping = ChangeEntry {
        dropped_events: vec![dropped(1001, 3), dropped(1002, 4), dropped(1001, 7)],
        ..entry_with_event(21, admission(1), 21)
    };
    test.store.write(vec![dropping]);
    test.outcomes(1);
    let test = test.reopen().await;
    let events = test.loaded.events.iter();
    let sequences: Vec<u64> = events.map(|event| event.sequence).collect();
    let kept = (1..=21).filter(|sequence| ![3, 4, 7].contains(sequence));
    assert_eq!(sequences, kept.collect::<Vec<u64>>());
    assert_eq!(
        test.loaded.missed_events,
        [(1001, 7), (1002, 4)].into_iter().collect()
    );
}

#[tokio::test]
async fn erases_the_environment_of_a_finished_command_from_the_disk() {
    let test = TestStore::new();
    let holds_secret = |dir: &Path| {
        let files = std::fs::read_dir(dir).unwrap();
        let contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        contents.into_iter().any(|bytes| {
            bytes
                .windows(SECRET.len())
                .any(|window| window == SECRET.as_bytes())
        })
    };
    let one = submission(1);
    test.commit([submitted(&one)]);
    assert!(
        holds_secret(test.dir.path()),
        "the environment is stored while the command runs"
    );
    test.commit([finished(&one, Status::Completed)]);
    let test = test.reopen().await;
    assert!(!holds_secret(test.dir.path()));
}

/// The write-ahead log stayed, with the environments of ended commands.
#[tokio::test]
async fn a_query_that_runs_at_the_end_does_not_keep_the_write_ahead_log() {
    let test = TestStore::new();
    test.commit([submitted(&submission(1))]);
    let (started, has_started) = std::sync::mpsc::channel();
    let store = test.store.clone();
    let query = tokio::spawn(async move {
        let query = move |snapshot: &Snapshot<'_>| {
            let _ = started.send(());
            let endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                           SELECT max(x) FROM n";
            Ok(snapshot
                .connection
                .query_row(endless, [], |row| row.get::<_, i64>(0))?)
        };
        store.read(None, query).await
    });
    let has_started = tokio::task::spawn_blocking(move || has_started.recv_timeout(DEADLINE));
    has_started.await.unwrap().unwrap();
    assert!(quarantine::wal_path(&test.path()).exists());
    test.store.close(DEADLINE).await.unwrap();
    assert!(!quarantine::wal_path(&test.path()).exists());
    assert!(query.await.unwrap().is_err());
}

#[tokio::test]
async fn restricts_the_files_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let test = TestStore::new();
    test.commit([submitted(&submission(1))]);
    test.store.close(DEADLINE).await.unwrap();
    std::fs::set_permissions(test.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let test = TestStore::open_in(test.dir);
    test.commit([submitted(&submission(2))]);
    for entry in std::fs::read_dir(test.dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
}
