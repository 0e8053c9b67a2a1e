//! Which executions verbs list, remove or act on.

use clap::Args;
use escher_client::{Condition, ListFilter, Selection};

use super::column::{Column, ListFormat, SortKey};
use super::invalid_value::whole_number;
use super::point_in_time::PointInTime;

/// The most executions that `ps` shows by default.
pub(crate) const DEFAULT_LIMIT: u32 = 100;

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Include finished executions
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Only executions submitted at or after TIME: 2h (ago), today, yesterday, 2026-03-01,
    /// '2026-03-01 12:30', or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<PointInTime>,
    /// Only executions submitted before TIME
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<PointInTime>,
    /// At most N executions, the newest; 0 for all [default: 100]
    #[arg(long, value_name = "N", value_parser = whole_number::<u32>,
          conflicts_with_all = ["last", "latest"])]
    pub(crate) limit: Option<u32>,
    /// The last N executions, finished or not
    #[arg(short = 'n', long, value_name = "N", value_parser = whole_number::<u32>,
          conflicts_with = "latest")]
    pub(crate) last: Option<u32>,
    /// The latest execution, finished or not
    #[arg(short = 'l', long)]
    pub(crate) latest: bool,
    /// Show values in full, however wide the terminal
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Sort by this column, or by -COLUMN in reverse [default: -number]
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(crate) sort: Option<SortKey>,
    /// Show these columns, with commas between them: number, id, name, status, exit, age, time, user,
    /// command, submitted, started, ended, labels, key or pid
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(crate) columns: Vec<Column>,
    /// How to show executions: table, json or csv
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<ListFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only executions that match K=V, or do not match K!=V; K is status, exit, user, name, command or
    /// label.KEY, and * in V stands for anything (may be repeated: of the same K, one must match)
    #[arg(long = "filter", value_name = "K=V")]
    pub(crate) filters: Vec<Condition>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Only executions submitted before TIME: 30d (ago), yesterday, 2026-03-01, '2026-03-01 12:30',
    /// or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<PointInTime>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Only show how much would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Executions by name, or all that match.
#[derive(Debug, Args)]
pub(crate) struct TargetsOrFilterArgs {
    /// Number, name or id of an execution, or the first or last 4 or more digits of its id;
    /// USER/NAME for another user's name
    #[arg(
        value_name = "ID",
        required_unless_present = "filters",
        conflicts_with = "filters"
    )]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

impl PsArgs {
    /// Returns the most executions that are shown; 0 for all.
    pub(crate) fn shown_limit(&self) -> u32 {
        let latest = self.latest.then_some(1);
        let chosen = self.limit.or(self.last).or(latest);
        chosen.unwrap_or(DEFAULT_LIMIT)
    }

    /// Whether nobody has said how many executions are to be shown.
    pub(crate) fn has_default_limit(&self) -> bool {
        self.limit.is_none() && self.last.is_none() && !self.latest
    }

    pub(crate) fn selection(&self) -> Selection {
        // One more than is shown, to know whether there are more.
        let limit = self.shown_limit() + u32::from(self.has_default_limit());
        let filter = ListFilter {
            all: self.all || self.latest || self.last.is_some(),
            conditions: self.filter.filters.clone(),
            limit,
        };
        Selection {
            since: self.since.map(|time| time.0),
            until: self.until.map(|time| time.0),
            ..filter.into()
        }
    }
}

impl PruneArgs {
    pub(crate) fn selection(&self) -> Selection {
        let filter = ListFilter {
            all: true,
            conditions: self.filter.filters.clone(),
            limit: 0,
        };
        Selection {
            until: self.until.map(|time| time.0),
            ..filter.into()
        }
    }
}
