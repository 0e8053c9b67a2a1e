//! `ps`: lists executions.

use std::io::IsTerminal;

use comfy_table::Table;
use escher_client::ExecutionRecord;

use crate::args::column::ListFormat;
use crate::args::selection::{DEFAULT_LIMIT, PsArgs};
use crate::context::{Context, print_notice};
use crate::failure::Failure;
use crate::render::executions::{self, ListView};
use crate::render::{json, print, text};

pub(super) async fn ps(context: &Context, args: PsArgs) -> Result<u8, Failure> {
    let is_json = context.json || args.format == Some(ListFormat::Json);
    // Without an order nothing has to be kept.
    let is_streamed = args.sort.is_none() && (is_json || context.quiet);
    let selection = args.selection();
    let client = context.connect().await?;
    let mut listed = client.list_executions(selection).await?;
    let mut records = Vec::new();
    let (limit, mut shown, mut is_cut) = (args.shown_limit(), 0, false);
    while let Some(record) = listed.next().await {
        let record = record?;
        if limit > 0 && shown == limit {
            is_cut = true;
            break;
        }
        shown += 1;
        if is_streamed {
            print_alone(&record, is_json)?;
        } else {
            records.push(record);
        }
    }
    let view = context.view();
    if let Some(key) = args.sort {
        executions::sort(&mut records, key, view.now);
    }
    if is_json || context.quiet {
        for record in &records {
            print_alone(record, is_json)?;
        }
    } else {
        let is_csv = args.format == Some(ListFormat::Csv);
        // Some terminals report no width at all, as 0.
        let width = Table::new().width().filter(|width| *width > 0);
        let width = width.map(usize::from);
        let list = ListView {
            columns: &args.columns,
            is_truncated: !args.no_trunc && !is_csv,
            view: &view,
        };
        print(&if is_csv {
            executions::as_csv(&records, &list)
        } else {
            executions::as_table(&records, &list, width)
        })?;
    }
    let sees_notices = context.is_interactive() && std::io::stdout().is_terminal();
    if is_cut && args.has_default_limit() && sees_notices {
        print_notice(&text::list_truncated(DEFAULT_LIMIT));
    }
    Ok(0)
}

/// Prints an execution that needs no others beside it: as JSON, or its id.
fn print_alone(record: &ExecutionRecord, is_json: bool) -> Result<(), Failure> {
    print(&if is_json {
        json::line(&json::ExecutionObject::from_record(record))
    } else {
        format!("{}\n", record.id)
    })
}
