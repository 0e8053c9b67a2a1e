//! Lists of executions.

mod cell;
mod layout;
mod list_view;

pub(crate) use list_view::ListView;

use std::cmp::Ordering;

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use escher_client::{ExecutionRecord, Status, Timestamp};

use super::csv;
use super::view::View;
use crate::args::column::{Column, SortKey};
use cell::{Value, sort_value, value};
use layout::{GAP, Layout};

/// Sorts executions. Those without the value come last.
pub(crate) fn sort(records: &mut [ExecutionRecord], key: SortKey, now: Timestamp) {
    records.sort_by(|a, b| {
        let (a, b) = (
            sort_value(a, key.column, now),
            sort_value(b, key.column, now),
        );
        match (a, b) {
            (Some(a), Some(b)) if key.is_reversed => b.cmp(&a),
            (Some(a), Some(b)) => a.cmp(&b),
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (None, None) => Ordering::Equal,
        }
    });
}

/// Returns executions as comma-separated values, with the names of the columns in the first row.
pub(crate) fn as_csv(records: &[ExecutionRecord], list: &ListView<'_>) -> String {
    let columns = list.chosen_columns();
    let header = csv::row(columns.iter().map(|column| column.name()));
    let rows = records.iter().map(|record| {
        csv::row(
            columns
                .iter()
                .map(|column| match value(record, *column, list) {
                    Value::Text(text) => text,
                    Value::Missing => String::new(),
                }),
        )
    });
    std::iter::once(header).chain(rows).collect()
}

/// Returns executions, one per line. `width`: that of the terminal, if there is one.
pub(crate) fn as_table(
    records: &[ExecutionRecord],
    list: &ListView<'_>,
    width: Option<usize>,
) -> String {
    let all = list.chosen_columns();
    let width = width.filter(|_| list.is_truncated);
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let cells = all.iter().map(|column| match value(record, *column, list) {
                Value::Text(text) => text,
                Value::Missing => "-".to_owned(),
            });
            cells.collect()
        })
        .collect();
    let may_drop = list.columns.is_empty();
    let layout = Layout::new(all, &natural_widths(all, &rows), width, may_drop);
    let mut table = empty_table(list.view, width.is_some());
    let shown = || layout.columns.iter();
    table.set_header(shown().map(|of| header(of.column)));
    for (record, cells) in records.iter().zip(&rows) {
        let cells = shown().map(|of| {
            let cell = Cell::new(&cells[of.index]);
            match color(record).filter(|_| of.column == Column::Status && list.view.style.has_color)
            {
                Some(color) => cell.fg(color),
                None => cell,
            }
        });
        let mut row = Row::from(cells.collect::<Vec<_>>());
        row.max_height(1);
        table.add_row(row);
    }
    for (column, of) in table.column_iter_mut().zip(shown()) {
        column.set_padding((0, GAP));
        // What does not fit is cut anywhere, not before a word.
        column.set_delimiter('\0');
        column.set_constraint(match of.width {
            None => ColumnConstraint::ContentWidth,
            Some(width) => ColumnConstraint::Absolute(Width::Fixed(
                u16::try_from(width).unwrap_or(u16::MAX).saturating_add(GAP),
            )),
        });
    }
    if let Some(width) = width {
        // The gap behind the last column may be cut off.
        let width = u16::try_from(width).unwrap_or(u16::MAX);
        table.set_width(width.saturating_add(GAP));
    }
    table.trim_fmt() + "\n"
}

/// Returns the widths of the widest values, or of headers that are wider.
fn natural_widths(columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    let mut table = Table::new();
    table.set_header(columns.iter().map(|column| header(*column)));
    table.add_rows(rows);
    let widths = table.column_max_content_widths().into_iter();
    widths.map(usize::from).collect()
}

fn header(column: Column) -> String {
    column.name().to_uppercase()
}

fn empty_table(view: &View, is_fitted: bool) -> Table {
    let mut table = Table::new();
    let arrangement = if is_fitted {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    };
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(arrangement)
        .set_truncation_indicator(view.style.ellipsis());
    table.force_no_tty();
    if view.style.has_color {
        table.enforce_styling();
    }
    table
}

/// The colour of a state, whose name is there as well.
fn color(record: &ExecutionRecord) -> Option<Color> {
    match record.status {
        Status::Running if record.resources.paused => Some(Color::Yellow),
        Status::Running => Some(Color::Green),
        Status::Pending | Status::Cancelled => Some(Color::Yellow),
        Status::Failed | Status::Timeout | Status::Lost => Some(Color::Red),
        Status::Completed => None,
    }
}

#[cfg(test)]
mod tests;
