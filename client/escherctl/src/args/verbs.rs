//! The arguments of the verbs that act on existing executions or on escherd.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::duration::{MeasureInterval, WaitTimeout};
use super::event_condition::EventCondition;
use super::examples;
use super::invalid_value::whole_number;
use super::point_in_time::PointInTime;
use super::selection::TargetsOrFilterArgs;
use super::signal::SignalNumber;
use super::values::RunAsUser;

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Number, name or id of an execution, or the first or last 4 or more digits of its id; @last for
    /// your newest, @failed for your newest that failed; USER/NAME for another user's name
    #[arg(value_name = "ID")]
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct TargetsArgs {
    /// Number, name or id of an execution, or the first or last 4 or more digits of its id; @last for
    /// your newest, @failed for your newest that failed; USER/NAME for another user's name
    #[arg(value_name = "ID", required = true)]
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Follow the output until the command ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long = "lines", visible_alias = "tail", value_name = "N",
          value_parser = whole_number::<u64>)]
    pub(crate) lines: Option<u64>,
    /// Begin at this byte of the log, as --json gives it
    #[arg(long, value_name = "OFFSET", value_parser = whole_number::<u64>, conflicts_with = "lines")]
    pub(crate) from: Option<u64>,
    /// Only output that arrived at or after TIME: 5m (ago), 2026-03-01, '2026-03-01 12:30', or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<PointInTime>,
    /// Only output that arrived before TIME
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<PointInTime>,
    /// Show only standard output
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Show only standard error
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Do not show long output in a pager ($PAGER, else less) at a terminal
    #[arg(long)]
    pub(crate) no_pager: bool,
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
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
    /// Signal to send: TERM, SIGTERM or 15; -9 and -HUP are short for -s 9 and -s HUP
    #[arg(short, long, default_value = "TERM")]
    pub(crate) signal: SignalNumber,
    /// Send it to all processes of the execution
    #[arg(long)]
    pub(crate) tree: bool,
    #[command(flatten)]
    pub(crate) targets: TargetsOrFilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Send SIGKILL at once
    #[arg(long, conflicts_with = "signal")]
    pub(crate) now: bool,
    /// Send this signal instead of SIGTERM, before SIGKILL
    #[arg(short, long)]
    pub(crate) signal: Option<SignalNumber>,
    #[command(flatten)]
    pub(crate) targets: TargetsOrFilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait only until one of them has finished, and print which
    #[arg(long)]
    pub(crate) any: bool,
    /// Wait at most this long
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<WaitTimeout>,
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
    /// Follow events as they happen, from now on or from where -n or --since says
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the last N events
    #[arg(short = 'n', long = "lines", visible_alias = "tail", value_name = "N",
          value_parser = whole_number::<u64>, conflicts_with = "since")]
    pub(crate) lines: Option<u64>,
    /// Begin with the first event at or after TIME: 5m (ago), 2026-03-01, '2026-03-01 12:30', or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<PointInTime>,
    /// Only events that match; K is status (only ends with it) or name (may be repeated)
    #[arg(long = "filter", value_name = "K=V")]
    pub(crate) filters: Vec<EventCondition>,
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
