//! The record of an execution: what escherd knows about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cancel::Canceller;
use super::outcome::Outcome;
use super::request::{Command, KillMode, StdinMode};
use crate::blob::{Blob, Text, bounded_list};
use crate::id::ExecutionId;
use crate::parts::Parts;
use crate::resources::Resources;
use crate::signal::SentSignals;
use crate::time::Timestamp;
use crate::user::User;

/// Most bytes of the command in the record of a finished execution. So the size of a record is bounded.
pub const KEPT_COMMAND_BYTES: usize = 16 * 1024;
/// Most bytes of the command in a record that [`Request::List`](crate::message::Request::List)
/// returns.
pub const LISTED_COMMAND_BYTES: usize = 4096;

/// Everything that escherd knows about an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRecord {
    /// The id.
    pub id: ExecutionId,
    /// The number: from 1, counting up, never used again.
    pub number: u64,
    /// The name of the request.
    pub name: Option<Text>,
    /// The key of the request.
    pub key: Option<Text>,
    /// The state.
    pub status: Status,
    /// What it waits for, if it is pending and not about to start.
    pub waits_for: Option<WaitReason>,
    /// The user that it runs as.
    pub user: User,
    /// The user that submitted it.
    pub submitted_by: User,
    /// The command.
    pub command: Command,
    /// Whether `command` is cut: in lists, and once the execution has finished. Before, only if the
    /// store cannot be read.
    pub command_cut: bool,
    /// The working directory.
    pub working_dir: Blob,
    /// The standard input.
    pub stdin: StdinMode,
    /// The labels of the request.
    #[serde(deserialize_with = "bounded_list")]
    pub labels: Vec<(Text, Text)>,
    /// The timeout in milliseconds; `None`: no timeout.
    pub timeout_ms: Option<u64>,
    /// Milliseconds from SIGTERM to SIGKILL.
    pub kill_grace_ms: u64,
    /// Milliseconds after the end of the main process in which other processes may end.
    pub drain_ms: u64,
    /// What happens to processes that the main process leaves behind.
    pub kill_mode: KillMode,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// When its program was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Process id of the main process, while it runs.
    pub pid: Option<u32>,
    /// Who requested a cancel: the first, and once it has finished, only if that ended it.
    pub cancelled_by: Option<Canceller>,
    /// Who sent which signals.
    pub signals: SentSignals,
    /// Path of the log. The file exists once the command has written something.
    pub log_path: Blob,
    /// Whether the log was removed by the limits of the history.
    pub log_removed: bool,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// Limits, measurements, and whether it is paused.
    pub resources: Resources,
    /// Fields added by later versions, and the parts of the request that escherd did not know.
    pub parts: Parts,
}

impl ExecutionRecord {
    /// Returns whether the clock of the host was set back while the execution was there: then its
    /// times are out of order. Durations are measured by another clock, and are right.
    #[must_use]
    pub fn was_clock_set_back(&self) -> bool {
        let times = [Some(self.submitted_at), self.started_at, self.completed_at];
        let times: Vec<Timestamp> = times.into_iter().flatten().collect();
        times.windows(2).any(|pair| pair[1] < pair[0])
    }
}

/// The state of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// The execution waits for its turn.
    Pending,
    /// The program runs.
    Running,
    /// The command exited with status 0.
    Completed,
    /// The command exited with another status, was killed by a signal, or could not be started.
    Failed,
    /// The execution was ended on request.
    Cancelled,
    /// The execution was ended at its timeout.
    Timeout,
    /// The result cannot be known: its shim was killed or the host went down.
    Lost,
}

impl Status {
    /// Every state with its name in JSON and tables, in the order of the wire.
    pub const TABLE: [(Status, &'static str); 7] = [
        (Status::Pending, "pending"),
        (Status::Running, "running"),
        (Status::Completed, "completed"),
        (Status::Failed, "failed"),
        (Status::Cancelled, "cancelled"),
        (Status::Timeout, "timeout"),
        (Status::Lost, "lost"),
    ];

    /// Returns the state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("unknown", |row| row.1)
    }

    /// Returns the state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE
            .iter()
            .find(|row| row.1 == name)
            .map(|row| row.0)
    }

    /// Returns whether the execution has ended.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        !matches!(self, Status::Pending | Status::Running)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a pending execution waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WaitReason {
    /// One of the slots that bound how many executions run at once. Lists do not have the position.
    Slot(Option<QueuePosition>),
    /// A launcher: escherd has none at the moment, and starts no command without one.
    Launcher,
}

impl WaitReason {
    /// Returns the reason's name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WaitReason::Slot(_) => "slot",
            WaitReason::Launcher => "launcher",
        }
    }
}

/// Where a pending execution is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueuePosition {
    /// How many executions have a slot of those for which this one waits.
    pub running: u64,
    /// How many may.
    pub max_running: u64,
    /// How many start before this one, if nothing is submitted or cancelled meanwhile.
    pub ahead: u64,
}
