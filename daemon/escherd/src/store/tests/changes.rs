//! Every change, read back after a crash and after an orderly stop.

use escher_protocol::message::Removed;

use super::*;

/// What is loaded after `changes` to execution 1, which was submitted with a key.
async fn loaded_after(changes: Vec<Change>) -> LoadedState {
    let bed = Bed::new();
    bed.commit(changes);
    let crashed = bed.after_a_crash().loaded;
    let orderly = bed.again().await;
    assert!(orderly.notices.is_empty());
    assert_eq!(orderly.loaded, crashed, "a crash loses nothing");
    orderly.loaded
}

#[tokio::test]
async fn each_change_to_an_unfinished_execution_is_loaded_again() {
    let one = submission(1);
    let waiting = UnfinishedExecution {
        submission: one.clone(),
        launching: false,
        started: None,
        cancel: None,
    };
    let launching = UnfinishedExecution {
        launching: true,
        ..waiting.clone()
    };
    let running = UnfinishedExecution {
        started: Some((77, at(3))),
        ..launching.clone()
    };
    let cancel = |by: &Canceller, kill| Change::CancelRequested {
        number: 1,
        canceller: by.clone(),
        kill,
    };
    let (host, bob) = (Canceller::Host, Canceller::User(user(1002)));
    let start = Change::Started {
        number: 1,
        pid: 77,
        at: at(3),
    };
    let at_once = Change::Submitted {
        submission: Box::new(one.clone()),
        digest: None,
        launching: true,
    };
    for (changes, expected) in [
        (vec![submitted(&one)], waiting.clone()),
        (vec![at_once.clone()], launching.clone()),
        (
            vec![submitted(&one), Change::Launching { number: 1 }],
            launching.clone(),
        ),
        (vec![at_once.clone(), start.clone()], running.clone()),
        (vec![submitted(&one), start.clone()], running.clone()),
        (
            vec![at_once.clone(), cancel(&bob, false)],
            UnfinishedExecution {
                cancel: Some((bob.clone(), false)),
                ..launching.clone()
            },
        ),
        (
            vec![
                at_once.clone(),
                cancel(&bob, false),
                start.clone(),
                cancel(&host, true),
            ],
            UnfinishedExecution {
                cancel: Some((bob.clone(), true)),
                ..running.clone()
            },
        ),
        (
            vec![at_once, cancel(&host, true), cancel(&bob, false)],
            UnfinishedExecution {
                cancel: Some((host, true)),
                ..launching
            },
        ),
        // What is not finished is not removed.
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
async fn a_finished_execution_is_found_as_it_was_recorded_whatever_its_end() {
    let bed = Bed::new();
    let mut records = Vec::new();
    for (number, (status, _)) in (1..).zip(Status::TABLE) {
        if status.is_finished() {
            let one = submission(number);
            bed.commit(whole(&one, status));
            records.insert(0, ended(&one, status));
        }
    }
    let bed = bed.after_a_crash();
    assert_eq!(bed.all().await, records);
    assert_eq!(bed.store.finished_count(), 5);
    assert!(bed.loaded.unfinished.is_empty());
    for record in &records {
        assert_eq!(bed.record(record.number).await.as_ref(), Some(record));
    }
}

#[tokio::test]
async fn a_change_to_an_unknown_or_finished_execution_changes_nothing() {
    let bed = Bed::new();
    let one = submission(1);
    bed.commit(whole(&one, Status::Completed));
    bed.commit([
        Change::Launching { number: 1 },
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
    assert_eq!(bed.all().await, [ended(&one, Status::Completed)]);
    assert_eq!(bed.again().await.loaded.last_number, 1);
}

#[tokio::test]
async fn a_key_counts_once_for_each_submitter_until_its_execution_is_removed() {
    let bed = Bed::new();
    let keyed = |number, uid, digest: u8| {
        let mut one = submission(number);
        one.request.key = Some("k".into());
        one.submitter = user(uid);
        let change = Change::Submitted {
            submission: Box::new(one.clone()),
            digest: Some([digest; 32]),
            launching: false,
        };
        (one, change)
    };
    let (one, first) = keyed(1, 1001, 1);
    let taken = |same| CommitOutcome::KeyTaken {
        id: id(1),
        number: 1,
        is_same_request: same,
    };
    // All in one transaction: what comes later sees what came before.
    let outcomes = bed.write([
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
    bed.commit([finished(&one, Status::Failed)]);
    let bed = bed.again().await;
    let numbers: Vec<u64> = bed
        .loaded
        .unfinished
        .iter()
        .map(|one| one.submission.number)
        .collect();
    assert_eq!(
        numbers,
        [4],
        "nothing was written of those that were not taken"
    );
    assert_eq!(
        bed.write([keyed(5, 1001, 1).1]),
        [taken(true)],
        "finished or not"
    );
    let again = [Change::Removed { numbers: vec![1] }, keyed(6, 1001, 2).1];
    let removed = Removed {
        executions: 1,
        log_bytes: 0,
    };
    let removed = CommitOutcome::Removed(removed, vec![id(1)]);
    assert_eq!(bed.write(again), [removed, committed]);
}

#[tokio::test]
async fn a_number_or_id_that_is_there_already_is_refused_and_the_rest_goes_on() {
    let bed = Bed::new();
    let (one, other) = (submission(1), submission(2));
    let mut same_id = submission(3);
    same_id.id = id(1);
    let outcomes = bed.write([&one, &one, &same_id, &other].map(submitted));
    assert!(matches!(
        outcomes.as_slice(),
        [
            CommitOutcome::Committed,
            CommitOutcome::Refused(_),
            CommitOutcome::Refused(_),
            CommitOutcome::Committed
        ]
    ));
    let loaded = bed.again().await.loaded;
    let kept: Vec<Submission> = loaded
        .unfinished
        .into_iter()
        .map(|one| one.submission)
        .collect();
    assert_eq!(kept, [one, other]);
}

#[tokio::test]
async fn removed_executions_are_gone_and_their_logs_are_remembered_until_deleted() {
    let bed = Bed::new();
    let mut changes: Vec<Change> = Vec::new();
    for number in 1..=4 {
        let mut one = submission(number);
        one.request.labels = vec![("team".into(), "blue".into())];
        let mut record = ended(&one, Status::Completed);
        if number == 3 {
            record = ended(&one, Status::Lost);
        }
        if number == 2
            && let Some(outcome) = &mut record.outcome
        {
            outcome.output.log_bytes = 1000;
        }
        changes.extend([submitted(&one), over(record)]);
    }
    bed.commit(changes);
    let removed = Removed {
        executions: 3,
        log_bytes: 1000,
    };
    let said = bed.write([Change::Removed {
        numbers: vec![1, 2, 3],
    }]);
    assert_eq!(
        said,
        [CommitOutcome::Removed(removed, vec![id(1), id(2), id(3)])]
    );
    assert_eq!(bed.store.finished_count(), 1);
    let bed = bed.again().await;
    let left: Vec<u64> = bed.all().await.iter().map(|record| record.number).collect();
    assert_eq!((left, bed.store.finished_count()), (vec![4], 1));
    assert_eq!(bed.record(2).await, None);
    let mut logs = bed.loaded.undeleted_logs.clone();
    logs.sort_unstable();
    assert_eq!(logs, [id(1), id(2), id(3)], "whether they have one or not");
    bed.commit([
        Change::LogsDeleted {
            ids: vec![id(1), id(2), id(3)],
        },
        Change::Removed { numbers: vec![4] },
        Change::LogsDeleted { ids: vec![id(4)] },
    ]);
    let bed = bed.again().await;
    assert!(bed.loaded.undeleted_logs.is_empty());
    assert_eq!(bed.loaded.last_number, 4, "a number is not given twice");
}

#[tokio::test]
async fn the_last_events_are_kept_in_order_and_only_with_their_changes() {
    let bed = Bed::new();
    let mut keyed = submission(1);
    keyed.request.key = Some("k".into());
    let with = |ticket, change, sequence| ChangeEntry {
        ticket,
        change,
        events: vec![event(sequence, 1, EventKind::Submitted)],
    };
    let refused = with(
        1,
        submitted(&Submission {
            number: 2,
            id: id(2),
            ..keyed.clone()
        }),
        999,
    );
    bed.store
        .write(vec![with(0, submitted(&keyed), 1), refused]);
    assert!(matches!(bed.outcomes(2)[1], CommitOutcome::KeyTaken { .. }));
    let bed = bed.again().await;
    assert_eq!(bed.loaded.events, [event(1, 1, EventKind::Submitted)]);

    let starts =
        (2..=5000).map(|sequence| with(sequence, Change::Launching { number: 1 }, sequence));
    bed.store.write(starts.collect());
    bed.outcomes(4999);
    let bed = bed.again().await;
    let sequences: Vec<u64> = bed
        .loaded
        .events
        .iter()
        .map(|event| event.sequence)
        .collect();
    assert_eq!(sequences, (4901..=5000).collect::<Vec<u64>>());
    let database = rusqlite::Connection::open(bed.path()).unwrap();
    let rows: i64 = database
        .query_row("SELECT count(*) FROM event", [], |row| row.get(0))
        .unwrap();
    assert!(rows < 2000, "{rows} events are on disk");
}

#[tokio::test]
async fn the_environment_of_a_finished_command_is_nowhere_on_disk() {
    let bed = Bed::new();
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
    bed.commit([submitted(&one)]);
    assert!(holds_secret(bed.dir.path()), "while it is needed");
    bed.commit([finished(&one, Status::Completed)]);
    let bed = bed.again().await;
    assert!(!holds_secret(bed.dir.path()));
}

#[tokio::test]
async fn the_files_are_for_the_owner_alone_whatever_they_were() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::new();
    bed.commit([submitted(&submission(1))]);
    bed.store.close(DEADLINE).await.unwrap();
    std::fs::set_permissions(bed.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let bed = Bed::on(bed.dir);
    bed.commit([submitted(&submission(2))]);
    for entry in std::fs::read_dir(bed.dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
}
