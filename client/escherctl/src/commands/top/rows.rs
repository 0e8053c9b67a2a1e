//! The executions that are shown, and their order.

use std::cmp::Ordering;
use std::time::Duration;

use escher_client::{CurrentUsage, ExecutionRecord, Status, Timestamp};

use super::figures::{Figures, Reading};
use crate::time;

/// An execution, with what it uses.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) record: ExecutionRecord,
    pub(super) figures: Figures,
    last_reading: Option<Reading>,
}

impl Row {
    /// Makes the row of an execution of which nobody has asked what it uses.
    pub(super) fn new(record: ExecutionRecord) -> Self {
        Row {
            record,
            figures: Figures::default(),
            last_reading: None,
        }
    }

    /// Takes a newer record. What has ended uses nothing.
    pub(super) fn update(&mut self, record: ExecutionRecord) {
        if record.status != Status::Running {
            self.figures = Figures::default();
            self.last_reading = None;
        }
        self.record = record;
    }

    /// Takes what the execution used at a time.
    pub(super) fn measure(&mut self, usage: CurrentUsage, at: Timestamp) {
        let Some(started_at) = self.record.started_at else {
            return;
        };
        let reading = Reading {
            usage,
            running_time: time::between(started_at, at),
        };
        self.figures = Figures::new(self.last_reading.as_ref(), &reading);
        self.last_reading = Some(reading);
    }

    /// Returns what is shown as the state, which says more than that of the record.
    pub(super) fn state(&self) -> &'static str {
        match self.record.status {
            Status::Running if self.record.cancelled_by.is_some() => "ending",
            Status::Running if self.record.resources.paused => "paused",
            status => status.name(),
        }
    }

    /// Returns how long the command has run; `None` before its start.
    pub(super) fn running_time(&self, now: Timestamp) -> Option<Duration> {
        match (&self.record.outcome, self.record.started_at) {
            (Some(outcome), _) => Some(Duration::from_micros(outcome.duration_us)),
            (None, Some(started_at)) => Some(time::between(started_at, now)),
            (None, None) => None,
        }
    }
}

/// What the executions are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SortKey {
    #[default]
    Cpu,
    Memory,
    Io,
    Time,
    Number,
}

impl SortKey {
    /// Returns what the screen calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            SortKey::Cpu => "CPU",
            SortKey::Memory => "memory",
            SortKey::Io => "disk I/O",
            SortKey::Time => "time",
            SortKey::Number => "number",
        }
    }
}

/// The order of executions: those with most first, unless it is reversed. Executions without a figure come last, and the
/// newer one comes first where two are equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) by: SortKey,
    pub(super) is_reversed: bool,
}

impl Order {
    pub(super) fn sort(self, rows: &mut [Row]) {
        rows.sort_by(|one, other| {
            let most_first = match self.by {
                SortKey::Cpu => by_figure(one, other, |figures| figures.cpu_permille),
                SortKey::Memory => by_figure(one, other, |figures| figures.memory_bytes),
                SortKey::Io => by_figure(one, other, Figures::io_per_second),
                SortKey::Time => by_start(one, other),
                SortKey::Number => Ordering::Equal,
            };
            let order = most_first.then(other.record.number.cmp(&one.record.number));
            if self.is_reversed {
                order.reverse()
            } else {
                order
            }
        });
    }
}

fn by_figure(one: &Row, other: &Row, figure: fn(&Figures) -> Option<u64>) -> Ordering {
    figure(&other.figures).cmp(&figure(&one.figures))
}

/// Orders by the start, the earliest first.
fn by_start(one: &Row, other: &Row) -> Ordering {
    match (one.record.started_at, other.record.started_at) {
        (Some(one), Some(other)) => one.cmp(&other),
        (one, other) => other.is_some().cmp(&one.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{pending, running};
    use super::*;

    fn row(number: u64, cpu: Option<u64>, memory: Option<u64>, io: Option<u64>) -> Row {
        let mut row = Row::new(running(number));
        let started_at = i64::try_from(number).unwrap();
        row.record.started_at = Some(Timestamp::from_micros(started_at));
        row.figures = Figures {
            cpu_permille: cpu,
            memory_bytes: memory,
            written_per_second: io,
            ..Figures::default()
        };
        row
    }

    #[test]
    fn those_with_most_are_first_and_those_without_a_figure_last() {
        let mut rows = [
            row(1, Some(10), Some(1), Some(7)),
            row(2, Some(30), None, Some(9)),
            row(3, None, Some(3), None),
            Row::new(pending(4)),
            row(5, Some(10), Some(2), Some(8)),
        ];
        for (by, expected) in [
            (SortKey::Cpu, [2, 5, 1, 4, 3]),
            (SortKey::Memory, [3, 5, 1, 4, 2]),
            (SortKey::Io, [2, 5, 1, 4, 3]),
            (SortKey::Time, [1, 2, 3, 5, 4]),
            (SortKey::Number, [5, 4, 3, 2, 1]),
        ] {
            let numbers =
                |rows: &[Row]| rows.iter().map(|row| row.record.number).collect::<Vec<_>>();
            let mut order = Order {
                by,
                is_reversed: false,
            };
            order.sort(&mut rows);
            assert_eq!(numbers(&rows), expected, "{by:?}");
            order.is_reversed = true;
            order.sort(&mut rows);
            let mut reversed = numbers(&rows);
            reversed.reverse();
            assert_eq!(reversed, expected, "{by:?}");
        }
    }

    #[test]
    fn an_execution_that_does_not_run_any_more_has_no_figures() {
        let mut row = Row::new(running(1));
        let started_at = row.record.started_at.unwrap();
        let at =
            |seconds: i64| Timestamp::from_micros(started_at.as_micros() + seconds * 1_000_000);
        let usage = |user_us| CurrentUsage {
            user_us: Some(user_us),
            system_us: Some(0),
            ..CurrentUsage::default()
        };
        row.measure(usage(1_000_000), at(10));
        assert_eq!(row.figures.cpu_permille, Some(100));
        row.measure(usage(2_000_000), at(12));
        assert_eq!(row.figures.cpu_permille, Some(500));
        row.update(ExecutionRecord {
            status: Status::Completed,
            ..running(1)
        });
        assert_eq!(row.figures, Figures::default());
        let mut row = Row::new(pending(2));
        row.measure(usage(1), at(1));
        assert_eq!(row.figures, Figures::default());
    }

    #[test]
    fn the_state_says_what_happens_to_what_runs() {
        let mut row = Row::new(running(1));
        assert_eq!(row.state(), "running");
        row.record.resources.paused = true;
        assert_eq!(row.state(), "paused");
        row.record.cancelled_by = Some(escher_client::protocol::Canceller::Host);
        assert_eq!(row.state(), "ending");
        row.record.status = Status::Cancelled;
        assert_eq!(row.state(), "cancelled");
        assert_eq!(Row::new(pending(1)).state(), "pending");
    }
}
