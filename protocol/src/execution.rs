//! Executions: requests, records and outcomes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Text, bounded_list};
use crate::error::ApiError;
use crate::id::ExecutionId;
use crate::parts::Parts;
use crate::process_limits::ProcessLimits;
use crate::resources::{ResourceLimits, Resources};
use crate::signal::SentSignals;
use crate::time::Timestamp;
use crate::user::User;

/// Longest name, key, label key or label value, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Most labels of one execution.
pub const MAX_LABELS: usize = 64;
/// Most environment variables of a request.
pub const MAX_VARIABLES: usize = 4096;
/// Longest name of an environment variable, in bytes.
pub const MAX_VARIABLE_NAME_BYTES: usize = 255;
/// Most bytes of the command in the record of a finished execution. So the size of a record is bounded.
pub const KEPT_COMMAND_BYTES: usize = 16 * 1024;
/// Most bytes of the command in a record that [`Request::List`](crate::message::Request::List)
/// returns.
pub const LISTED_COMMAND_BYTES: usize = 4096;

/// A request to run a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRequest {
    /// Makes the request safe to repeat. A user's second request with the same key names the first
    /// execution and does not run again if the requests are equal, and is a `key-conflict`
    /// otherwise.
    pub key: Option<Text>,
    /// A name for people; begins with a letter. Several executions may have the same name.
    pub name: Option<Text>,
    /// The command to run.
    pub command: Command,
    /// The caller's own environment, if the command inherits that: set on top of the fresh environment
    /// that escherd creates. It is no part of what `key` stands for, and is never stored if the command
    /// is launched at once: then the answer comes once the command has begun, and a request that
    /// was not answered has to be repeated with its key.
    #[serde(deserialize_with = "bounded_list")]
    pub inherited: Vec<(Blob, Blob)>,
    /// Variables that are set on top of these; with `inherited` at most [`MAX_VARIABLES`]. Of several with
    /// one name the last counts.
    #[serde(deserialize_with = "bounded_list")]
    pub environment: Vec<(Blob, Blob)>,
    /// The umask (umask(2)), at most `0o777`; no part of what `key` stands for. `None`: `0o022`.
    pub umask: Option<u32>,
    /// The working directory: an absolute path of at most 4095 bytes (PATH_MAX), entered with the authority of the
    /// command's user.
    /// `None`: the user's home, or `/` if that cannot be entered.
    pub working_dir: Option<Blob>,
    /// The user that the command runs as.
    pub run_as: RunAs,
    /// The command's standard input.
    pub stdin: StdinMode,
    /// Whether standard error goes into standard output: one stream, in the order in which it was
    /// written.
    pub merges_output: bool,
    /// What happens if the standard input is lost before its end.
    pub stdin_lost: StdinLost,
    /// When to end the execution.
    pub timeout: Timeout,
    /// Milliseconds from SIGTERM to SIGKILL; `None`: the configured `kill_grace_ms`.
    pub kill_grace_ms: Option<u64>,
    /// Milliseconds after the end of the main process in which other processes of the command may
    /// end: they get SIGTERM after the first half, and SIGKILL at the end. `None`: the configured
    /// `drain`.
    pub drain_ms: Option<u64>,
    /// What happens to processes that the main process leaves behind.
    pub kill_mode: KillMode,
    /// Limits of resources for all its processes together.
    pub limits: ResourceLimits,
    /// Limits and priorities of each of its processes. Only root may set more than a command gets
    /// without them.
    pub process: ProcessLimits,
    /// Labels for filters; at most [`MAX_LABELS`], with unique keys.
    #[serde(deserialize_with = "bounded_list")]
    pub labels: Vec<(Text, Text)>,
    /// Fields added by later versions. A required part that escherd does not know is refused with
    /// [`unsupported`](crate::ErrorCode::UNSUPPORTED); others are kept.
    pub parts: Parts,
}

/// The command of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A program and its arguments. A program without a slash is looked up in the command's PATH.
    Exec {
        /// Program and arguments; must not be empty.
        #[serde(deserialize_with = "bounded_list")]
        argv: Vec<Blob>,
    },
    /// A text for a shell, run as `<shell> -c <text>`.
    Shell {
        /// The text.
        text: Blob,
        /// The shell; `None`: [`Command::DEFAULT_SHELL`].
        shell: Option<Blob>,
    },
    /// A script, run as `<interpreter> <path> <arguments>`, or by its first line (`#!`, execve(2)).
    /// Records have it as `Exec`.
    Script {
        /// The script.
        path: Blob,
        /// The interpreter; `None`: the program in the script's first line.
        interpreter: Option<Blob>,
        /// Arguments of the script.
        #[serde(deserialize_with = "bounded_list")]
        arguments: Vec<Blob>,
    },
}

impl Default for Command {
    fn default() -> Self {
        Command::Exec { argv: Vec::new() }
    }
}

impl Command {
    /// The shell of a [`Command::Shell`] without one.
    pub const DEFAULT_SHELL: &'static str = "/bin/sh";

    /// Returns the argument list for execve(2).
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

/// The user that a command runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAs {
    /// The caller, with uid, gid and groups of its connection.
    #[default]
    Caller,
    /// The user with this login name, with its login groups.
    Name(Text),
    /// The user with this uid, with its login groups.
    Uid(u32),
}

/// The standard input of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StdinMode {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe, written by [`Request::WriteStdin`](crate::message::Request::WriteStdin).
    Stream,
}

/// What happens to processes that a command leaves behind when its main process has ended by itself. A
/// cancel and a timeout end all processes in any case. As `KillMode=` in systemd.kill(5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KillMode {
    /// They are ended after the drain.
    #[default]
    ControlGroup,
    /// They are left running: [`Leftovers::Left`].
    Process,
}

