//! Executions as candidates.

use std::collections::HashSet;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use escher_client::{
    Client, Condition, Connector, ExecutionRecord, ListFilter, Property, SocketChoice, Status,
};

use crate::render::escape;

/// Which executions to offer, by their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateFilter {
    Unfinished,
    Finished,
    Any,
}

/// How long a person may have to wait for candidates.
const TIMEOUT: Duration = Duration::from_millis(800);

/// How many executions that are not finished are offered at most, the newest.
const UNFINISHED_LIMIT: u32 = 100;

/// How many finished ones are offered at most, the newest.
const FINISHED_LIMIT: u32 = 20;

/// How many characters of the command a candidate's description shows at most.
const COMMAND_WIDTH: usize = 60;

/// Returns numbers, names and ids: first of what runs or waits, then of what has finished, each newest first; nothing if escherd does not answer in time.
pub(super) fn candidates(sockets: SocketChoice, states: StateFilter) -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let records =
        runtime.block_on(async { tokio::time::timeout(TIMEOUT, list(sockets, states)).await });
    let records = records.ok().flatten().unwrap_or_default();
    // Does not wait for a lookup that is still running.
    runtime.shutdown_background();
    to_candidates(&records)
}

async fn list(sockets: SocketChoice, states: StateFilter) -> Option<Vec<ExecutionRecord>> {
    let connector = Connector::to(sockets)
        .client_name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
        .reconnect_timeout(Duration::ZERO);
    let client = connector.connect().await.ok()?;
    let mut records = Vec::new();
    if states != StateFilter::Finished {
        let filter = ListFilter {
            limit: UNFINISHED_LIMIT,
            ..ListFilter::default()
        };
        add_all(&mut records, &client, filter).await?;
    }
    if states != StateFilter::Unfinished {
        let unfinished = [Status::Pending, Status::Running];
        let filter = ListFilter {
            all: true,
            conditions: unfinished
                .map(|status| Condition::is_not(Property::Status(status)))
                .into(),
            limit: FINISHED_LIMIT,
        };
        add_all(&mut records, &client, filter).await?;
    }
    Some(records)
}

async fn add_all(
    records: &mut Vec<ExecutionRecord>,
    client: &Client,
    filter: ListFilter,
) -> Option<()> {
    let mut found = client.list_executions(filter).await.ok()?;
    while let Some(record) = found.next().await {
        let record = record.ok()?;
        // It may have ended in between.
        if records.iter().all(|known| known.id != record.id) {
            records.push(record);
        }
    }
    Some(())
}

fn to_candidates(records: &[ExecutionRecord]) -> Vec<CompletionCandidate> {
    let own_uid = nix::unistd::geteuid().as_raw();
    let mut names = HashSet::new();
    let mut candidates = Vec::new();
    for record in records {
        let (number, description) = (record.number.to_string(), describe(record));
        let candidate =
            |value: &str| CompletionCandidate::new(value).help(Some((&description).into()));
        candidates.push(candidate(&number));
        if let Some(name) = &record.name {
            let reference = if record.submitted_by.uid == own_uid {
                name.to_string()
            } else {
                format!("{}/{name}", record.submitted_by)
            };
            // If the name is ambiguous, the message lists the numbers.
            if names.insert(reference.clone()) {
                candidates.push(candidate(&reference));
            }
        }
        // Offered only once a part of it is typed.
        candidates.push(candidate(&record.id.to_string()).hide(true));
    }
    candidates
}

/// Returns state and command on one line.
fn describe(record: &ExecutionRecord) -> String {
    let argv = record.command.to_argv();
    let command = escape::command_line(argv.iter().map(|word| &word[..]));
    let mut shown: String = command.chars().take(COMMAND_WIDTH).collect();
    if record.command_cut || shown.len() < command.len() {
        shown.push('…');
    }
    format!("{}  {shown}", record.status)
}
