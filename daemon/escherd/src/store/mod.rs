//! Everything that escherd must not forget, on disk: `<state dir>/escher.db`, an SQLite database.
//!
//! The scheduler's [`Change`]s come through the [`Intake`], which writes most of them to a journal at once. One thread
//! writes them to the database, in their order; all that are waiting share a transaction. Readers have connections of
//! their own and see all changes of before.

mod apply;
mod checksum;
mod columns;
mod connection;
mod damage;
mod disk_reserve;
mod erasure;
mod error;
mod eviction;
mod expiry;
mod finish;
mod handle;
mod id_part;
mod index_scan;
mod intake;
mod journal;
mod kept_logs;
mod known_keys;
mod load;
mod lookup;
mod metrics;
mod newest;
mod number_mark;
mod open;
mod quarantine;
mod query;
mod queued_entry;
mod readers;
mod removable;
mod salvage;
mod schema;
mod search;
mod stored_record;
mod submission;
#[cfg(test)]
mod tests;
mod totals;
mod user_totals;
mod writer;

pub use error::StoreError;
pub use eviction::share;
pub use handle::{FlushTimeout, Store, open};
pub use intake::Intake;
pub use kept_logs::{KeptLogs, KeptLogsCursor};
pub use lookup::{LookupScope, StoredExecution};
pub use open::{QuarantinedFile, StoreSettings};
pub use quarantine::{DamageReport, SetAsideStore, damage_report};
pub use search::HistoryPage;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use escher_protocol::message::{Event, Removed};
use escher_protocol::{CancelMode, Canceller, ExecutionId, ExecutionRecord, Timestamp};
use serde::{Deserialize, Serialize};

use crate::execution::{Extent, Submission};

/// Name of the database, in the state directory.
pub const FILE_NAME: &str = "escher.db";

/// A change to write. Those without a list of executions concern one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It was accepted. The only change that is refused when the store cannot be written or its disk is full.
    Submitted {
        /// The request with everything that was decided about it.
        submission: Box<Submission>,
        /// The digest of the request, if that has a key.
        digest: Option<RequestDigest>,
        /// Whether it is admitted at once.
        is_admitted: bool,
    },
    /// The store had lost it, and its shim has kept it: it runs already. Refused only if its number or id is in use.
    Restored {
        /// As in [`Change::Submitted`], without the environment.
        submission: Box<Submission>,
        /// As there.
        digest: Option<RequestDigest>,
    },
    /// It has left the queue, and is launched next.
    Admitted {
        /// Its number.
        number: u64,
        /// Whether the submission is read for the launch ([`CommitOutcome::Admitted`]).
        reads_submission: bool,
    },
    /// These were admitted and not launched yet, and escherd stops cleanly.
    LaunchAttemptsCleared {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// Its program runs.
    Started {
        /// Its number.
        number: u64,
        /// The main process.
        pid: u32,
        /// When it started.
        at: Timestamp,
    },
    /// A cancel was requested.
    CancelRequested {
        /// Its number.
        number: u64,
        /// Who cancels it.
        canceller: Canceller,
        /// By which signal it is to end.
        mode: CancelMode,
    },
    /// It has finished.
    Finished {
        /// The record that is kept. A command that is cut is completed from the submission.
        record: Box<ExecutionRecord>,
    },
    /// Executions are removed: their records now, their logs once the launcher has deleted them. An
    /// unfinished execution stays.
    Removed {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// The logs of finished executions are removed, and their records stay: deleted once the launcher
    /// has deleted them.
    LogsRemoved {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// The launcher has deleted the logs of executions that were removed, or whose logs were.
    LogsDeleted {
        /// The ids of these executions.
        ids: Vec<ExecutionId>,
    },
}

/// SHA-256 of an encoded request, by which a repeated key is compared with its first request.
pub type RequestDigest = [u8; 32];

/// A change on its way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEntry {
    /// Identifies the entry's [`CommitOutcome`].
    pub ticket: u64,
    /// The change.
    pub change: Change,
    /// The events that announce the change, in order. They are stored with it.
    pub events: Vec<Event>,
    /// Earlier events that are not kept any longer. Only with a change that cannot be refused.
    pub dropped_events: Vec<DroppedEvent>,
}

impl ChangeEntry {
    /// Returns whether this is a submission, which may be refused.
    fn is_submission(&self) -> bool {
        matches!(self.change, Change::Submitted { .. })
    }
}

/// An event that is not kept any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedEvent {
    /// The submitter of its execution.
    pub uid: u32,
    /// Its sequence number.
    pub sequence: u64,
}

