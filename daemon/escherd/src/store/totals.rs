//! Sums that are stored, so that no start has to compute them.

use rusqlite::{Connection, OptionalExtension};

use super::HistorySize;
use super::checksum::{BlobKind, CHECKSUM_BYTES, checksum};
use super::columns::{signed, unsigned};
use super::error::DatabaseError;
use super::journal::StoreId;

/// What the writer carries from one transaction to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WriterState {
    /// The row of totals.
    pub(super) totals: Totals,
    /// The latest time of submission so far.
    pub(super) clock_high: i64,
}

/// Sums over all executions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// The finished executions.
    pub(super) history: HistorySize,
    /// The most, in microseconds, by which a time of submission lies before a lower number's.
    pub(super) clock_back: i64,
    /// The highest number that an execution ever had. In the file it may lag behind as long as that
    /// execution is there.
    pub(super) last_number: u64,
    /// The sequence number of the last change from the journal.
    pub(super) journal_sequence: u64,
    /// The id of the store, which its journal has too.
    pub(super) store_id: StoreId,
}

impl Totals {
    fn checksum(self) -> [u8; CHECKSUM_BYTES] {
        let mut bytes = Vec::new();
        bytes.extend(self.history.executions.to_le_bytes());
        bytes.extend(self.history.log_bytes.to_le_bytes());
        bytes.extend(self.clock_back.to_le_bytes());
        bytes.extend(self.last_number.to_le_bytes());
        bytes.extend(self.journal_sequence.to_le_bytes());
        bytes.extend(self.store_id);
        checksum(BlobKind::Totals, 0, &bytes)
    }

    /// Reads the row in the file.
    pub(super) fn read(connection: &Connection) -> Result<Self, DatabaseError> {
        let sql = "SELECT finished, kept_log_bytes, clock_back, last_number, journal_sequence, \
                   store_id, checksum FROM totals WHERE one = 1";
        let found = connection.prepare_cached(sql)?.query_row([], |row| {
            let totals = Totals {
                history: HistorySize {
                    executions: unsigned(row.get(0)?),
                    log_bytes: unsigned(row.get(1)?),
                },
                clock_back: row.get(2)?,
                last_number: unsigned(row.get(3)?),
                journal_sequence: unsigned(row.get(4)?),
                store_id: row.get(5)?,
            };
            Ok((totals, row.get::<_, Option<Vec<u8>>>(6)?))
        });
        let (totals, checksum) = found.optional()?.ok_or(BlobKind::Totals.damaged(0))?;
        match checksum {
            Some(checksum) if checksum != totals.checksum() => Err(BlobKind::Totals.damaged(0)),
            _ => Ok(totals),
        }
    }

    /// Returns whether the row has to be written if the file has `stored`. A new last number alone
    /// needs no write: its execution has it.
    pub(super) fn needs_write(self, stored: Self) -> bool {
        let with_stored_number = Totals {
            last_number: stored.last_number,
            ..self
        };
        with_stored_number != stored
    }

    /// Writes the row.
    pub(super) fn write(self, connection: &Connection) -> Result<(), DatabaseError> {
        let sql = "UPDATE totals SET finished = ?1, kept_log_bytes = ?2, clock_back = ?3, \
                   last_number = ?4, journal_sequence = ?5, store_id = ?6, checksum = ?7 WHERE one = 1";
        let values = (
            signed(self.history.executions),
            signed(self.history.log_bytes),
            self.clock_back,
            signed(self.last_number),
            signed(self.journal_sequence),
            self.store_id,
            self.checksum(),
        );
        connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

impl WriterState {
    /// Reads the state with which a writer begins.
    pub(super) fn read(connection: &Connection) -> Result<Self, DatabaseError> {
        let first = |sql: &str| -> Result<i64, DatabaseError> {
            let found: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(0))
        };
        let clock_high = "SELECT clock_high FROM execution ORDER BY number DESC LIMIT 1";
        let newest = "SELECT number FROM execution ORDER BY number DESC LIMIT 1";
        let mut totals = Totals::read(connection)?;
        totals.last_number = totals.last_number.max(unsigned(first(newest)?));
        Ok(WriterState {
            totals,
            clock_high: first(clock_high)?,
        })
    }

    /// Records that execution `number` was submitted at `time`.
    pub(super) fn add_submission(&mut self, number: u64, time: i64) {
        self.clock_high = self.clock_high.max(time);
        let back = self.clock_high.saturating_sub(time);
        self.totals.clock_back = self.totals.clock_back.max(back);
        self.totals.last_number = self.totals.last_number.max(number);
    }
}
