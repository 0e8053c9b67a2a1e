//! A store that cannot be written for a while.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::super::damage::DamageMarker;
use super::super::disk_reserve::DiskReserve;
use super::known_keys::KnownKeys;
use super::metrics::StoreMetrics;
use super::writer::{Writer, WriterMessage};
use super::*;

type CommitOutcomes = Rc<RefCell<Vec<(u64, CommitOutcome)>>>;

/// Returns a writer without its thread, and the outcomes that it reports.
#[expect(clippy::type_complexity, reason = "a closure has no name")]
fn writer(
    dir: &Path,
) -> (
    Writer<impl Fn(Vec<(u64, CommitOutcome)>) + use<>>,
    CommitOutcomes,
) {
    let path = store_path(dir);
    let (opened, _) = super::super::open::open(&path, SETTINGS).unwrap();
    let outcomes = CommitOutcomes::default();
    let on_outcomes = {
        let outcomes = Rc::clone(&outcomes);
        move |some| outcomes.borrow_mut().extend(some)
    };
    let writer = Writer {
        damage: Arc::new(DamageMarker::new(&path)),
        path,
        connection: opened.connection,
        state: opened.state,
        users: opened.users,
        numbers: opened.numbers,
        disk_reserve: DiskReserve::new(dir.to_owned(), Arc::default()),
        on_outcomes,
        history: tokio::sync::watch::Sender::default(),
        metrics: StoreMetrics::default(),
        journal: None,
        known_keys: Arc::new(KnownKeys::new()),
        queue: VecDeque::new(),
        backlog_since: None,
        delayed: 0,
        is_failing: false,
        catch_ups: Vec::new(),
        flushes: Vec::new(),
        close: None,
    };
    (writer, outcomes)
}

/// Returns a submission whose command fills many pages.
fn large(number: u64) -> Submission {
    let mut one = submission(number);
    one.request.command = Command::Exec {
        argv: vec![vec![b'x'; 200_000].into()],
    };
    one
}

fn limit_pages(connection: &rusqlite::Connection, pages: u32) {
    let set = connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
    set.unwrap();
}

#[test]
fn a_full_store_refuses_submissions_at_once_and_keeps_the_rest_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reported) = writer(dir.path());
    let write = |writer: &mut Writer<_>, changes: Vec<(u64, Change)>| {
        let entries = changes
            .into_iter()
            .map(|(ticket, change)| entry(ticket, change));
        writer.accept(WriterMessage::Write(entries.collect()));
        writer.write_queue();
        std::mem::take(&mut *reported.borrow_mut())
    };
    let (one, two) = (submission(1), large(2));
    let outcomes = write(
        &mut writer,
        vec![(1, submitted(&one)), (2, submitted(&two))],
    );
    assert_eq!(
        outcomes,
        [(1, CommitOutcome::Committed), (2, CommitOutcome::Committed)]
    );

    // Small changes still fit into the existing pages; a large record does not.
    limit_pages(&writer.connection, 1);
    let outcomes = write(
        &mut writer,
        vec![
            (3, admission(1)),
            (4, submitted(&large(3))),
            (5, finished(&two, Status::Failed)),
            (6, finished(&one, Status::Completed)),
        ],
    );
    let [(4, CommitOutcome::Refused(reason)), later @ ..] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    let delayed = [3, 5, 6].map(|ticket| (ticket, CommitOutcome::Delayed));
    assert_eq!(later, delayed, "each is reported as delayed once");
    assert!(
        reason.contains("full") && reason.contains("escher.db"),
        "{reason}"
    );
    // A later submission is refused as well while earlier changes wait.
    let outcomes = write(&mut writer, vec![(7, submitted(&submission(4)))]);
    assert!(
        matches!(outcomes.as_slice(), [(7, CommitOutcome::Refused(_))]),
        "{outcomes:?}"
    );
    let (responder, mut flushed) = tokio::sync::oneshot::channel();
    writer.accept(WriterMessage::Flush(responder));
    writer.write_queue();
    assert!(flushed.try_recv().is_err(), "a flush waits for the backlog");

    limit_pages(&writer.connection, u32::MAX - 1);
    let outcomes = write(&mut writer, vec![(8, submitted(&submission(5)))]);
    let tickets: Vec<u64> = outcomes.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [3, 5, 6, 8]);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_committed()));
    assert!(flushed.try_recv().is_ok());
    drop(writer);

    let test = TestStore::open_in(dir);
    assert_eq!(
        test.unfinished_numbers(),
        [5],
        "refused submissions are not written later"
    );
    assert_eq!(runtime().block_on(test.store.finished_count()), 2);
}

