//! The columns of the table, and which of them fit.

use escher_client::Timestamp;
use ratatui::text::Span;

use super::rows::Row;
use crate::render::{escape, quantity};
use crate::time;

/// Fewest columns of the screen for the command. The least important columns are dropped for it.
const MIN_COMMAND_WIDTH: usize = 12;

/// Most columns of the screen for names of executions and of users.
const MAX_NAME_WIDTH: usize = 16;

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Number,
    Name,
    User,
    Status,
    Cpu,
    Memory,
    Read,
    Written,
    Tasks,
    Time,
    Command,
}

/// All columns from left to right.
const COLUMNS: [Column; 11] = [
    Column::Number,
    Column::Name,
    Column::User,
    Column::Status,
    Column::Cpu,
    Column::Memory,
    Column::Read,
    Column::Written,
    Column::Tasks,
    Column::Time,
    Column::Command,
];

/// What is dropped where the screen is too narrow, first to last. The others always stay.
const DROPPED: [&[Column]; 4] = [
    &[Column::User],
    &[Column::Tasks],
    &[Column::Name],
    &[Column::Read, Column::Written],
];

impl Column {
    fn header(self) -> &'static str {
        match self {
            Column::Number => "NUMBER",
            Column::Name => "NAME",
            Column::User => "USER",
            Column::Status => "STATUS",
            Column::Cpu => "CPU%",
            Column::Memory => "MEMORY",
            Column::Read => "READ/S",
            Column::Written => "WRITE/S",
            Column::Tasks => "TASKS",
            Column::Time => "TIME",
            Column::Command => "COMMAND",
        }
    }

    /// Returns the width that the usual values need, so that the table does not jump when one changes.
    fn usual_width(self) -> usize {
        match self {
            Column::Number | Column::Cpu => 6,
            Column::Status => 9,
            Column::Memory | Column::Read | Column::Written => 10,
            Column::Tasks => 5,
            Column::Time => 7,
            Column::Name | Column::User | Column::Command => 0,
        }
    }

    fn is_aligned_right(self) -> bool {
        !matches!(
            self,
            Column::Name | Column::User | Column::Status | Column::Command
        )
    }

    /// Returns whether the column tells the rows apart, or says something of any.
    fn says_something(self, rows: &[Row]) -> bool {
        match self {
            Column::Name => rows.iter().any(|row| row.record.name.is_some()),
            Column::User => rows
                .windows(2)
                .any(|pair| pair[0].record.user != pair[1].record.user),
            _ => true,
        }
    }

    fn cell(self, row: &Row, now: Timestamp) -> String {
        let (record, figures) = (&row.record, &row.figures);
        let size = |bytes: Option<u64>| bytes.map(quantity::size);
        let cell = match self {
            Column::Number => Some(record.number.to_string()),
            Column::Name => record.name.as_deref().map(escape::text),
            Column::User => Some(escape::text(&record.user.to_string())),
            Column::Status => Some(row.state().to_owned()),
            Column::Cpu => figures.cpu_permille.map(percent),
            Column::Memory => size(figures.memory_bytes),
            Column::Read => size(figures.read_per_second),
            Column::Written => size(figures.written_per_second),
            Column::Tasks => figures.tasks.map(|tasks| tasks.to_string()),
            Column::Time => row.running_time(now).map(time::duration),
            Column::Command => Some(command(row)),
        };
        cell.unwrap_or_else(|| "-".to_owned())
    }
}

/// Returns tenths of a percent as percent.
pub(super) fn percent(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

/// Returns the command of an execution, as far as its record has it.
pub(super) fn command(row: &Row) -> String {
    let argv = row.record.command.to_argv();
    let command = escape::command_line(argv.iter().map(|word| &word[..]));
    if row.record.command_cut {
        command + " \u{2026}"
    } else {
        command
    }
}

/// A table of executions as text.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<FilledColumn>,
}

/// A column with what it shows.
#[derive(Debug)]
pub(super) struct FilledColumn {
    pub(super) column: Column,
    pub(super) width: usize,
    cells: Vec<String>,
}

impl Table {
    /// Makes the table of `rows`, for a screen of this width; `None`: as wide as it gets.
    pub(super) fn new(rows: &[Row], now: Timestamp, screen_width: Option<usize>) -> Self {
        let columns = COLUMNS
            .into_iter()
            .filter(|column| column.says_something(rows));
        let columns = columns.map(|column| {
            let cells: Vec<String> = rows.iter().map(|row| column.cell(row, now)).collect();
            FilledColumn {
                column,
                width: column_width(column, &cells, screen_width.is_some()),
                cells,
            }
        });
        let mut table = Table {
            columns: columns.collect(),
        };
        if let Some(screen_width) = screen_width {
            table.drop_columns(screen_width);
        }
        table
    }

    /// Drops columns until the command has its least width, and gives it what is left.
    fn drop_columns(&mut self, screen_width: usize) {
        let taken = |columns: &[FilledColumn]| -> usize {
            let others = columns
                .iter()
                .filter(|filled| filled.column != Column::Command);
            others.map(|filled| filled.width + 1).sum()
        };
        for group in DROPPED {
            if taken(&self.columns) + MIN_COMMAND_WIDTH <= screen_width {
                break;
            }
            self.columns
                .retain(|filled| !group.contains(&filled.column));
        }
        let left = screen_width.saturating_sub(taken(&self.columns));
        if let Some(command) = self.columns.last_mut() {
            command.width = left;
        }
    }

