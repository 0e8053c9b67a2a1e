//! Executions: what is asked for, what is known, how they end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Text, list};
use crate::error::ApiError;
use crate::id::ExecutionId;
use crate::parts::Parts;
use crate::resources::{ResourceLimits, Resources};
use crate::time::Timestamp;

/// Longest name, key, label key or label value, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Most labels of one execution.
pub const MAX_LABELS: usize = 64;
/// Command bytes in an element of a list.
pub const LISTED_COMMAND_BYTES: usize = 4096;

/// A command to run, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRequest {
    /// Makes the request safe to repeat: within one user the same key with the same request names the
    /// first execution and never runs twice; with another request it is a conflict.
    pub key: Option<Text>,
    /// A name for people; begins with a letter. Several executions may bear the same.
    pub name: Option<Text>,
    /// What to run.
    pub command: Command,
    /// Variables set on top of the fresh environment that escherd makes.
    #[serde(deserialize_with = "list")]
    pub environment: Vec<(Blob, Blob)>,
    /// Where to run it: an absolute path, entered with the command's own authority. `None`: the user's
    /// home, or `/` where that cannot be entered.
    pub working_dir: Option<Blob>,
    /// As whom.
    pub run_as: RunAs,
    /// What its standard input is.
    pub stdin: StdinMode,
    /// When to end it.
    pub timeout: Timeout,
    /// Milliseconds between SIGTERM and SIGKILL; `None`: the configured `kill_grace_ms`.
    pub kill_grace_ms: Option<u64>,
    /// What it may use at most. A limit that cannot be enforced is refused, not ignored.
    pub limits: ResourceLimits,
    /// For filters; at most [`MAX_LABELS`], keys unique.
    #[serde(deserialize_with = "list")]
    pub labels: Vec<(Text, Text)>,
    /// Fields added by later versions. A required part that escherd does not know is refused with
    /// [`unsupported`](crate::ErrorCode::UNSUPPORTED); others are kept.
    pub parts: Parts,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A program and its arguments. One without a slash is looked up in the command's own PATH.
    Exec {
        /// The first is the program. Empty is refused.
        #[serde(deserialize_with = "list")]
        argv: Vec<Blob>,
    },
    /// Text for a shell, run as `<shell> -c <text>`.
    Shell {
        /// The text.
        text: Blob,
        /// The shell; `None`: `/bin/sh`.
        shell: Option<Blob>,
    },
    /// A script, run as `<interpreter> <path> <arguments>`, or by its own first line (`#!`, execve(2)).
    /// A record shows what is run, as `Exec`.
    Script {
        /// The file.
        path: Blob,
        /// The program that reads it; `None`: the one that its first line names.
        interpreter: Option<Blob>,
        /// What the script is given.
        #[serde(deserialize_with = "list")]
        arguments: Vec<Blob>,
    },
}

impl Default for Command {
    fn default() -> Self {
        Command::Exec { argv: Vec::new() }
    }
}

impl Command {
    /// The shell of a [`Command::Shell`] that names none.
    pub const DEFAULT_SHELL: &'static str = "/bin/sh";

    /// The argument list as given to execve(2).
    #[must_use]
    pub fn to_argv(&self) -> Vec<Blob> {
        match self {
            Command::Exec { argv } => argv.clone(),
            Command::Shell { text, shell } => {
                let shell = shell.clone().unwrap_or_else(|| Self::DEFAULT_SHELL.into());
                vec![shell, "-c".into(), text.clone()]
            }
            Command::Script {
                path,
                interpreter,
                arguments,
            } => interpreter
                .iter()
                .chain([path])
                .chain(arguments)
                .cloned()
                .collect(),
        }
    }
}

/// As whom a command runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAs {
    /// The caller, with the uid, gid and groups of its connection.
    #[default]
    Caller,
    /// The user of this login name, with its login groups.
    Name(Text),
    /// The user of this number, with its login groups.
    Uid(u32),
}

/// What a command's standard input is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StdinMode {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe, fed by [`Request::WriteStdin`](crate::message::Request::WriteStdin).
    Stream,
}

/// When a command is ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timeout {
    /// After the configured `default_timeout_ms`.
    #[default]
    Default,
    /// After so many milliseconds; 0 is refused.
    After {
        /// The milliseconds.
        ms: u64,
    },
    /// Never; refused where there is a maximum.
    Unlimited,
}

/// How to end an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelMode {
    /// The kill ladder: SIGTERM, the grace period, SIGKILL.
    Graceful,
    /// SIGKILL at once, also when a ladder is under way.
    Kill,
}

/// The state of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Accepted; waits for its turn.
    Pending,
    /// Its program runs.
    Running,
    /// Exit status 0.
    Completed,
    /// Another exit status, death by a signal, or it could not be started.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// Ended because its time was over.
    Timeout,
    /// What came of it cannot be known.
    Lost,
}

impl Status {
    /// Every state with its name, as on the wire, in JSON and in tables.
    pub const TABLE: [(Status, &'static str); 7] = [
        (Status::Pending, "pending"),
        (Status::Running, "running"),
        (Status::Completed, "completed"),
        (Status::Failed, "failed"),
        (Status::Cancelled, "cancelled"),
        (Status::Timeout, "timeout"),
        (Status::Lost, "lost"),
    ];

    /// The state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("unknown", |row| row.1)
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE
            .iter()
            .find(|row| row.1 == name)
            .map(|row| row.0)
    }