#[tokio::test]
async fn what_is_accepted_is_recorded_in_the_reserve_and_nothing_else_is() {
    let test = TestStore::new();
    let one = submission(1);
    test.commit([submitted(&one)]);
    test.store.set_min_free_bytes(u64::MAX);
    let outcomes = test.write([
        submitted(&submission(2)),
        submitted(&submission(3)),
        admission(1),
    ]);
    let [
        CommitOutcome::Refused(reason),
        CommitOutcome::Refused(_),
        CommitOutcome::Committed,
    ] = outcomes.as_slice()
    else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("store.min_free_bytes"), "{reason}");
    test.commit([finished(&one, Status::Completed)]);
    test.store.set_min_free_bytes(0);
    test.commit([submitted(&submission(4))]);
    assert_eq!(test.reopen().await.unfinished_numbers(), [4]);
}

/// It was refused like a new one, and its end was dropped.
#[tokio::test]
async fn what_a_shim_brings_back_is_recorded_in_the_reserve() {
    let test = TestStore::new();
    test.store.set_min_free_bytes(u64::MAX);
    let one = submission(1);
    let restored = Change::Restored {
        submission: Box::new(one.clone()),
        digest: None,
    };
    test.commit([restored, finished(&one, Status::Completed)]);
    let test = test.reopen().await;
    let expected = [record_of(&one, Status::Completed)];
    assert_eq!(test.all_records().await, expected);
}

#[tokio::test]
async fn a_locked_store_is_retried_on_its_own() {
    let test = TestStore::new();
    let one = submission(1);
    test.commit([submitted(&one)]);
    let operator = rusqlite::Connection::open(test.path()).unwrap();
    operator.execute_batch("BEGIN IMMEDIATE").unwrap();
    test.store.write(vec![
        entry(7, submitted(&submission(2))),
        entry(8, finished(&one, Status::Completed)),
    ]);
    let outcomes = test.outcomes.recv_timeout(DEADLINE).unwrap();
    assert!(
        matches!(
            outcomes.as_slice(),
            [(7, CommitOutcome::Refused(_)), (8, CommitOutcome::Delayed)]
        ),
        "{outcomes:?}"
    );
    assert_eq!(test.store.flush(Duration::ZERO).await, Err(FlushTimeout));
    operator.execute_batch("ROLLBACK").unwrap();
    let outcomes = test.outcomes.recv_timeout(DEADLINE).unwrap();
    let finished = CommitOutcome::Finished { log_bytes: 0 };
    assert_eq!(outcomes, [(8, finished)]);
    assert_eq!(test.store.flush(DEADLINE).await, Ok(()));
    assert_eq!(
        test.all_records().await,
        [record_of(&one, Status::Completed)]
    );
}

#[tokio::test]
async fn a_table_that_an_operator_dropped_is_missed_and_the_next_start_replaces_the_store() {
    let test = TestStore::new();
    let one = submission(1);
    test.commit(submitted_and_finished(&one, Status::Completed));
    // As if an operator had made a mistake.
    let operator = rusqlite::Connection::open(test.path()).unwrap();
    operator.execute_batch("DROP TABLE submission").unwrap();
    let outcomes = test.write([submitted(&submission(2))]);
    let [CommitOutcome::Refused(reason)] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("no such table"), "{reason}");
    let report = damage_report(&test.path()).unwrap();
    assert!(!report.is_damaged, "SQLite has only refused a statement");
    drop(operator);
    let test = test.reopen().await;
    let file = test.quarantined_file();
    assert!(
        file.reason.contains("submission") && file.to.exists(),
        "{file:?}"
    );
    assert_eq!(
        (file.salvaged, test.all_records().await),
        (1, vec![record_of(&one, Status::Completed)])
    );
    test.commit([submitted(&submission(2))]);
    let test = test.reopen().await;
    assert!(test.quarantined.is_empty(), "the mark of damage is removed");
}
