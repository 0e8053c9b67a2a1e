//! Executions that a verb acts on: those that are named, or those that match a filter.

use escher_client::{Client, Condition, ListFilter, Property, Status};

use crate::args::selection::TargetsOrFilterArgs;
use crate::context::{Context, print_notice};
use crate::failure::Failure;

/// Which executions a filter selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selectable {
    Unfinished,
    Running,
    Finished,
}

/// Returns what is named, or the numbers of the executions that match.
pub(super) async fn selected(
    context: &Context,
    client: &Client,
    args: &TargetsOrFilterArgs,
    selectable: Selectable,
) -> Result<Vec<String>, Failure> {
    if args.filter.filters.is_empty() {
        return Ok(args.targets.clone());
    }
    let without = |status| Condition::is_not(Property::Status(status));
    let excluded = match selectable {
        Selectable::Unfinished => Vec::new(),
        Selectable::Running => vec![without(Status::Pending)],
        Selectable::Finished => vec![without(Status::Pending), without(Status::Running)],
    };
    let filter = ListFilter {
        all: selectable == Selectable::Finished,
        conditions: [&args.filter.filters[..], &excluded].concat(),
        limit: 0,
    };
    let mut listed = client.list_executions(filter).await?;
    let mut numbers = Vec::new();
    while let Some(record) = listed.next().await {
        let record = record?;
        // A condition on the state or the exit status selects finished executions, too.
        if record.status.is_finished() == (selectable == Selectable::Finished) {
            numbers.push(record.number.to_string());
        }
    }
    if numbers.is_empty() && context.is_interactive() {
        print_notice("no execution matches");
    }
    Ok(numbers)
}
