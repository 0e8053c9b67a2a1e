//! The arguments of the verbs that act on existing executions or on escherd.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::duration::MeasureInterval;
use super::examples;
use super::invalid_value::whole_number;
use super::signal::SignalNumber;
use super::values::RunAsUser;

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Number, name or id of an execution, or the first or last 4 or more digits of its id;
    /// USER/NAME for another user's name
    #[arg(value_name = "ID")]
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct TargetsArgs {
    /// Number, name or id of an execution, or the first or last 4 or more digits of its id;
    /// USER/NAME for another user's name
    #[arg(value_name = "ID", required = true)]
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Follow the output until the command ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long = "lines", value_name = "N", value_parser = whole_number::<u64>)]
    pub(crate) lines: Option<u64>,
    /// Show only standard output
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Show only standard error
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Forward standard input to the command, up to its end, if it was submitted with -i and nobody
    /// else feeds it
    #[arg(short, long)]
    pub(crate) interactive: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// End the input of the command afterwards
    #[arg(long)]
    pub(crate) end: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal to send: TERM, SIGTERM or 15
    #[arg(short, long)]
    pub(crate) signal: SignalNumber,
    /// Send it to all processes of the execution
    #[arg(long)]
    pub(crate) tree: bool,
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Print one table and exit; with --json one object for each execution
    #[arg(long)]
    pub(crate) once: bool,
    /// How often to measure what is used; at least 100ms
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub(crate) interval: MeasureInterval,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Follow events as they happen
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArgs {
    /// Show this user alone: a login name, or a uid as #1000
    #[arg(short, long)]
    pub(crate) user: Option<RunAsUser>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show the settings in force, and where each comes from
    #[command(before_help = examples::CONFIG_SHOW)]
    Show,
    /// Check a configuration; escherd need not run
    ///
    /// Of the escherds that a global option can choose, --user counts: then it is checked for that.
    ///
    /// Exit status: 0 if the configuration is valid, else 1.
    #[command(before_help = examples::CONFIG_CHECK)]
    Check(ConfigCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheckArgs {
    /// File to check: TOML, or JSON if its name ends in .json [default: what escherd would read]
    pub(crate) file: Option<PathBuf>,
}