impl KillMode {
    /// Every mode with its name, in the order of the wire.
    pub const TABLE: [(KillMode, &'static str); 2] = [
        (KillMode::ControlGroup, "control-group"),
        (KillMode::Process, "process"),
    ];

    /// Returns the mode's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KillMode::ControlGroup => "control-group",
            KillMode::Process => "process",
        }
    }

    /// Returns the mode with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE
            .iter()
            .find(|row| row.1 == name)
            .map(|row| row.0)
    }
}

/// When a standard input is lost, and what happens then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinLost {
    /// What happens.
    pub then: OnStdinLost,
    /// Milliseconds without a client that holds the input
    /// ([`Request::HoldStdin`](crate::message::Request::HoldStdin)) after which it is lost. `None`: it
    /// waits for the next writer, however long.
    pub after_ms: Option<u64>,
}

/// What happens to a command whose standard input is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnStdinLost {
    /// The execution is cancelled: the command must not take a part of its input for all of it.
    #[default]
    Cancel,
    /// The input ends, as if it were complete.
    End,
}

/// The timeout of an execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timeout {
    /// The configured `default_timeout_ms`.
    #[default]
    Default,
    /// A duration from the start of the program.
    After {
        /// The duration in milliseconds; must not be 0.
        ms: u64,
    },
    /// No timeout; refused where a maximum is configured.
    Unlimited,
}

/// How a cancel ends an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelMode {
    /// The kill ladder: SIGTERM, the grace period, SIGKILL.
    Graceful,
    /// SIGKILL at once, also during a kill ladder.
    Kill,
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
    /// One of the slots that bound how many executions run at once.
    Slot,
    /// A launcher: escherd has none at the moment, and starts no command without one.
    Launcher,
}

impl WaitReason {
    /// Returns the reason's name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WaitReason::Slot => "slot",
            WaitReason::Launcher => "launcher",
        }
    }
}

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

/// Who requested a cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Canceller {
    /// A user, by a request.
    User(User),
    /// The host or the service, because it stops.
    Host,
    /// escherd, because the command's standard input was lost ([`StdinLost`]).
    StdinLost,
}

impl fmt::Display for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Canceller::User(user) => user.fmt(f),
            Canceller::Host => f.write_str("host"),
            Canceller::StdinLost => f.write_str("stdin-lost"),
        }
    }
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the main process ended.
    pub exit: Exit,
    /// Why the execution is not `completed`; `None` exactly if it is.
    pub error: Option<ApiError>,
    /// The last signal of the kill ladder, if it was used on the main process.
    pub ended_by_signal: Option<i32>,
    /// Time from start to end, in microseconds of the monotonic clock.
    pub duration_us: u64,
    /// Resources that the command used.
    pub usage: Usage,
    /// Bytes that the command wrote.
    pub output: OutputTotals,
    /// Whether processes outlived the main process, and what became of them.
    pub leftovers: Leftovers,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status, 0 to 255.
    Code(i32),
    /// It was killed by a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// It could not be started.
    NotStarted {
        /// The step that failed.
        stage: StartStage,
        /// The reason (errno(3)).
        errno: i32,
    },
    /// It was never launched: the execution was cancelled before, or given up.
    Withdrawn,
    /// Unknown: the shim was killed or the host went down.
    Unknown,
}

/// Resources that a command used: as counted by its cgroup, or without one, by the command and its
/// descendants that were waited for (wait4(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Most memory at once, in bytes; without a cgroup, the largest resident set of any one
    /// process. 0 if it was not measured: without a cgroup, that of a command which uses hardly
    /// more than its shim.
    pub peak_memory_bytes: u64,
}

/// Bytes that a command wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTotals {
    /// Bytes to standard output.
    pub stdout_bytes: u64,
    /// Bytes to standard error.
    pub stderr_bytes: u64,
    /// Length of the log: bytes of both that were written to it.
    pub log_bytes: u64,
    /// Bytes of both that are not in the log, because it could not be written or reached its limit.
    pub dropped_bytes: u64,
    /// Bytes at the beginning of the log that were deleted later, because it reached its limit.
    pub forgotten_bytes: u64,
    /// Bytes that the log and its index may still grow by, because processes were left
    /// ([`Leftovers::Left`]) that may write to it; else 0.
    pub reserved_bytes: u64,
}

/// Processes that outlived a main process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leftovers {
    /// There were none, or they ended by themselves.
    #[default]
    None,
    /// Some had to be ended, by SIGTERM or SIGKILL.
    Killed,
    /// SIGKILL was sent, but some did not end (uninterruptible sleep).
    Unkillable,
    /// Unknown: the shim was killed or the host went down.
    Unknown,
    /// Some were left running when the execution had finished, as [`KillMode::Process`] asks.
    Left,
}

impl Leftovers {
    /// Returns the name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Leftovers::None => "none",
            Leftovers::Killed => "killed",
            Leftovers::Unkillable => "unkillable",
            Leftovers::Unknown => "unknown",
            Leftovers::Left => "left",
        }
    }
}

/// A step in starting a program. The variants are in the order of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StartStage {
    /// Pipes, memory and the process itself (pipe(2), clone(2)).
    Prepare,
    /// A new session and process group (setsid(2)).
    Session,
    /// A new session keyring (keyctl(2)).
    Keyring,
    /// Descriptors 0, 1 and 2 and no others (dup3(2), close_range(2)).
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
    /// A check that user and groups are as requested.
    VerifyIdentity,
    /// The working directory (chdir(2)).
    WorkingDirectory,
    /// The signal mask (sigprocmask(2)).
    Signals,
    /// The program (execve(2)).
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

    /// Returns the stage's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("unknown", |row| row.1)
    }
}
