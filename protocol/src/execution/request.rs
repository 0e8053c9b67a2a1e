//! The request to run a command, and its limits.

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Text, bounded_list};
use crate::parts::Parts;
use crate::process_limits::ProcessLimits;
use crate::resources::ResourceLimits;

/// Longest name, key, label key or label value, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Most labels of one execution.
pub const MAX_LABELS: usize = 64;
/// Most environment variables of a request.
pub const MAX_VARIABLES: usize = 4096;
/// Longest name of an environment variable, in bytes.
pub const MAX_VARIABLE_NAME_BYTES: usize = 255;

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
    /// They are left running: [`Leftovers::Left`](super::Leftovers::Left).
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
