//! Measures a store with a long history: opening it, querying it, writing to it.
//!
//! `cargo bench -p escherd --bench store [-- EXECUTIONS]` creates a store of EXECUTIONS [1,000,000]
//! finished executions in a temporary directory (about 1.5 GB, below `TMPDIR`) and prints times. The
//! pages are in the kernel's cache, as those of a store in use are.

// A benchmark reports failures by panics and results on standard output.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use escher_protocol::message::{Event, EventKind, ListFilter, Selection};
use escher_protocol::{
    ApiError, Command, ErrorCode, ExecutionId, ExecutionRecord, ExecutionRequest, Exit, Leftovers,
    Outcome, OutputTotals, Parts, Resources, SentSignals, Status, Text, Timestamp, Usage, User,
};
use escherd::authz::Account;
use escherd::execution::{Submission, Timeouts};
use escherd::store::{
    self, Change, ChangeEntry, CommitOutcome, Durability, HistoryLimits, Intake, LoadedState,
    LookupScope, Store, StoreSettings,
};

const EXECUTIONS: u64 = 1_000_000;
const ROUNDS: u32 = 20;
const DEADLINE: Duration = Duration::from_secs(600);
/// 2026-01-01T00:00:00Z in microseconds, and the time from one submission to the next.
const EPOCH: i64 = 1_767_225_600_000_000;
const INTERVAL: i64 = 10_000_000;

struct OpenStore {
    store: Store,
    intake: Intake,
    outcomes: Receiver<Vec<(u64, CommitOutcome)>>,
    loaded: LoadedState,
}

fn open(path: &Path, durability: Durability) -> OpenStore {
    let (sender, outcomes) = channel();
    let settings = StoreSettings {
        min_free_bytes: 0,
        durability,
    };
    let on_outcomes = move |outcomes| {
        let _ = sender.send(outcomes);
    };
    let (store, loaded, notices) = store::open(path, settings, on_outcomes).unwrap();
    assert!(notices.is_empty());
    OpenStore {
        intake: store.intake(),
        store,
        outcomes,
        loaded,
    }
}

impl OpenStore {
    /// Waits until `entries` are committed, to the journal or to the database.
    fn commit(&mut self, entries: Vec<ChangeEntry>) {
        let mut awaited: HashSet<u64> = entries.iter().map(|entry| entry.ticket).collect();
        let mut outcomes = self.intake.write(entries);
        loop {
            for (ticket, outcome) in outcomes {
                assert!(outcome.is_committed());
                awaited.remove(&ticket);
            }
            if awaited.is_empty() {
                return;
            }
            outcomes = self.outcomes.recv_timeout(DEADLINE).unwrap();
            self.intake.note_outcomes(&outcomes);
        }
    }
}

fn at(number: u64) -> Timestamp {
    Timestamp::from_micros(EPOCH + i64::try_from(number).unwrap() * INTERVAL)
}

fn user(uid: u32) -> User {
    User {
        uid,
        name: Some(format!("user{uid}").into()),
    }
}

/// Returns a submission by one of ten users, with one of a hundred names or none, and two labels.
fn submission(number: u64) -> Submission {
    let user = user(1000 + u32::try_from(number % 10).unwrap());
    let label = |key: &str, value: u64| -> (Text, Text) { (key.into(), value.to_string().into()) };
    Submission {
        id: ExecutionId::generate(),
        number,
        request: Box::new(ExecutionRequest {
            name: number
                .is_multiple_of(3)
                .then(|| format!("job{}", number % 100).into()),
            command: Command::Exec {
                argv: ["make", "-j4", "CHECK=full", "all"]
                    .map(Into::into)
                    .to_vec(),
            },
            environment: vec![("CI".into(), "1".into())],
            labels: vec![label("stage", number % 4), label("build", number / 20)],
            ..ExecutionRequest::default()
        }),
        timeouts: Timeouts {
            timeout_ms: Some(600_000),
            kill_grace_ms: 10_000,
            drain_ms: 2_000,
        },
        submitter: user.clone(),
        account: Account {
            user,
            home: "/home/user".into(),
            shell: "/bin/sh".into(),
            identity: None,
        },
        submitted_at: at(number),
        log_path: format!("/var/log/escher/{number}.log").as_str().into(),
        lacks_inherited: false,
    }
}

