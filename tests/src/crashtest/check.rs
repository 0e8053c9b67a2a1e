//! Compares the answers that clients got with what commands did.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use escher_client::protocol::message::CancelAnswer;
use escher_client::protocol::{Exit, Leftovers};
use escher_client::{Client, ExecutionId, ListFilter, Status};

use super::client_log::{ClientLog, input};
use super::plan::{PlannedEnd, PlannedExecution};
use crate::{Home, is_unlocked, wait_until_unlocked};

/// What a cycle adds to the statistics.
pub(super) struct CycleTotals {
    pub(super) lost: u64,
    pub(super) output_bytes: u64,
}

/// Checks the executions of one cycle. Panics at the first violation.
pub(super) fn check_cycle(home: &Home, run_records: &Path, logs: &[ClientLog]) -> CycleTotals {
    let mut totals = CycleTotals {
        lost: 0,
        output_bytes: 0,
    };
    let ids: HashSet<ExecutionId> = logs.iter().map(|log| log.id).collect();
    assert_eq!(ids.len(), logs.len(), "two requests were taken for one");
    for log in logs {
        let run = RunRecord::read(&run_records.join(&log.planned.key), leftovers(log));
        check_status(log, &run);
        totals.lost += u64::from(log.record.status == Status::Lost);
        totals.output_bytes += check_output(home, log, &run);
    }
    totals
}

/// What `child-program record-run` has written about its own run.
#[derive(Debug)]
struct RunRecord {
    begun: usize,
    exit_code: Option<i32>,
    has_exited: bool,
}

impl RunRecord {
    fn read(path: &Path, leftovers: Leftovers) -> Self {
        // The command locks the file for as long as it lives. Where escherd could not tell what was left
        // over, the kernel may still be ending it.
        let has_exited = !path.exists()
            || match leftovers {
                Leftovers::Unknown => wait_until_unlocked(path),
                _ => is_unlocked(path),
            };
        let text = fs::read_to_string(path).unwrap_or_default();
        let code = text.lines().find_map(|line| line.strip_prefix("end "));
        RunRecord {
            begun: text.lines().filter(|line| *line == "begin").count(),
            exit_code: code.map(|code| code.parse().expect("a number")),
            has_exited,
        }
    }
}

fn leftovers(log: &ClientLog) -> Leftovers {
    let outcome = log.record.outcome.as_ref();
    outcome.map_or(Leftovers::None, |outcome| outcome.leftovers)
}

fn check_status(log: &ClientLog, run: &RunRecord) {
    let ClientLog {
        planned, record, ..
    } = log;
    let context = format!("{run:?}, {log:?}");
    assert!(run.begun <= 1, "it has run twice: {context}");
    assert!(run.has_exited, "its process lives on: {context}");
    let exit = record.outcome.as_ref().map(|outcome| outcome.exit);
    match record.status {
        Status::Completed => {
            assert_eq!(run.exit_code, Some(0), "{context}");
            assert_eq!(exit, Some(Exit::Code(0)), "{context}");
        }
        Status::Failed => {
            let code = run
                .exit_code
                .unwrap_or_else(|| panic!("it has not exited by itself: {context}"));
            assert_ne!(code, 0, "{context}");
            assert_eq!(exit, Some(Exit::Code(code)), "{context}");
        }
        Status::Timeout => {
            let is_planned = matches!(planned.end, PlannedEnd::TimedOut { .. });
            assert!(is_planned, "{context}");
        }
        Status::Cancelled => {
            let is_planned = matches!(planned.end, PlannedEnd::Cancelled { .. });
            assert!(is_planned, "{context}");
            if exit == Some(Exit::Withdrawn) {
                assert_eq!(run.begun, 0, "{context}");
            }
        }
        Status::Lost => {}
        Status::Pending | Status::Running => panic!("not finished: {context}"),
    }
    match log.cancel {
        Some(CancelAnswer::Withdrawn) => assert_eq!(run.begun, 0, "{context}"),
        Some(CancelAnswer::AlreadyFinished(status)) => {
            assert_eq!(status, record.status, "{context}");
        }
        Some(CancelAnswer::Ending | CancelAnswer::AlreadyEnding) | None => {}
    }
}

/// Compares what the client has followed, what is in the log, and what the command has written.
fn check_output(home: &Home, log: &ClientLog, run: &RunRecord) -> u64 {
    let (stdout, stderr) = expected_output(&log.planned);
    let context = || format!("{run:?}, {:?}, {:?}", log.planned, log.record);
    let is_whole = matches!(log.record.status, Status::Completed | Status::Failed);
    for (seen, expected) in [(&log.stdout, &stdout), (&log.stderr, &stderr)] {
        assert!(
            expected.starts_with(seen),
            "other output than the command's: {}",
            context()
        );
        assert!(
            !is_whole || seen.len() == expected.len(),
            "{} of {} bytes: {}",
            seen.len(),
            expected.len(),
            context()
        );
    }
    if let Some(length) = log.accepted_stdin {
        assert_eq!(Some(length), log.planned.stdin, "{}", context());
    }
    let seen = (log.stdout.len() + log.stderr.len()) as u64;
    let on_disk = fs::metadata(home.log(log.id)).map_or(0, |file| file.len());
    assert_eq!(
        on_disk,
        seen,
        "the log has other bytes than the client: {}",
        context()
    );
    if let Some(outcome) = &log.record.outcome
        && log.record.status != Status::Lost
    {
        assert_eq!(outcome.output.log_bytes, seen, "{}", context());
        assert_eq!(outcome.output.dropped_bytes, 0, "{}", context());
    }
    seen
}

/// What the command of `planned` writes unless something ends it: see `child-program record-run`.
fn expected_output(planned: &PlannedExecution) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for index in 0..planned.lines {
        let line = crate::recorded_line(&planned.key, index);
        match index % 7 {
            3 => stderr.extend_from_slice(line.as_bytes()),
            _ => stdout.extend_from_slice(line.as_bytes()),
        }
    }
    stdout.extend_from_slice(&input(planned));
    (stdout, stderr)
}

/// Checks that a new escherd finds every execution finished and readable, and no log of anything else.
pub(super) fn check_store(home: &Arc<Home>) {
    let daemon = crate::Daemon::builder().home(home).start();
    let known = crate::in_runtime(async {
        let client = Client::connect(home.socket()).await.unwrap();
        let everything = ListFilter {
            all: true,
            ..ListFilter::default()
        };
        let mut executions = client.list_executions(everything).await.unwrap();
        let (mut before, mut known) = (u64::MAX, HashSet::new());
        while let Some(record) = executions.next().await {
            let record = record.unwrap();
            assert!(record.status.is_finished(), "not finished: {record:?}");
            assert!(record.number < before, "out of order: {record:?}");
            before = record.number;
            known.insert(record.id.to_string());
        }
        known
    });
    for name in file_names(&home.logs()) {
        let id = name.split('.').next().unwrap_or_default();
        assert!(known.contains(id), "{name} belongs to no execution");
    }
    daemon.stop();
    let quarantined: Vec<String> = file_names(&home.state())
        .into_iter()
        .filter(|name| name.contains("set-aside"))
        .collect();
    assert!(
        quarantined.is_empty(),
        "a store was set aside: {quarantined:?}"
    );
}

/// The names of all files in a directory, which need not exist.
pub(super) fn file_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