    /// Returns the line with the names of the columns.
    pub(super) fn header(&self) -> String {
        self.line(|filled| filled.column.header())
    }

    /// Returns the lines of the rows.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let rows = self.columns.first().map_or(0, |filled| filled.cells.len());
        (0..rows).map(|row| self.line(|filled| &filled.cells[row]))
    }

    fn line<'a>(&'a self, cell: impl Fn(&'a FilledColumn) -> &'a str) -> String {
        let cells = self
            .columns
            .iter()
            .map(|filled| filled.padded(cell(filled)));
        let line = cells.collect::<Vec<_>>().join(" ");
        line.trim_end().to_owned()
    }
}

impl FilledColumn {
    /// Returns a cell with the width of the column, which cuts a longer one.
    fn padded(&self, cell: &str) -> String {
        let cell = cut(cell, self.width);
        let blanks = " ".repeat(self.width.saturating_sub(width(cell)));
        if self.column.is_aligned_right() {
            blanks + cell
        } else {
            cell.to_owned() + &blanks
        }
    }
}

/// Returns the width of a column with these cells. On a screen, names are cut.
fn column_width(column: Column, cells: &[String], is_on_screen: bool) -> usize {
    let widest = cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
    let is_name = matches!(column, Column::Name | Column::User);
    let widest = if is_name && is_on_screen {
        widest.min(MAX_NAME_WIDTH)
    } else {
        widest
    };
    widest.max(column.usual_width()).max(column.header().len())
}

/// Returns the beginning of a text that takes no more than `max_width` columns.
fn cut(text: &str, max_width: usize) -> &str {
    let mut taken = 0;
    for (start, character) in text.char_indices() {
        taken += width(character.encode_utf8(&mut [0; 4]));
        if taken > max_width {
            return &text[..start];
        }
    }
    text
}

/// Returns how many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{STARTED_AT, running};
    use super::*;
    use escher_client::ExecutionRecord;

    fn row(number: u64, name: Option<&str>) -> Row {
        Row::new(ExecutionRecord {
            name: name.map(Into::into),
            ..running(number)
        })
    }

    fn shown_columns(table: &Table) -> Vec<Column> {
        table.columns.iter().map(|filled| filled.column).collect()
    }

    fn other_user() -> Row {
        let mut row = row(9, None);
        row.record.user.uid = 1001;
        row
    }

    #[test]
    fn what_is_dropped_on_a_narrow_screen_is_decided() {
        use Column::*;
        let rows = [row(1, Some("a-name-of-more-than-sixteen")), other_user()];
        let all = [
            Number, Name, User, Status, Cpu, Memory, Read, Written, Tasks, Time, Command,
        ];
        let without = |dropped: &[Column]| -> Vec<Column> {
            let kept = all.iter().filter(|column| !dropped.contains(column));
            kept.copied().collect()
        };
        for (screen_width, expected) in [
            (None, all.to_vec()),
            (Some(105), all.to_vec()),
            (Some(104), without(&[User])),
            (Some(100), without(&[User])),
            (Some(99), without(&[User, Tasks])),
            (Some(94), without(&[User, Tasks])),
            (Some(93), without(&[User, Tasks, Name])),
            (Some(77), without(&[User, Tasks, Name])),
            (Some(76), without(&[User, Tasks, Name, Read, Written])),
            (Some(60), without(&[User, Tasks, Name, Read, Written])),
            (Some(20), without(&[User, Tasks, Name, Read, Written])),
        ] {
            let table = Table::new(&rows, STARTED_AT, screen_width);
            assert_eq!(shown_columns(&table), expected, "{screen_width:?}");
        }
    }

    #[test]
    fn a_column_that_says_nothing_takes_no_room() {
        let table = Table::new(&[row(1, None), row(2, None)], STARTED_AT, None);
        assert!(!shown_columns(&table).contains(&Column::Name));
        assert!(!shown_columns(&table).contains(&Column::User));
        assert_eq!(Table::new(&[], STARTED_AT, None).lines().count(), 0);
    }

    #[test]
    fn cells_have_the_width_of_their_column_in_any_script() {
        let rows = [row(7, Some("\u{4e16}\u{754c}")), row(1_234_567, Some("ab"))];
        let table = Table::new(&rows, STARTED_AT, None);
        assert_eq!(
            [table.header()]
                .into_iter()
                .chain(table.lines())
                .collect::<Vec<_>>(),
            [
                " NUMBER NAME STATUS      CPU%     MEMORY     READ/S    WRITE/S TASKS    TIME COMMAND",
                "      7 \u{4e16}\u{754c} running        -          -          -          -     -      0s sleep 7",
                "1234567 ab   running        -          -          -          -     -      0s sleep 1234567",
            ]
        );
        // A wide character that does not fit leaves a blank.
        let narrow = FilledColumn {
            column: Column::Name,
            width: 2,
            cells: Vec::new(),
        };
        assert_eq!(narrow.padded("a\u{4e16}"), "a ");
    }

    #[test]
    fn tenths_of_a_percent() {
        assert_eq!(
            [0, 5, 10, 1_503].map(percent),
            ["0.0", "0.5", "1.0", "150.3"]
        );
    }
}
