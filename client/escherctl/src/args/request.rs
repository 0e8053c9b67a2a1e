//! The arguments of `run` and `submit`, and the request that they describe.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};
use escher_client::{
    Blob, Command, ExecutionRequest, OnStdinLost, Parts, RunAs, StdinLost, StdinMode, Timeout,
};
use uuid::Uuid;

use super::duration::{CommandTimeout, Drain, KillGrace};
use super::environment;
use super::property::{Properties, Property, combine};
use super::values::{EnvironmentEntry, Label, RunAsUser};
use crate::failure::Failure;

#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Forward standard input to the command [default: /dev/null]
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// What happens if the input cannot be read to its end, or nobody sends the rest within the time
    /// of --reconnect because escherctl was killed
    #[arg(
        long,
        value_name = "ACTION",
        requires = "interactive",
        conflicts_with = "detach",
        default_value = "cancel"
    )]
    pub(crate) stdin_lost: StdinLostAction,
    /// Print the id without waiting, like `submit`
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

/// `--stdin-lost`: what happens to a command whose input is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StdinLostAction {
    /// The command is cancelled
    #[default]
    Cancel,
    /// The input ends, as if it were complete
    Eof,
}

impl From<StdinLostAction> for OnStdinLost {
    fn from(action: StdinLostAction) -> Self {
        match action {
            StdinLostAction::Cancel => OnStdinLost::Cancel,
            StdinLostAction::Eof => OnStdinLost::End,
        }
    }
}

#[derive(Debug, Default, Args)]
pub(crate) struct SubmitArgs {
    /// Let the command read what `send` and `attach -i` write [default: /dev/null]
    #[arg(short, long)]
    pub(crate) interactive: bool,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

/// The standard input of a command.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Input {
    mode: StdinMode,
    lost: StdinLost,
}

impl Input {
    /// The input of a command that escherctl feeds itself, or `/dev/null`. `then`: what happens if nobody
    /// feeds it for `reconnect_timeout`.
    pub(crate) fn fed(
        is_interactive: bool,
        then: OnStdinLost,
        reconnect_timeout: Duration,
    ) -> Self {
        let after_ms = u64::try_from(reconnect_timeout.as_millis()).unwrap_or(u64::MAX);
        let after_ms = is_interactive.then_some(after_ms);
        Input {
            lost: StdinLost { then, after_ms },
            ..Input::open(is_interactive)
        }
    }

    /// The input of a command that others feed, whenever they like, or `/dev/null`.
    pub(crate) fn open(is_interactive: bool) -> Self {
        let mode = if is_interactive {
            StdinMode::Stream
        } else {
            StdinMode::Null
        };
        Input {
            mode,
            lost: StdinLost::default(),
        }
    }
}

#[derive(Debug, Default, Args)]
pub(crate) struct RequestArgs {
    /// Set an environment variable, on top of the caller's environment; without `=V`, to the
    /// caller's value (may be repeated)
    #[arg(short, short_alias = 'E', long, value_name = "K[=V]",
          value_parser = OsStringValueParser::new().try_map(EnvironmentEntry::parse))]
    pub(crate) env: Vec<EnvironmentEntry>,
    /// Set the variables in this file, one in each line as `-e` takes it (may be repeated)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) env_file: Vec<PathBuf>,
    /// Do not pass the caller's environment and umask. Another user's commands never get them
    #[arg(long)]
    pub(crate) clean_env: bool,
    /// Merge standard error into standard output: one stream, in the order of writing
    #[arg(long)]
    pub(crate) merge: bool,
    /// Run in this directory [default: the current directory]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) workdir: Option<PathBuf>,
    /// End the command after this time: 90s, 5m, 1h30m, 1500ms, none [default: set by escherd]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<CommandTimeout>,
    /// Time between SIGTERM and SIGKILL when the command is ended: 10s [default: set by escherd]
    #[arg(long, value_name = "TIME")]
    pub(crate) kill_after: Option<KillGrace>,
    /// Time from the end of the main process until what it left behind is killed: 2s [default: set
    /// by escherd]
    #[arg(long, value_name = "TIME")]
    pub(crate) drain: Option<Drain>,
    /// Run as this user: a login name, or a uid as #1000
    #[arg(short, long)]
    pub(crate) user: Option<RunAsUser>,
    /// Limit the command: MemoryMax=512M, MemoryHigh=400M, CPUQuota=150%, CPUWeight=50, IOWeight=50,
    /// TasksMax=100; limit each of its processes, also without cgroups: Nice=10, OOMScoreAdjust=500,
    /// LimitNOFILE=1024:4096 and all other Limit* of systemd.exec(5); or leave processes running:
    /// KillMode=process (may be repeated)
    #[arg(short, long = "property", value_name = "NAME=VALUE")]
    pub(crate) properties: Vec<Property>,
    /// Name of the execution; begins with a letter
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Label of the execution, for filters (may be repeated)
    #[arg(short, long = "label", value_name = "K=V")]
    pub(crate) labels: Vec<Label>,
    /// Idempotency key: a repeated request with the same key does not run again
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Run this text with /bin/sh, in place of COMMAND
    #[arg(long, value_name = "TEXT", conflicts_with = "command")]
    pub(crate) shell: Option<OsString>,
    /// Program and its arguments; begins at the first word that is not an option
    #[arg(
        required_unless_present = "shell",
        trailing_var_arg = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<OsString>,
}

