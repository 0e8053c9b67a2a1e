//! Requests that are too large to be kept in memory.

use super::*;
use crate::execution::{Extent, kept_command};

/// Returns a submission with a long argument and a long variable.
fn large(number: u64) -> Submission {
    let mut large = submission(number);
    let text = Blob::from(vec![b'x'; 100_000]);
    large.request.command = Command::Exec {
        argv: vec!["echo".into(), text.clone()],
    };
    large.request.environment = vec![("X".into(), text)];
    large
}

/// Returns what memory has of a submission.
fn kept(whole: &Submission) -> Submission {
    let mut kept = whole.clone();
    let extent = kept.shorten_if_large();
    assert_eq!(extent, Extent::Shortened { command_cut: true });
    kept
}

/// Returns an end whose record has as much of the command as memory.
fn finished_cut(whole: &Submission) -> Change {
    let mut record = record_of(&kept(whole), Status::Cancelled);
    record.command_cut = true;
    Change::Finished {
        record: Box::new(record),
    }
}

fn admitted_and_read(number: u64) -> Change {
    Change::Admitted {
        number,
        reads_submission: true,
    }
}

/// Changes what is on the disk as the request of an execution.
fn damage(test: &TestStore, number: u64) {
    let connection = rusqlite::Connection::open(test.path()).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    let sql = "UPDATE submission SET body = zeroblob(length(body)) WHERE number = ?1";
    assert_eq!(connection.execute(sql, [columns::signed(number)]), Ok(1));
}

#[tokio::test]
async fn a_start_loads_what_is_kept_with_the_size_and_the_digest_of_the_whole() {
    let whole = large(1);
    let test = TestStore::new();
    test.commit([Change::Submitted {
        submission: Box::new(whole.clone()),
        digest: Some([7; 32]),
        is_admitted: false,
    }]);
    let test = test.reopen().await;
    let [loaded] = test.loaded.unfinished.as_slice() else {
        panic!("{:?}", test.loaded)
    };
    assert_eq!(loaded.submission, kept(&whole));
    assert_eq!(loaded.extent, Extent::Shortened { command_cut: true });
    assert!(loaded.request_bytes > 200_000);
    assert_eq!(loaded.digest, Some([7; 32]));
}

#[tokio::test]
async fn an_admission_returns_the_whole_request_and_an_end_keeps_what_records_keep() {
    let whole = large(1);
    let test = TestStore::new();
    test.commit([submitted(&whole)]);
    let command = |id| test.store.command(None, 1, id);
    let expected = Some((whole.request.command.clone(), false));
    assert_eq!(command(id(1)).await, Ok(expected));
    assert_eq!(command(id(2)).await, Ok(None), "of another execution");
    let outcomes = test.write([admitted_and_read(1)]);
    let read = CommitOutcome::Admitted(Some(Box::new(whole.clone())));
    assert_eq!(outcomes, [read]);
    test.commit([finished_cut(&whole)]);
    let record = test.record(1).await.unwrap();
    let (kept, command_cut) = kept_command(&whole.request.command);
    let expected = ExecutionRecord {
        command: kept,
        command_cut,
        ..record_of(&whole, Status::Cancelled)
    };
    assert_eq!(record, expected);
    let expected = Some(kept_command(&whole.request.command));
    assert_eq!(command(id(1)).await, Ok(expected));
    assert_eq!(command(id(2)).await, Ok(None), "of another execution");
    test.commit([Change::Removed { numbers: vec![1] }]);
    assert_eq!(command(id(1)).await, Ok(None), "it was removed");
}

#[tokio::test]
async fn a_damaged_request_stops_no_change_to_it_or_to_others() {
    let [damaged, other] = [large(1), large(2)];
    let test = TestStore::new();
    test.commit([submitted(&damaged), submitted(&other)]);
    damage(&test, 1);
    assert!(test.store.command(None, 1, id(1)).await.is_err());
    let outcomes = test.write([admitted_and_read(1), admitted_and_read(2)]);
    let read = CommitOutcome::Admitted(Some(Box::new(other.clone())));
    assert_eq!(outcomes, [CommitOutcome::Admitted(None), read]);
    test.commit([finished_cut(&damaged), finished_cut(&other)]);
    let record = test.record(1).await.unwrap();
    assert_eq!(
        (record.status, record.command_cut),
        (Status::Cancelled, true)
    );
    let kept = kept_command(&other.request.command).0;
    assert_eq!(test.record(2).await.unwrap().command, kept);
    assert_ne!(record.command, kept, "nothing better is known");
}
