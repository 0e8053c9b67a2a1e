//! Tests of the store through its handle, on real files.

mod changes;
mod cost;
mod damage;
mod history;
mod journal;
mod large;
mod migration;
mod owners;
mod page;
mod queries;
mod refusal;
mod resources;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use escher_protocol::message::{Event, EventKind, ListFilter, Selection};
use escher_protocol::{
    ApiError, Blob, Canceller, Command, ErrorCode, ExecutionId, ExecutionRecord, ExecutionRequest,
    Exit, Leftovers, Outcome, OutputTotals, Parts, ResourceLimits, Resources, SentSignals, Status,
    Timestamp, Usage, User,
};
use tempfile::TempDir;

use super::*;
use crate::execution::sample;

/// Far longer than any step takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// 2026-01-02T00:30:00Z in microseconds; execution n is submitted n minutes later.
const EPOCH: i64 = 1_767_313_800_000_000;
const MINUTE: i64 = 60_000_000;

const SETTINGS: StoreSettings = StoreSettings {
    durability: Durability::Crash,
    min_free_bytes: 0,
};

/// An open store in a directory of its own.
struct TestStore {
    dir: TempDir,
    store: Store,
    loaded: LoadedState,
    quarantined: Vec<QuarantinedFile>,
    outcomes: Receiver<Vec<(u64, CommitOutcome)>>,
}

impl TestStore {
    fn new() -> Self {
        Self::open_in(tempfile::tempdir().unwrap())
    }

    fn open_in(dir: TempDir) -> Self {
        let (sender, outcomes) = channel();
        let on_outcomes = move |outcomes| {
            let _ = sender.send(outcomes);
        };
        let (store, loaded, quarantined) =
            open(&store_path(dir.path()), SETTINGS, on_outcomes).unwrap();
        TestStore {
            dir,
            store,
            loaded,
            quarantined,
            outcomes,
        }
    }

    /// Closes the store and opens it again.
    async fn reopen(self) -> Self {
        self.store.close(DEADLINE).await.unwrap();
        Self::open_in(self.dir)
    }

    /// Opens a copy of the files as a `kill -9` would leave them now.
    fn reopen_after_crash(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The journal first: what leaves it meanwhile is in the database.
        for from in super::journal::paths(&self.path()) {
            let to = dir.path().join(from.file_name().unwrap());
            std::fs::copy(from, to).unwrap();
        }
        for suffix in ["", "-wal"] {
            let from = quarantine::with_suffix(&self.path(), suffix);
            if from.exists() {
                std::fs::copy(
                    from,
                    quarantine::with_suffix(&store_path(dir.path()), suffix),
                )
                .unwrap();
            }
        }
        Self::open_in(dir)
    }

    fn path(&self) -> PathBuf {
        store_path(self.dir.path())
    }

    /// Writes `changes` with tickets from 0 on, and returns their outcomes.
    fn write(&self, changes: impl IntoIterator<Item = Change>) -> Vec<CommitOutcome> {
        let entries: Vec<ChangeEntry> = (0..)
            .zip(changes)
            .map(|(ticket, change)| entry(ticket, change))
            .collect();
        let count = entries.len();
        self.store.write(entries);
        self.outcomes(count)
    }

    /// Returns the next `count` outcomes; they have to come in the order of the tickets.
    fn outcomes(&self, count: usize) -> Vec<CommitOutcome> {
        let mut received = Vec::new();
        while received.len() < count {
            received.extend(self.outcomes.recv_timeout(DEADLINE).unwrap());
        }
        let (tickets, outcomes): (Vec<u64>, Vec<CommitOutcome>) = received.into_iter().unzip();
        assert!(tickets.is_sorted() && outcomes.len() == count);
        outcomes
    }

    /// Writes `changes`; all have to be committed.
    fn commit(&self, changes: impl IntoIterator<Item = Change>) {
        for outcome in self.write(changes) {
            assert!(outcome.is_committed(), "{outcome:?}");
        }
    }

    async fn all_records(&self) -> Vec<ExecutionRecord> {
        list_all(&self.store, None, &select_all(), u64::MAX, 10_000).await
    }

    /// Returns the numbers of the finished executions, the newest first.
    async fn finished_numbers(&self) -> Vec<u64> {
        let records = self.all_records().await;
        records.iter().map(|record| record.number).collect()
    }

    /// Returns the numbers of the executions that were unfinished when the store was opened.
    fn unfinished_numbers(&self) -> Vec<u64> {
        let unfinished = self.loaded.unfinished.iter();
        unfinished.map(|found| found.submission.number).collect()
    }

    /// Returns the one file that was set aside when the store was opened.
    fn quarantined_file(&self) -> &QuarantinedFile {
        let [file] = self.quarantined.as_slice() else {
            panic!("{:?}", self.quarantined)
        };
        file
    }

