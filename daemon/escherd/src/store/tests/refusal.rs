//! A store that cannot be written, and then can.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::metrics::Figures;
use super::quarantine::Damage;
use super::writer::{Message, Writer};
use super::*;

type CommitOutcomes = Rc<RefCell<Vec<(u64, CommitOutcome)>>>;

/// A writer without its thread, and what it has said.
#[expect(clippy::type_complexity, reason = "a closure has no name")]
fn writer(
    dir: &Path,
) -> (
    Writer<impl Fn(Vec<(u64, CommitOutcome)>) + use<>>,
    CommitOutcomes,
) {
    let path = file(dir);
    let (opened, _) = super::super::open::open(&path, SETTINGS).unwrap();
    let outcomes = CommitOutcomes::default();
    let settled = {
        let outcomes = Rc::clone(&outcomes);
        move |some| outcomes.borrow_mut().extend(some)
    };
    let writer = Writer {
        damage: Arc::new(Damage::none(&path)),
        path,
        connection: opened.connection,
        state: opened.state,
        max_events: 100,
        settled,
        finished: Arc::new(AtomicU64::new(0)),
        figures: Figures::default(),
        queue: VecDeque::new(),
        delayed: 0,
        is_failing: false,
        flushes: Vec::new(),
        close: None,
    };
    (writer, outcomes)
}

/// A submission whose command fills many pages.
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
fn a_full_store_refuses_what_is_new_at_once_and_keeps_the_rest_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, outcomes) = writer(dir.path());
    let write = |writer: &mut Writer<_>, changes: Vec<(u64, Change)>| {
        let entries = changes
            .into_iter()
            .map(|(ticket, change)| entry(ticket, change));
        writer.take(Message::Write(entries.collect()));
        writer.work();
        std::mem::take(&mut *outcomes.borrow_mut())
    };
    let (one, two) = (submission(1), large(2));
    let said = write(
        &mut writer,
        vec![(1, submitted(&one)), (2, submitted(&two))],
    );
    assert_eq!(
        said,
        [(1, CommitOutcome::Committed), (2, CommitOutcome::Committed)]
    );

    // Small changes still find room in the pages that are there; a large record does not.
    limit_pages(&writer.connection, 1);
    let said = write(
        &mut writer,
        vec![
            (3, Change::Launching { number: 1 }),
            (4, submitted(&large(3))),
            (5, finished(&two, Status::Failed)),
            (6, finished(&one, Status::Completed)),
        ],
    );
    let [(4, CommitOutcome::Refused(reason)), later @ ..] = said.as_slice() else {
        panic!("{said:?}")
    };
    let delayed = [3, 5, 6].map(|ticket| (ticket, CommitOutcome::Delayed));
    assert_eq!(later, delayed, "what stays is said to, once");
    assert!(
        reason.contains("full") && reason.contains("escher.db"),
        "{reason}"
    );
    // So is what comes later, while something waits that has to come before it.
    let said = write(&mut writer, vec![(7, submitted(&submission(4)))]);
    assert!(
        matches!(said.as_slice(), [(7, CommitOutcome::Refused(_))]),
        "{said:?}"
    );
    let (done, mut flushed) = tokio::sync::oneshot::channel();
    writer.take(Message::Flush(done));
    writer.work();
    assert!(flushed.try_recv().is_err(), "there is a backlog");

    limit_pages(&writer.connection, u32::MAX - 1);
    let said = write(&mut writer, vec![(8, submitted(&submission(5)))]);
    let tickets: Vec<u64> = said.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [3, 5, 6, 8]);
    assert!(
        said.iter()
            .all(|(_, outcome)| *outcome == CommitOutcome::Committed)
    );
    assert!(flushed.try_recv().is_ok());
    drop(writer);

    let bed = Bed::on(dir);
    let numbers: Vec<u64> = bed
        .loaded
        .unfinished
        .iter()
        .map(|one| one.submission.number)
        .collect();
    assert_eq!(numbers, [5], "what was refused never comes");
    assert_eq!(bed.store.finished_count(), 2);
}

#[tokio::test]
async fn a_locked_store_is_tried_again_without_being_asked() {
    let bed = Bed::new();
    let one = submission(1);
    bed.commit([submitted(&one)]);
    let operator = rusqlite::Connection::open(bed.path()).unwrap();
    operator.execute_batch("BEGIN IMMEDIATE").unwrap();
    bed.store.write(vec![
        entry(7, submitted(&submission(2))),
        entry(8, finished(&one, Status::Completed)),
    ]);
    let said = bed.outcomes.recv_timeout(DEADLINE).unwrap();
    assert!(
        matches!(
            said.as_slice(),
            [(7, CommitOutcome::Refused(_)), (8, CommitOutcome::Delayed)]
        ),
        "{said:?}"
    );
    assert_eq!(bed.store.flush(Duration::ZERO).await, Err(FlushTimeout));
    operator.execute_batch("ROLLBACK").unwrap();
    let said = bed.outcomes.recv_timeout(DEADLINE).unwrap();
    assert_eq!(said, [(8, CommitOutcome::Committed)]);
    assert_eq!(bed.store.flush(DEADLINE).await, Ok(()));
    assert_eq!(bed.all().await, [ended(&one, Status::Completed)]);
}

#[tokio::test]
async fn damage_that_the_writer_meets_is_said_and_the_next_start_begins_anew() {
    let bed = Bed::new();
    let one = submission(1);
    bed.commit(whole(&one, Status::Completed));
    // An operator's accident.
    let operator = rusqlite::Connection::open(bed.path()).unwrap();
    operator.execute_batch("DROP TABLE submission").unwrap();
    let said = bed.write([submitted(&submission(2))]);
    let [CommitOutcome::Refused(reason)] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(
        reason.contains("damaged") && reason.contains("restart"),
        "{reason}"
    );
    drop(operator);
    let bed = bed.again().await;
    let [notice] = bed.notices.as_slice() else {
        panic!("{:?}", bed.notices)
    };
    assert!(
        notice.reason.contains("submission") && notice.to.exists(),
        "{notice:?}"
    );
    assert_eq!(
        (notice.salvaged, bed.all().await),
        (1, vec![ended(&one, Status::Completed)])
    );
    bed.commit([submitted(&submission(2))]);
    let bed = bed.again().await;
    assert!(bed.notices.is_empty(), "the mark of damage is gone");
}
