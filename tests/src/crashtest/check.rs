//! What clients were told, against what commands did.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use escher_client::protocol::message::CancelOutcome;
use escher_client::protocol::{Exit, Leftovers};
use escher_client::{Client, ExecutionId, ListFilter, Status};

use super::client::{Told, input};
use super::plan::{Fate, Planned};
use crate::{Home, becomes_free, is_free};

/// What came of judging.
pub(super) struct Judged {
    pub(super) lost: u64,
    pub(super) output_bytes: u64,
}

/// Panics at the first thing that is not as it should be.
pub(super) fn judge(home: &Home, accounts: &Path, all: &[Told]) -> Judged {
    let mut judged = Judged {
        lost: 0,
        output_bytes: 0,
    };
    let ids: HashSet<ExecutionId> = all.iter().map(|told| told.id).collect();
    assert_eq!(ids.len(), all.len(), "two requests were taken for one");
    for told in all {
        let account = Account::read(&accounts.join(&told.planned.key), leftovers(told));
        judge_status(told, &account);
        judged.lost += u64::from(told.record.status == Status::Lost);
        judged.output_bytes += judge_output(home, told, &account);
    }
    judged
}

/// What a command says of itself.
#[derive(Debug)]
struct Account {
    begun: usize,
    ended: Option<i32>,
    is_there_no_more: bool,
}

impl Account {
    /// Where nobody could tell what was left over, the kernel is still at ending it, perhaps.
    fn read(path: &Path, leftovers: Leftovers) -> Self {
        let is_gone = match leftovers {
            Leftovers::Unknown => becomes_free,
            _ => is_free,
        };
        // The command holds a lock on it as long as it lives.
        let is_there_no_more = !path.exists() || is_gone(path);
        let text = fs::read_to_string(path).unwrap_or_default();
        let ended = text.lines().find_map(|line| line.strip_prefix("end "));
        Account {
            begun: text.lines().filter(|line| *line == "begin").count(),
            ended: ended.map(|code| code.parse().expect("a number")),
            is_there_no_more,
        }
    }
}

fn leftovers(told: &Told) -> Leftovers {
    let outcome = told.record.outcome.as_ref();
    outcome.map_or(Leftovers::None, |outcome| outcome.leftovers)
}

fn judge_status(told: &Told, account: &Account) {
    let Told {
        planned, record, ..
    } = told;
    let context = format!("{account:?}, {told:?}");
    assert!(account.begun <= 1, "it has run twice: {context}");
    assert!(account.is_there_no_more, "its process lives on: {context}");
    let exit = record.outcome.as_ref().map(|outcome| outcome.exit);
    match record.status {
        Status::Completed => {
            assert_eq!(account.ended, Some(0), "{context}");
            assert_eq!(exit, Some(Exit::Code(0)), "{context}");
        }
        Status::Failed => {
            let code = account
                .ended
                .unwrap_or_else(|| panic!("it has not ended itself: {context}"));
            assert_ne!(code, 0, "{context}");
            assert_eq!(exit, Some(Exit::Code(code)), "{context}");
        }
        Status::Timeout => assert!(matches!(planned.fate, Fate::TimedOut { .. }), "{context}"),
        Status::Cancelled => {
            assert!(matches!(planned.fate, Fate::Cancelled { .. }), "{context}");
            if exit == Some(Exit::Withdrawn) {
                assert_eq!(account.begun, 0, "{context}");
            }
        }
        Status::Lost => {}
        Status::Pending | Status::Running => panic!("not over: {context}"),
    }
    match told.cancel {
        Some(CancelOutcome::Withdrawn) => assert_eq!(account.begun, 0, "{context}"),
        Some(CancelOutcome::AlreadyFinished(status)) => {
            assert_eq!(status, record.status, "{context}");
        }
        Some(CancelOutcome::Ending | CancelOutcome::AlreadyEnding) | None => {}
    }
}

/// Compares what the client has seen, what is in the log, and what the command has written.
fn judge_output(home: &Home, told: &Told, account: &Account) -> u64 {
    let (stdout, stderr) = expected(&told.planned);
    let context = || format!("{account:?}, {:?}, {:?}", told.planned, told.record);
    let is_whole = matches!(told.record.status, Status::Completed | Status::Failed);
    for (seen, expected) in [(&told.stdout, &stdout), (&told.stderr, &stderr)] {
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
    if let Some(length) = told.accepted_stdin {
        assert_eq!(Some(length), told.planned.stdin, "{}", context());
    }
    let seen = (told.stdout.len() + told.stderr.len()) as u64;
    let log = fs::metadata(home.log(told.id)).map_or(0, |log| log.len());
    assert_eq!(
        log,
        seen,
        "the log has other bytes than were told: {}",
        context()
    );
    if let Some(outcome) = &told.record.outcome
        && told.record.status != Status::Lost
    {
        assert_eq!(outcome.output.log_bytes, seen, "{}", context());
        assert_eq!(outcome.output.dropped_bytes, 0, "{}", context());
    }
    seen
}

/// What the command of `planned` writes if nobody ends it: see `witness` of the child_program.
fn expected(planned: &Planned) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for index in 0..planned.lines {
        let line = crate::witness_line(&planned.key, index);
        match index % 7 {
            3 => stderr.extend_from_slice(line.as_bytes()),
            _ => stdout.extend_from_slice(line.as_bytes()),
        }
    }
    stdout.extend_from_slice(&input(planned));
    (stdout, stderr)
}

/// Whether a fresh escherd finds everything over, with records that can be read, and no log of anything else.
pub(super) fn judge_store(home: &std::sync::Arc<Home>) {
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
            assert!(record.status.is_finished(), "not over: {record:?}");
            assert!(record.number < before, "out of order: {record:?}");
            before = record.number;
            known.insert(record.id.to_string());
        }
        known
    });
    for name in super::scenario::names(&home.logs()) {
        let id = name.split('.').next().unwrap_or_default();
        assert!(known.contains(id), "{name} belongs to no execution");
    }
    daemon.stop();
    let aside = super::scenario::names(&home.state());
    let aside: Vec<_> = aside
        .iter()
        .filter(|name| name.contains("set-aside"))
        .collect();
    assert!(aside.is_empty(), "a store was set aside: {aside:?}");
}