/// What became of a [`ChangeEntry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is committed.
    Committed,
    /// It is in the journal, which is as durable as asked for. The database follows soon; the end of an execution has
    /// another outcome then.
    Journaled {
        /// Bytes of the log and index, if this is the end of an execution.
        log_bytes: u64,
    },
    /// An admission is committed, and this is the whole submission; `None` if it cannot be read, which is logged.
    Admitted(Option<Box<Submission>>),
    /// The submitter has used the submission's key before: nothing was written.
    KeyTaken {
        /// The execution that has the key.
        id: ExecutionId,
        /// Its number.
        number: u64,
        /// Whether its request was the same.
        is_same_request: bool,
    },
    /// A submission could not be written, for this reason. Other changes are not refused when the disk is full; they
    /// wait until they can be written.
    Refused(String),
    /// It cannot be written now and is retried; another outcome follows. Never for a submission.
    Delayed,
    /// The end of an execution is committed.
    Finished {
        /// Bytes of its log and index.
        log_bytes: u64,
    },
    /// A removal of executions or logs is committed.
    Removed {
        /// What was removed.
        removed: Removed,
        /// The executions whose logs are to be deleted.
        logs: Vec<ExecutionId>,
        /// Bytes of these logs and their indexes, by the uid of the submitter.
        freed_log_bytes: BTreeMap<u32, u64>,
    },
}

impl CommitOutcome {
    /// Whether the change is committed.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        matches!(
            self,
            CommitOutcome::Committed
                | CommitOutcome::Journaled { .. }
                | CommitOutcome::Admitted(_)
                | CommitOutcome::Finished { .. }
                | CommitOutcome::Removed { .. }
        )
    }
}

/// What is read from a store when it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedState {
    /// The highest number that an execution ever had; where the store was lost, a higher one.
    pub last_number: u64,
    /// The unfinished executions, by number.
    pub unfinished: Vec<UnfinishedExecution>,
    /// The events, in order.
    pub events: Vec<Event>,
    /// The last event of each user, by uid, that is not among them any longer.
    pub missed_events: HashMap<u32, u64>,
    /// Executions whose logs may still have to be deleted. Some never had one.
    pub undeleted_logs: Vec<ExecutionId>,
    /// Bytes of the logs and indexes of finished executions, by the uid of the submitter.
    pub log_bytes: BTreeMap<u32, u64>,
}

/// An execution that was not finished when the last escherd ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedExecution {
    /// What was accepted, without the long texts of a large request.
    pub submission: Submission,
    /// How much of it that is.
    pub extent: Extent,
    /// Bytes of the encoded request, all of it.
    pub request_bytes: u64,
    /// The digest of the request, if that has a key.
    pub digest: Option<RequestDigest>,
    /// Whether it was admitted, so that a shim may have it.
    pub is_admitted: bool,
    /// How often its launch was begun by an escherd that has not stopped cleanly since.
    pub launch_attempts: u32,
    /// Its main process and the time of its start, if it was seen to run.
    pub started: Option<(u32, Timestamp)>,
    /// The canceller, if there is one, and whether SIGKILL is sent at once.
    pub cancel: Option<(Canceller, CancelMode)>,
}

/// How much of the history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Seconds since an execution's end after which it is removed.
    pub max_age_secs: u64,
    /// Bytes of logs and indexes. Beyond it logs are removed, and the records stay.
    pub max_bytes: u64,
    /// Executions.
    pub max_count: u64,
    /// Time since an execution's end in which none of these limits applies to it.
    pub min_age: Duration,
}

/// The size of the history, or of one user's part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistorySize {
    /// Finished executions.
    pub executions: u64,
    /// Bytes of their logs and indexes.
    pub log_bytes: u64,
}

impl HistorySize {
    fn add(&mut self, other: HistorySize) {
        self.executions = self.executions.saturating_add(other.executions);
        self.log_bytes = self.log_bytes.saturating_add(other.log_bytes);
    }

    fn subtract(&mut self, other: HistorySize) {
        self.executions = self.executions.saturating_sub(other.executions);
        self.log_bytes = self.log_bytes.saturating_sub(other.log_bytes);
    }
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of escherd by any cause: the journal has it.
    #[default]
    Crash,
    /// A power cut as well: the database has it, synced (`PRAGMA synchronous = FULL`).
    Power,
}