/// Returns the record of a finished execution; one in 50 failed.
fn record(submission: &Submission) -> ExecutionRecord {
    let request = &submission.request;
    let failed = submission.number.is_multiple_of(50);
    let (status, code) = if failed {
        (Status::Failed, 2)
    } else {
        (Status::Completed, 0)
    };
    ExecutionRecord {
        id: submission.id,
        number: submission.number,
        name: request.name.clone(),
        key: None,
        status,
        waits_for: None,
        user: submission.account.user.clone(),
        submitted_by: submission.submitter.clone(),
        command: request.command.clone(),
        command_cut: false,
        working_dir: "/srv/build".into(),
        stdin: request.stdin,
        labels: request.labels.clone(),
        timeout_ms: submission.timeouts.timeout_ms,
        kill_grace_ms: 10_000,
        drain_ms: 2_000,
        kill_mode: submission.request.kill_mode,
        submitted_at: submission.submitted_at,
        started_at: Some(submission.submitted_at),
        completed_at: Some(
            submission
                .submitted_at
                .saturating_add(Duration::from_secs(3)),
        ),
        pid: None,
        cancelled_by: None,
        signals: SentSignals::default(),
        log_path: submission.log_path.clone(),
        log_removed: false,
        outcome: Some(Outcome {
            exit: Exit::Code(code),
            error: failed.then(|| ApiError::new(ErrorCode::EXIT_STATUS, "exited with status 2")),
            ended_by_signal: None,
            duration_us: 3_000_000,
            usage: Usage::default(),
            output: OutputTotals {
                stdout_bytes: 4096,
                log_bytes: 4096,
                ..OutputTotals::default()
            },
            leftovers: Leftovers::None,
        }),
        resources: Resources::default(),
        parts: Parts::new(),
    }
}

/// Returns submission, start and end, each with its event, as the scheduler writes them.
fn changes(number: u64) -> [ChangeEntry; 3] {
    let submission = submission(number);
    let record = record(&submission);
    let entry = |step: u64, change, kind| {
        let event = Event {
            sequence: 3 * number + step,
            time: submission.submitted_at,
            id: submission.id,
            number,
            name: None,
            user: submission.submitter.clone(),
            kind,
        };
        ChangeEntry {
            ticket: event.sequence,
            change,
            events: vec![event],
            dropped_events: Vec::new(),
        }
    };
    let submitted = Change::Submitted {
        submission: Box::new(submission.clone()),
        digest: None,
        is_admitted: true,
    };
    let started = Change::Started {
        number,
        pid: 1234,
        at: submission.submitted_at,
    };
    let ended = EventKind::Finished(record.status);
    [
        entry(0, submitted, EventKind::Submitted),
        entry(1, started, EventKind::Started),
        entry(
            2,
            Change::Finished {
                record: Box::new(record),
            },
            ended,
        ),
    ]
}

