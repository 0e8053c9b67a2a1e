//! `top` without a screen: one table.

use std::io::{self, IsTerminal};

use escher_client::{Client, Timestamp};

use super::columns::Table;
use super::model::{Measurement, Model, Update};
use super::sources;
use crate::context::{Context, print_notice};
use crate::failure::Failure;
use crate::render::{json, print};

/// Prints what runs and waits, and what it uses.
pub(super) async fn print_once(context: &Context, client: &Client) -> Result<u8, Failure> {
    let listing = sources::list(client).await?;
    let measurement = sources::measure(client).await?;
    let mut model = Model::new();
    model.apply(Update::Listed(listing));
    if context.json {
        print_objects(&model, &measurement)?;
    } else {
        model.apply(Update::Measured(measurement));
        print_table(&model)?;
    }
    if model.is_truncated && context.shows_notices() {
        print_notice(&format!(
            "only the newest {} running and pending executions are shown",
            sources::MAX_SHOWN
        ));
    }
    Ok(0)
}

fn print_table(model: &Model) -> Result<(), Failure> {
    let table = Table::new(&model.rows, Timestamp::now(), terminal_width());
    let lines = [table.header()].into_iter().chain(table.lines());
    print(&lines.map(|line| line + "\n").collect::<String>())
}

/// Returns the width of the terminal that standard output is, if it is one and knows.
fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let (width, _) = ratatui::crossterm::terminal::size().ok()?;
    Some(width.into()).filter(|width| *width > 0)
}

fn print_objects(model: &Model, measurement: &Measurement) -> Result<(), Failure> {
    for row in &model.rows {
        let object = match measurement.usages.get(&row.record.id) {
            Some(usage) => json::ExecutionObject::with_usage(&row.record, usage),
            None => json::ExecutionObject::from_record(&row.record),
        };
        print(&json::line(&object))?;
    }
    Ok(())
}
