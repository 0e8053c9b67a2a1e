//! Which executions `ps` lists and `prune` removes.

use std::str::FromStr;

use clap::Args;
use escher_client::{ListFilter, Selection, Status, Text};

use super::invalid_value::{InvalidValue, invalid, whole_number};
use super::point_in_time::PointInTime;
use crate::failure::Failure;

/// The most executions that `ps` shows by default.
const DEFAULT_LIMIT: u32 = 100;

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Include finished executions
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only executions that match; K is status, user, name or label.KEY (may be repeated)
    #[arg(long = "filter", value_name = "K=V")]
    pub(crate) filters: Vec<Filter>,
    /// Only executions submitted at or after TIME: 2h (ago), 2026-03-01, '2026-03-01 12:30', or RFC
    /// 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<PointInTime>,
    /// Only executions submitted before TIME
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<PointInTime>,
    /// At most N executions, the newest; 0 for all
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT,
          value_parser = whole_number::<u32>)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only executions that match; K is status, user, name or label.KEY (may be repeated)
    #[arg(long = "filter", value_name = "K=V")]
    pub(crate) filters: Vec<Filter>,
    /// Only executions submitted before TIME: 30d (ago), 2026-03-01, '2026-03-01 12:30', or RFC
    /// 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<PointInTime>,
}

impl PsArgs {
    pub(crate) fn into_selection(self) -> Result<Selection, Failure> {
        let filter = ListFilter {
            all: self.all,
            // One more than is shown, to know whether there are more.
            limit: match self.limit {
                0 => 0,
                limit => limit.saturating_add(1),
            },
            ..ListFilter::default()
        };
        Ok(Selection {
            filter: apply(self.filters, filter)?,
            since: self.since.map(|time| time.0),
            until: self.until.map(|time| time.0),
        })
    }
}

impl PruneArgs {
    pub(crate) fn into_selection(self) -> Result<Selection, Failure> {
        let finished = ListFilter {
            all: true,
            ..ListFilter::default()
        };
        Ok(Selection {
            filter: apply(self.filters, finished)?,
            since: None,
            until: self.until.map(|time| time.0),
        })
    }
}

/// `--filter`: what an execution must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Status(Status),
    User(Text),
    Name(Text),
    Label(Text, Text),
}

impl FromStr for Filter {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const FORM: &str = "expected KEY=VALUE, where KEY is status, user, name or label.KEY";
        let Some((key, value)) = text.split_once('=') else {
            return invalid(FORM);
        };
        match (key, key.strip_prefix("label.")) {
            (_, Some(label)) if !label.is_empty() => Ok(Filter::Label(label.into(), value.into())),
            ("user", _) => Ok(Filter::User(value.into())),
            ("name", _) => Ok(Filter::Name(value.into())),
            ("status", _) => Status::from_name(value).map(Filter::Status).map_or_else(
                || {
                    let names = Status::TABLE.map(|row| row.1).join(", ");
                    invalid(format!("unknown status; expected one of {names}"))
                },
                Ok,
            ),
            _ => invalid(FORM),
        }
    }
}

/// Adds what `--filter` demands to `list`.
fn apply(filters: Vec<Filter>, mut list: ListFilter) -> Result<ListFilter, Failure> {
    for filter in filters {
        match filter {
            Filter::Status(status) => {
                // Filtering by a final status implies `-a`.
                list.all |= status.is_finished();
                if !list.statuses.contains(&status) {
                    list.statuses.push(status);
                }
            }
            Filter::User(user) => set_once(&mut list.user, user, "user")?,
            Filter::Name(name) => set_once(&mut list.name, name, "name")?,
            Filter::Label(key, value) => list.labels.push((key, value)),
        }
    }
    Ok(list)
}

fn set_once(field: &mut Option<Text>, value: Text, key: &str) -> Result<(), Failure> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            format!("--filter {key}=... may be specified only once"),
            None,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(filters: &[&str]) -> Result<ListFilter, Failure> {
        let filters = filters.iter().map(|text| text.parse().unwrap()).collect();
        apply(filters, ListFilter::default())
    }

    #[test]
    fn parses_filters() {
        assert_eq!("status=lost".parse(), Ok(Filter::Status(Status::Lost)));
        assert_eq!(
            "label.a.b=c".parse(),
            Ok(Filter::Label("a.b".into(), "c".into()))
        );
        for text in ["status=gone", "label.=x", "colour=red", "status"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }

    #[test]
    fn combines_filters() {
        let filter = list(&["status=running", "user=alice", "label.a=b", "name=n"]).unwrap();
        assert_eq!(filter.statuses, [Status::Running]);
        assert_eq!(filter.labels, [("a".into(), "b".into())]);
        assert!(!filter.all && filter.name.is_some() && filter.user.is_some());
        assert!(list(&["status=failed"]).unwrap().all);
        assert!(list(&["user=a", "user=b"]).is_err());
        let twice = list(&["status=lost", "status=lost"]).unwrap();
        assert_eq!(twice.statuses, [Status::Lost]);
    }
}
