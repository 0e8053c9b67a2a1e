//! What escherd knows, on disk: `<state dir>/escher.db`, an SQLite database.
//!
//! One thread writes, in the order in which the engine's [`Change`]s come; all that wait go into one
//! transaction. Readers have connections of their own and see what is committed.

mod apply;
mod checksum;
mod columns;
mod connection;
mod error;
mod expiry;
mod finish;
mod handle;
mod id_prefix;
mod index_scan;
mod load;
mod lookup;
mod metrics;
mod open;
mod quarantine;
mod query;
mod readers;
mod salvage;
mod schema;
#[cfg(test)]
mod tests;
mod totals;
mod writer;

pub use error::StoreError;
pub use handle::{FlushTimeout, HistorySize, Store, StoreSettings, StoredExecution, open};
pub use open::QuarantinedFile;
pub use quarantine::{DamageReport, damage_report};

use escher_protocol::message::{Event, Removed};
use escher_protocol::{Canceller, ExecutionId, ExecutionRecord, Resources, Timestamp};

use crate::execution::Submission;

/// Name of the database, in the state directory.
pub const FILE_NAME: &str = "escher.db";

/// What is to be written. A change is about one execution but for the last two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was taken on. The only change that may be refused.
    Submitted {
        /// All of it.
        submission: Box<Submission>,
        /// The digest of its request, where that has a key.
        digest: Option<RequestDigest>,
        /// Whether it goes to a shim at once.
        launching: bool,
    },
    /// It goes to a shim.
    Launching {
        /// Its number.
        number: u64,
    },
    /// Its program runs.
    Started {
        /// Its number.
        number: u64,
        /// The main process.
        pid: u32,
        /// Since when.
        at: Timestamp,
    },
    /// Somebody wants its end.
    CancelRequested {
        /// Its number.
        number: u64,
        /// Who.
        canceller: Canceller,
        /// SIGKILL at once.
        kill: bool,
    },
    /// It is over.
    Finished {
        /// What is known of it.
        record: Box<ExecutionRecord>,
        /// What it was allowed to use, and has used.
        resources: Box<Resources>,
    },
    /// These are to be forgotten: their records at once, their logs as soon as the launcher has deleted
    /// them. One that is not finished stays.
    Removed {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// The logs of removed executions are deleted.
    LogsDeleted {
        /// Their ids.
        ids: Vec<ExecutionId>,
    },
}

/// SHA-256 of an encoded request: tells whether a key comes with the same request again.
pub type RequestDigest = [u8; 32];

/// A change on its way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEntry {
    /// Comes back with the [`CommitOutcome`].
    pub ticket: u64,
    /// The change.
    pub change: Change,
    /// What followers of events are told of it, kept with it, in order.
    pub events: Vec<Event>,
}

/// What became of an [`ChangeEntry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is committed.
    Committed,
    /// A submission whose key its submitter has used before: nothing was written.
    KeyTaken {
        /// The execution that has it.
        id: ExecutionId,
        /// Its number.
        number: u64,
        /// Whether that was the same request.
        is_same_request: bool,
    },
    /// A submission that could not be written, and why: nothing was. Changes of another kind are never
    /// refused; they wait until they can be written.
    Refused(String),
    /// It cannot be written now and will be later, with another outcome then. Never of a submission.
    Delayed,
    /// A removal is committed: what was forgotten, and the ids, whose logs are to be deleted.
    Removed(Removed, Vec<ExecutionId>),
}

/// What a new escherd begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedState {
    /// The highest number that was ever given to an execution.
    pub last_number: u64,
    /// Executions that are not finished, by number.
    pub unfinished: Vec<UnfinishedExecution>,
    /// The last events, in order; at most as many as the engine keeps.
    pub events: Vec<Event>,
    /// Removed executions whose logs were not deleted yet, as far as is known. Those that had none are
    /// among them.
    pub undeleted_logs: Vec<ExecutionId>,
}

/// An execution that was not finished when the last escherd ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedExecution {
    /// What was taken on.
    pub submission: Submission,
    /// Whether it was handed to a shim, or was about to be.
    pub launching: bool,
    /// Its main process and since when, if it was seen to run.
    pub started: Option<(u32, Timestamp)>,
    /// Who wants its end, if somebody does, and whether by SIGKILL at once.
    pub cancel: Option<(Canceller, bool)>,
}

/// How much of what is finished is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Seconds since an execution's end.
    pub max_age_secs: u64,
    /// Bytes of records, logs and indexes.
    pub max_bytes: u64,
    /// Executions.
    pub max_count: u64,
}

/// What a commit outlives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of escherd by whatever cause (`PRAGMA synchronous = NORMAL`).
    #[default]
    Crash,
    /// A power cut as well (`PRAGMA synchronous = FULL`: synced before it counts).
    Power,
}
