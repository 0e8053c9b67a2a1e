//! The sums that are kept in the file, so that no start has to take them.

use rusqlite::{Connection, OptionalExtension};

use super::checksum::{Kind, seal};
use super::columns::{signed, unsigned};
use super::error::DatabaseError;

/// The row of totals, and what else the writer carries from one transaction to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WriterState {
    /// The row.
    pub(super) totals: Totals,
    /// The latest time of submission so far.
    pub(super) clock_high: i64,
    /// The first event that is kept, as far as is known.
    pub(super) oldest_event: u64,
    /// The last event that is kept.
    pub(super) newest_event: u64,
}

/// Sums over all executions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Finished executions.
    pub(super) finished: u64,
    /// What they count for in the history's limit of bytes.
    pub(super) history_bytes: u64,
    /// The furthest, in microseconds, that a time of submission lies before an earlier number's.
    pub(super) clock_back: i64,
    /// The highest number that was ever given to an execution. In the file it may lag behind while the
    /// execution that bears it is there.
    pub(super) last_number: u64,
}

impl Totals {
    fn seal(self) -> [u8; super::checksum::SEAL_BYTES] {
        let mut bytes = Vec::new();
        bytes.extend(self.finished.to_le_bytes());
        bytes.extend(self.history_bytes.to_le_bytes());
        bytes.extend(self.clock_back.to_le_bytes());
        bytes.extend(self.last_number.to_le_bytes());
        seal(Kind::Totals, 0, &bytes)
    }

    /// The row as it is in the file.
    pub(super) fn read(connection: &Connection) -> Result<Self, DatabaseError> {
        let sql = "SELECT finished, history_bytes, clock_back, last_number, checksum FROM totals \
                   WHERE one = 1";
        let found = connection.prepare_cached(sql)?.query_row([], |row| {
            let totals = Totals {
                finished: unsigned(row.get(0)?),
                history_bytes: unsigned(row.get(1)?),
                clock_back: row.get(2)?,
                last_number: unsigned(row.get(3)?),
            };
            Ok((totals, row.get::<_, Option<Vec<u8>>>(4)?))
        });
        let (totals, found) = found.optional()?.ok_or(Kind::Totals.damaged(0))?;
        match found {
            Some(found) if found != totals.seal() => Err(Kind::Totals.damaged(0)),
            _ => Ok(totals),
        }
    }

    /// Whether the row has to be written where `before` stands in the file. The last number alone is told by
    /// its execution.
    pub(super) fn differs(self, before: Self) -> bool {
        let known = Totals {
            last_number: before.last_number,
            ..self
        };
        known != before
    }

    /// Writes it.
    pub(super) fn write(self, connection: &Connection) -> Result<(), DatabaseError> {
        let sql = "UPDATE totals SET finished = ?1, history_bytes = ?2, clock_back = ?3, \
                   last_number = ?4, checksum = ?5 WHERE one = 1";
        let values = (
            signed(self.finished),
            signed(self.history_bytes),
            self.clock_back,
            signed(self.last_number),
            self.seal(),
        );
        connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

impl WriterState {
    /// What a writer begins with.
    pub(super) fn read(connection: &Connection) -> Result<Self, DatabaseError> {
        let first = |sql: &str| -> Result<i64, DatabaseError> {
            let found: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(0))
        };
        let clock_high = "SELECT clock_high FROM execution ORDER BY number DESC LIMIT 1";
        let newest = "SELECT number FROM execution ORDER BY number DESC LIMIT 1";
        let oldest_event = "SELECT sequence FROM event ORDER BY sequence LIMIT 1";
        let newest_event = "SELECT sequence FROM event ORDER BY sequence DESC LIMIT 1";
        let mut totals = Totals::read(connection)?;
        totals.last_number = totals.last_number.max(unsigned(first(newest)?));
        Ok(WriterState {
            totals,
            clock_high: first(clock_high)?,
            oldest_event: unsigned(first(oldest_event)?),
            newest_event: unsigned(first(newest_event)?),
        })
    }

    /// Notes that `number` was submitted at `time`.
    pub(super) fn submitted(&mut self, number: u64, time: i64) {
        self.clock_high = self.clock_high.max(time);
        let back = self.clock_high.saturating_sub(time);
        self.totals.clock_back = self.totals.clock_back.max(back);
        self.totals.last_number = self.totals.last_number.max(number);
    }
}