impl RequestArgs {
    /// Makes the request. It always has a key, so that it can be repeated when the connection is
    /// lost.
    pub(crate) fn into_request(self, input: Input) -> Result<ExecutionRequest, Failure> {
        let directory = working_dir(self.workdir.as_deref())?;
        let command = match self.shell {
            Some(text) => Command::Shell {
                text: text.into(),
                shell: None,
            },
            None => Command::Exec {
                argv: self.command.into_iter().map(Blob::from).collect(),
            },
        };
        let Properties {
            limits,
            process,
            kill_mode,
        } = combine(&self.properties);
        let inherits = self.user.is_none() && !self.clean_env;
        let inherited = if inherits {
            environment::inherited(&directory)
        } else {
            Vec::new()
        };
        Ok(ExecutionRequest {
            key: Some(self.key.unwrap_or_else(generate_key).into()),
            name: self.name.map(Into::into),
            command,
            inherited,
            environment: environment::set(&self.env_file, self.env)?,
            umask: inherits.then(environment::umask),
            working_dir: Some(directory.into_os_string().into()),
            run_as: self.user.map_or(RunAs::Caller, |user| user.0),
            stdin: input.mode,
            merges_output: self.merge,
            stdin_lost: input.lost,
            timeout: self.timeout.map_or(Timeout::Default, |timeout| timeout.0),
            kill_grace_ms: self.kill_after.map(|grace| grace.0),
            drain_ms: self.drain.map(|drain| drain.0),
            kill_mode,
            limits,
            process,
            labels: self
                .labels
                .into_iter()
                .map(|label| (label.0, label.1))
                .collect(),
            parts: Parts::new(),
        })
    }
}

fn generate_key() -> String {
    Uuid::now_v7().to_string()
}

/// Makes `directory` absolute. Links are not resolved: that takes the permissions of the user that
/// the command runs as.
fn working_dir(directory: Option<&Path>) -> Result<PathBuf, Failure> {
    match directory {
        Some(directory) if directory.is_absolute() => Ok(directory.to_owned()),
        directory => {
            let current = match directory_of_shell() {
                Some(directory) => directory,
                None => std::env::current_dir().map_err(|source| Failure::WorkingDirectory {
                    named: std::env::var_os("PWD").map(PathBuf::from),
                    source,
                })?,
            };
            let joined = directory.map_or(current.clone(), |directory| current.join(directory));
            // Drops `.` but not `..`, which behind a link leads elsewhere.
            Ok(joined.components().collect())
        }
    }
}

/// Returns the current directory by the path that the caller's shell has for it (`$PWD`, pwd(1)): that of a link, not
/// where it leads.
fn directory_of_shell() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("PWD")?);
    let is_current = || {
        let (named, current) = (fs::metadata(&directory).ok()?, fs::metadata(".").ok()?);
        Some((named.dev(), named.ino()) == (current.dev(), current.ino()))
    };
    let is_plain = directory
        .components()
        .all(|component| component != Component::ParentDir);
    (directory.is_absolute() && is_plain && is_current() == Some(true)).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_directories_are_relative_to_the_current_one() {
        let current = working_dir(None).unwrap();
        assert_eq!(
            current.canonicalize().unwrap(),
            std::env::current_dir().unwrap()
        );
        assert_eq!(working_dir(None).unwrap(), current);
        assert_eq!(working_dir(Some(Path::new("."))).unwrap(), current);
        assert_eq!(
            working_dir(Some(Path::new("./a/../b"))).unwrap(),
            current.join("a/../b")
        );
        assert_eq!(
            working_dir(Some(Path::new("/x/"))).unwrap(),
            Path::new("/x/")
        );
    }
}
