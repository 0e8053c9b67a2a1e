//! `ps`: what runs and what ran.

use escher_client::{ListFilter, Selection, Timestamp};

use crate::Context;
use crate::args::PsArgs;
use crate::args::filter;
use crate::failure::Failure;
use crate::render::{json, print, table, text};

pub(super) async fn ps(context: &Context, args: PsArgs) -> Result<u8, Failure> {
    let limit = args.limit;
    let selection = selection(args)?;
    let client = context.connect().await?;
    let mut executions = client.list_executions(selection).await?;
    let mut records = Vec::new();
    let (mut shown, mut cut) = (0, false);
    while let Some(record) = executions.next().await {
        let record = record?;
        if limit > 0 && shown == limit {
            cut = true;
            break;
        }
        shown += 1;
        if context.json {
            print(&json::line(&json::Execution::of_record(&record)))?;
        } else {
            records.push(record);
        }
    }
    if !context.json {
        print(&table::executions(&records, Timestamp::now()))?;
        if cut && !context.quiet {
            context.say(&text::cut_at(limit));
        }
    }
    Ok(0)
}

fn selection(args: PsArgs) -> Result<Selection, Failure> {
    let filter = ListFilter {
        all: args.all,
        // One more than is shown tells whether that is all.
        limit: match args.limit {
            0 => 0,
            limit => limit.saturating_add(1),
        },
        ..ListFilter::default()
    };
    Ok(Selection {
        filter: filter::narrow(filter, args.filters)?,
        since: args.since.map(|moment| moment.0),
        until: args.until.map(|moment| moment.0),
    })
}