    /// Whether nothing more will happen to the execution.
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

/// A user of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// Its number, as the kernel tells it.
    pub uid: u32,
    /// Its login name, where there is one.
    pub name: Option<Text>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.pad(name),
            None => f.pad(&self.uid.to_string()),
        }
    }
}

/// Everything known about an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// Its number: from 1, counting up, never used again.
    pub number: u64,
    /// Its name.
    pub name: Option<Text>,
    /// The key of its request.
    pub key: Option<Text>,
    /// Its state.
    pub status: Status,
    /// As whom it runs.
    pub user: User,
    /// Who asked for it.
    pub submitted_by: User,
    /// What it runs.
    pub command: Command,
    /// Whether `command` was cut (in lists).
    pub command_cut: bool,
    /// Where it runs.
    pub working_dir: Blob,
    /// What its standard input is.
    pub stdin: StdinMode,
    /// Its labels.
    #[serde(deserialize_with = "list")]
    pub labels: Vec<(Text, Text)>,
    /// Its timeout in milliseconds; `None`: none.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub kill_grace_ms: u64,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// When its program was started.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// Process id of its main process, while it runs.
    pub pid: Option<u32>,
    /// Who has asked for its end, once somebody has.
    pub cancelled_by: Option<Canceller>,
    /// Path of its log. The file is there once the command has written something.
    pub log_path: Blob,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// What it may use and has used.
    pub resources: Resources,
    /// Fields added by later versions, with those of the request that escherd did not know.
    pub parts: Parts,
}

/// Who ended an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Canceller {
    /// A user, by a request.
    User(User),
    /// The host or the service, by stopping.
    Host,
}

impl fmt::Display for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Canceller::User(user) => user.fmt(f),
            Canceller::Host => f.write_str("host"),
        }
    }
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What became of the main process.
    pub exit: Exit,
    /// Why the execution is not `completed`; `None` exactly if it is.
    pub error: Option<ApiError>,
    /// The last signal of the kill ladder, if the ladder was used on the main process.
    pub ended_by_signal: Option<i32>,
    /// From start to end, in microseconds of the monotonic clock.
    pub duration_us: u64,
    /// What the command used.
    pub usage: Usage,
    /// What it wrote.
    pub output: OutputTotals,
    /// Whether processes were left over, and what became of them.
    pub leftovers: Leftovers,
}

/// What became of a main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status, 0 to 255.
    Code(i32),
    /// It died of a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// It was never there: setting it up failed.
    NotStarted {
        /// At which step.
        stage: StartStage,
        /// For which reason (errno(3)).
        errno: i32,
    },
    /// It was never there: the execution was cancelled while it waited.
    Withdrawn,
    /// Nobody was left to see it end.
    Unknown,
}

/// Resources used by the command and all its descendants that were waited for (wait4(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Largest resident set of any one process, in bytes.
    pub peak_memory_bytes: u64,
}

/// Bytes that a command wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTotals {
    /// To its standard output.
    pub stdout_bytes: u64,
    /// To its standard error.
    pub stderr_bytes: u64,
    /// Of these, in the log.
    pub log_bytes: u64,
    /// Of these, not in the log because it could not be written or would have passed its limit.
    pub dropped_bytes: u64,
}

/// Processes that outlived a main process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leftovers {
    /// There were none, or they ended by themselves.
    #[default]
    None,
    /// They were killed.
    Killed,
    /// They were killed but have not gone (a process in uninterruptible sleep).
    Unkillable,
    /// Nobody was left to see whether there were any.
    Unknown,
}

impl Leftovers {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Leftovers::None => "none",
            Leftovers::Killed => "killed",
            Leftovers::Unkillable => "unkillable",
            Leftovers::Unknown => "unknown",
        }
    }
}

/// A step in starting a program, in the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StartStage {
    /// Pipes, memory and the process itself (pipe(2), clone(2)).
    Prepare,
    /// A session and process group of its own (setsid(2)).
    Session,
    /// A session keyring of its own (keyctl(2)).
    Keyring,
    /// Descriptors 0, 1 and 2, and no other (dup3(2), close_range(2)).
    Descriptors,
    /// Priority, out-of-memory score, umask.
    Attributes,
    /// Resource limits (setrlimit(2)).
    Limits,
    /// Supplementary groups (setgroups(2)).
    Groups,
    /// Group ids (setresgid(2)).
    Gid,
    /// User ids (setresuid(2)).
    Uid,
    /// That user and groups are what was asked for.
    VerifyIdentity,
    /// The working directory (chdir(2)).
    WorkingDirectory,
    /// The signal mask (sigprocmask(2)).
    Signals,
    /// The program itself (execve(2)).
    Exec,
}

impl StartStage {
    /// Every stage with its name in errors and JSON.
    pub const TABLE: [(StartStage, &'static str); 13] = [
        (StartStage::Prepare, "prepare"),
        (StartStage::Session, "session"),
        (StartStage::Keyring, "keyring"),
        (StartStage::Descriptors, "descriptors"),
        (StartStage::Attributes, "attributes"),
        (StartStage::Limits, "limits"),
        (StartStage::Groups, "groups"),
        (StartStage::Gid, "gid"),
        (StartStage::Uid, "uid"),
        (StartStage::VerifyIdentity, "verify-identity"),
        (StartStage::WorkingDirectory, "working-directory"),
        (StartStage::Signals, "signals"),
        (StartStage::Exec, "exec"),
    ];

    /// The stage's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("unknown", |row| row.1)
    }
}
