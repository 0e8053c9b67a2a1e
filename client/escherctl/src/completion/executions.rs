//! The executions that there are at the moment.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use escher_client::{Connector, ExecutionRecord, ListFilter, Status};

use crate::render::escape;
use crate::socket::SocketChoice;

/// How far those executions are that are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Unfinished,
    Finished,
    Any,
}

/// For so long somebody who has pressed a key may be kept waiting.
const PATIENCE: Duration = Duration::from_millis(800);

/// Most executions on offer, the newest.
const MOST: u32 = 100;

/// Most characters of a command that are shown beside it.
const MOST_SHOWN: usize = 60;

/// Numbers and names, newest first, and the ids of those that know no other way. None without a word where
/// there is no escherd, or none that answers soon.
pub(super) fn candidates(socket: Option<PathBuf>, stage: Stage) -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let asked =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(socket, stage)).await });
    let records = asked.ok().flatten().unwrap_or_default();
    // Nothing that is still under way matters any more.
    runtime.shutdown_background();
    offer(&records)
}

async fn ask(socket: Option<PathBuf>, stage: Stage) -> Option<Vec<ExecutionRecord>> {
    let connector = Connector::new(SocketChoice::make(socket).path())
        .client_name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
        .reconnect_timeout(Duration::ZERO);
    let client = connector.connect().await.ok()?;
    let finished = Status::TABLE.map(|row| row.0).into_iter();
    let filter = ListFilter {
        all: stage != Stage::Unfinished,
        statuses: match stage {
            Stage::Finished => finished.filter(|status| status.is_finished()).collect(),
            _ => Vec::new(),
        },
        limit: MOST,
        ..ListFilter::default()
    };
    let mut found = client.list_executions(filter).await.ok()?;
    let mut records = Vec::new();
    while let Some(record) = found.next().await {
        records.push(record.ok()?);
    }
    Some(records)
}

fn offer(records: &[ExecutionRecord]) -> Vec<CompletionCandidate> {
    let mut names = HashSet::new();
    let mut candidates = Vec::new();
    for record in records {
        let (number, about) = (record.number.to_string(), about(record));
        let candidate = |value: &str| CompletionCandidate::new(value).help(Some((&about).into()));
        candidates.push(candidate(&number));
        if let Some(name) = record.name.as_deref() {
            // A name means the newest that bears it.
            if names.insert(name) {
                candidates.push(candidate(name));
            }
        }
        // Seen only by who has begun one, for nobody wants to read them.
        candidates.push(candidate(&record.id.to_string()).hide(true));
    }
    candidates
}

/// State and command, as a line for people.
fn about(record: &ExecutionRecord) -> String {
    let argv = record.command.to_argv();
    let command = escape::command_line(argv.iter().map(|word| &word[..]));
    let mut shown: String = command.chars().take(MOST_SHOWN).collect();
    if record.command_cut || shown.len() < command.len() {
        shown.push('…');
    }
    format!("{}  {shown}", record.status)
}