fn main() {
    let count = std::env::args().find_map(|argument| argument.parse().ok());
    let count: u64 = count.unwrap_or(EXECUTIONS);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("escher.db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();

    let begun = Instant::now();
    let mut created = open(&path, Durability::Crash);
    for first in (1..=count).step_by(300) {
        let last = (first + 299).min(count);
        created.commit((first..=last).flat_map(changes).collect());
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    runtime.block_on(created.store.close(DEADLINE)).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!(
        "{count} executions of 3 changes: {rate:.0} a second, {} bytes each",
        bytes / count
    );

    let begun = Instant::now();
    let opened = open(&path, Durability::Crash);
    println!("open: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let finished = runtime.block_on(opened.store.finished_count());
    assert_eq!((opened.loaded.last_number, finished), (count, count));
    measure_queries(&runtime, &opened.store, count);
    runtime.block_on(opened.store.close(DEADLINE)).unwrap();
    drop(opened);
    for durability in [Durability::Crash, Durability::Power] {
        for group in [1, 64] {
            let mut opened = open(&path, durability);
            let rate = measure_commits(&mut opened, group);
            println!("{durability:?}, {group} executions at a time: {rate:.0} a second");
            runtime.block_on(opened.store.close(DEADLINE)).unwrap();
        }
    }
}

/// Returns executions per second, each submitted, started and ended, where `group` of them share
/// each step.
fn measure_commits(opened: &mut OpenStore, group: u64) -> f64 {
    let rounds = if group == 1 { 300 } else { 30 };
    let mut next = opened.loaded.last_number + 1;
    let begun = Instant::now();
    for _ in 0..rounds {
        let mut steps: [Vec<ChangeEntry>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        for number in next..next + group {
            for (step, entry) in steps.iter_mut().zip(changes(number)) {
                step.push(entry);
            }
        }
        next += group;
        for step in steps {
            opened.commit(step);
        }
    }
    (rounds * group) as f64 / begun.elapsed().as_secs_f64()
}

fn measure_queries(runtime: &tokio::runtime::Runtime, store: &Store, count: u64) {
    let time = |what: &str, query: &dyn Fn() -> usize| {
        let first = Instant::now();
        let found = query();
        let first = first.elapsed().as_secs_f64() * 1e3;
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            assert_eq!(query(), found);
        }
        let each = begun.elapsed().as_secs_f64() * 1e3 / f64::from(ROUNDS);
        println!("{what}: {found} in {each:.2} ms ({first:.2} ms the first time)");
    };
    let all = |conditions: &str| ListFilter {
        all: true,
        conditions: conditions
            .split_whitespace()
            .map(|condition| condition.parse().unwrap())
            .collect(),
        limit: 0,
    };
    let month = |n: i64| Some(Timestamp::from_micros(EPOCH + n * 30 * 24 * 3_600_000_000));
    let lists = [
        ("", None, None),
        ("status=failed", None, None),
        ("status=lost", None, None),
        ("label.stage=1", None, None),
        ("label.build=77", None, None),
        ("user=user3", None, None),
        ("user=1003", None, None),
        ("name=job42", None, None),
        ("name=job4*", None, None),
        ("exit=1", None, None),
        ("command=*none*", None, None),
        ("", month(0), month(1)),
        ("", None, month(2)),
        ("", month(1000), None),
        ("status=failed user=user0", None, None),
        ("status=failed user=user3", None, None),
        ("status=failed label.stage=2", None, None),
        ("status=failed label.stage=1", None, None),
        ("status=failed name=job0", None, None),
        ("status=failed", None, month(1)),
        ("user=user3 label.stage=1", None, None),
        ("user=user3 name=job33", None, None),
        ("user=user3", None, month(1)),
        ("label.stage=1 label.build=777", None, None),
    ];
    for (conditions, since, until) in lists {
        let selection = Selection {
            filter: all(conditions),
            since,
            until,
        };
        let what = match (since, until) {
            (None, None) => conditions.to_owned(),
            _ => format!("{conditions} in a time"),
        };
        for (submitter, scope) in [
            (None, ""),
            (Some(1003), ", of one user"),
            (Some(7), ", of a user without any"),
        ] {
            time(&format!("list {what}{scope}"), &|| {
                let list = store.list(submitter.map(user), selection.clone(), 0..u64::MAX, 100);
                runtime.block_on(list).unwrap().found.len()
            });
        }
    }
    let found =
        runtime.block_on(store.find(LookupScope::ALL, &(count / 2).to_string().as_str().into()));
    let id = found.unwrap().unwrap().id.to_string();
    let number = (count / 3).to_string();
    for (what, text) in [
        ("number", number.as_str()),
        ("id", &id),
        ("name", "job42"),
        ("head of 4", &id[..4]),
        ("head of 22", &id[..26]),
        ("tail of 4", &id[32..]),
        ("tail of 12", &id[24..]),
    ] {
        for submitter in [None, Some(1003)] {
            let scope = if submitter.is_some() {
                ", of one user"
            } else {
                ""
            };
            time(&format!("find by {what}{scope}"), &|| {
                let scope = LookupScope {
                    submitter: submitter.map(user),
                    names_of: Some(user(1003)),
                };
                let found = runtime.block_on(store.find(scope, &text.into()));
                usize::from(matches!(found, Ok(Some(_))))
            });
        }
    }
    let unlimited = HistoryLimits {
        max_age_secs: u64::MAX,
        max_bytes: u64::MAX,
        max_count: u64::MAX,
        min_age: Duration::ZERO,
    };
    for (what, limits) in [
        ("nothing", unlimited),
        (
            "by count",
            HistoryLimits {
                max_count: count / 2,
                ..unlimited
            },
        ),
        (
            "by bytes",
            HistoryLimits {
                max_bytes: 1 << 20,
                ..unlimited
            },
        ),
        (
            "by age",
            HistoryLimits {
                max_age_secs: 1,
                ..unlimited
            },
        ),
    ] {
        time(&format!("expired {what}"), &|| {
            let now = at(count + 1000);
            runtime.block_on(async {
                let records = store.expired_records(limits, now, 1000).await.unwrap();
                let logs = store.expired_logs(limits, now, 1000).await.unwrap();
                records.len() + logs.len()
            })
        });
    }
    time("numbers to prune", &|| {
        let selection = Selection::from(all(""));
        let numbers = store.finished_numbers(None, selection, u64::MAX, 1000);
        runtime.block_on(numbers).unwrap().found.len()
    });
}