    async fn record(&self, number: u64) -> Option<ExecutionRecord> {
        let target = number.to_string().as_str().into();
        let found = self.store.find(LookupScope::ALL, &target).await.unwrap();
        found.and_then(|found| found.record).map(|record| *record)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn store_path(dir: &Path) -> PathBuf {
    dir.join("escher.db")
}

fn entry(ticket: u64, change: Change) -> ChangeEntry {
    ChangeEntry {
        ticket,
        change,
        events: Vec::new(),
        dropped_events: Vec::new(),
    }
}

/// Lists page by page until there are `limit` records or no more.
async fn list_all(
    store: &Store,
    submitter: Option<u32>,
    selection: &Selection,
    before: u64,
    limit: usize,
) -> Vec<ExecutionRecord> {
    let (mut records, mut next) = (Vec::new(), Some(before));
    while let Some(before) = next.filter(|_| records.len() < limit) {
        let rest = limit - records.len();
        let page = store
            .list(submitter.map(user), selection.clone(), 0..before, rest)
            .await;
        let page = page.unwrap();
        records.extend(page.found);
        next = page.next;
    }
    records
}

fn select_all() -> Selection {
    Selection {
        filter: ListFilter {
            all: true,
            ..ListFilter::default()
        },
        ..Selection::default()
    }
}

fn user(uid: u32) -> User {
    let name = match uid {
        0 => Some("root".into()),
        1001 => Some("alice".into()),
        1002 => Some("bob".into()),
        _ => None,
    };
    User { uid, name }
}

/// Returns an id that rises with `number` and whose tail differs for each.
fn id(number: u64) -> ExecutionId {
    let mut bytes = [0x11; 16];
    bytes[..8].copy_from_slice(&(0x0192_0f3e_0000_0000 + number).to_be_bytes());
    bytes[10..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[..6]);
    ExecutionId::from_bytes(bytes)
}

fn at(number: u64) -> Timestamp {
    Timestamp::from_micros(EPOCH + i64::try_from(number).unwrap() * MINUTE)
}

/// Returns a submission of alice's, with a secret in its environment.
fn submission(number: u64) -> Submission {
    let request = ExecutionRequest {
        command: Command::Exec {
            argv: vec!["echo".into(), number.to_string().as_str().into()],
        },
        environment: vec![("TOKEN".into(), SECRET.into())],
        ..ExecutionRequest::default()
    };
    Submission {
        id: id(number),
        submitted_at: at(number),
        log_path: format!("/nowhere/{}.log", id(number)).as_str().into(),
        lacks_inherited: false,
        ..sample::submission(number, request)
    }
}

const SECRET: &str = "correct-horse-battery-staple";

/// Returns the record of `submission` as finished with `status` a second later, without output.
fn record_of(submission: &Submission, status: Status) -> ExecutionRecord {
    let request = &submission.request;
    let submitted_at = submission.submitted_at;
    let error = |code| Some(ApiError::new(code, "it failed"));
    let (exit, error) = match status {
        Status::Completed => (Exit::Code(0), None),
        Status::Failed => (Exit::Code(3), error(ErrorCode::EXIT_STATUS)),
        Status::Cancelled => (Exit::Withdrawn, error(ErrorCode::CANCELLED)),
        Status::Lost => (Exit::Unknown, error(ErrorCode::LOST)),
        _ => (
            Exit::Signal {
                signal: 15,
                core_dumped: false,
            },
            error(ErrorCode::TIMED_OUT),
        ),
    };
    ExecutionRecord {
        id: submission.id,
        number: submission.number,
        name: request.name.clone(),
        key: request.key.clone(),
        status,
        waits_for: None,
        user: submission.account.user.clone(),
        submitted_by: submission.submitter.clone(),
        command: request.command.clone(),
        command_cut: false,
        working_dir: "/".into(),
        stdin: request.stdin,
        labels: request.labels.clone(),
        timeout_ms: submission.timeouts.timeout_ms,
        kill_grace_ms: submission.timeouts.kill_grace_ms,
        drain_ms: submission.timeouts.drain_ms,
        kill_mode: submission.request.kill_mode,
        submitted_at,
        started_at: Some(submitted_at),
        completed_at: Some(submitted_at.saturating_add(Duration::from_secs(1))),
        pid: None,
        cancelled_by: (status == Status::Cancelled).then_some(Canceller::Host),
        signals: SentSignals::default(),
        log_path: submission.log_path.clone(),
        log_removed: false,
        outcome: Some(Outcome {
            exit,
            error,
            ended_by_signal: None,
            duration_us: 1_000_000,
            usage: Usage::default(),
            output: OutputTotals::default(),
            leftovers: Leftovers::None,
        }),
        resources: Resources {
            limits: request.limits,
            process: request.process.clone(),
            ..Resources::default()
        },
        parts: Parts::new(),
    }
}

fn submitted(submission: &Submission) -> Change {
    Change::Submitted {
        submission: Box::new(submission.clone()),
        digest: None,
        is_admitted: false,
    }
}

fn admission(number: u64) -> Change {
    Change::Admitted {
        number,
        reads_submission: false,
    }
}

fn finished(submission: &Submission, status: Status) -> Change {
    finished_with(record_of(submission, status))
}

/// The end of an execution with this record.
fn finished_with(record: ExecutionRecord) -> Change {
    Change::Finished {
        record: Box::new(record),
    }
}

/// The submission and the end of an execution.
fn submitted_and_finished(submission: &Submission, status: Status) -> [Change; 2] {
    [submitted(submission), finished(submission, status)]
}

fn event(sequence: u64, number: u64, kind: EventKind) -> Event {
    Event {
        sequence,
        time: at(number),
        id: id(number),
        number,
        name: None,
        user: user(1001),
        kind,
    }
}
