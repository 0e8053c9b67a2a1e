//! What each user has in the history: sums that are stored with the changes that affect them, so that
//! nothing has to compute them. An execution is its submitter's.

use std::collections::BTreeMap;

use escher_protocol::User;
use rusqlite::{Connection, Row, params};

use super::HistorySize;
use super::checksum::{BlobKind, CHECKSUM_BYTES, checksum};
use super::columns::{self, signed, unsigned};
use super::error::DatabaseError;

/// The sums of all users, as the writer keeps them from one transaction to the next.
#[derive(Debug, Default)]
pub(super) struct UserTotals {
    stored: BTreeMap<User, HistorySize>,
    /// What the current transaction changes.
    changed: BTreeMap<User, HistorySize>,
}

impl UserTotals {
    /// Reads the sums with which a writer begins.
    ///
    /// # Errors
    /// Damage, if they do not add up to `total`.
    pub(super) fn read(connection: &Connection, total: HistorySize) -> Result<Self, DatabaseError> {
        let stored = read_all(connection)?;
        let mut sum = HistorySize::default();
        for size in stored.values() {
            sum.add(*size);
        }
        if sum != total {
            let problem = "the totals of the users are not those of all";
            return Err(DatabaseError::CheckFailed(problem.to_owned()));
        }
        Ok(UserTotals {
            stored,
            changed: BTreeMap::new(),
        })
    }

    /// Changes the sums of a user within the current transaction.
    pub(super) fn change(&mut self, user: &User, change: impl FnOnce(&mut HistorySize)) {
        let stored = self.stored.get(user).copied().unwrap_or_default();
        change(self.changed.entry(user.clone()).or_insert(stored));
    }

    /// Writes what the current transaction changes.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), DatabaseError> {
        for (user, size) in &self.changed {
            let name = columns::submitter_name(user);
            if *size == HistorySize::default() {
                let mut statement = connection.prepare_cached(DELETE)?;
                statement.execute(params![user.uid, name])?;
            } else {
                connection.prepare_cached(INSERT)?.execute(params![
                    user.uid,
                    name,
                    signed(size.executions),
                    signed(size.log_bytes),
                    size_checksum(user, *size),
                ])?;
            }
        }
        Ok(())
    }

    /// Takes over what a committed transaction has changed.
    pub(super) fn commit(&mut self) {
        for (user, size) in std::mem::take(&mut self.changed) {
            if size == HistorySize::default() {
                self.stored.remove(&user);
            } else {
                self.stored.insert(user, size);
            }
        }
    }

    /// Forgets what a failed transaction has changed.
    pub(super) fn roll_back(&mut self) {
        self.changed.clear();
    }
}

/// Reads the sums of all users in the file.
pub(super) fn read_all(
    connection: &Connection,
) -> Result<BTreeMap<User, HistorySize>, DatabaseError> {
    let mut statement = connection.prepare_cached(SELECT)?;
    let mut rows = statement.query([])?;
    let mut all = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (user, size) = read_row(row)?;
        all.insert(user, size);
    }
    Ok(all)
}

fn read_row(row: &Row<'_>) -> Result<(User, HistorySize), DatabaseError> {
    let user = columns::submitter(row.get(0)?, row.get(1)?);
    let size = HistorySize {
        executions: unsigned(row.get(2)?),
        log_bytes: unsigned(row.get(3)?),
    };
    let checksum: Vec<u8> = row.get(4)?;
    if checksum == size_checksum(&user, size) {
        Ok((user, size))
    } else {
        Err(BlobKind::UserTotals.damaged(user.uid.into()))
    }
}

fn size_checksum(user: &User, size: HistorySize) -> [u8; CHECKSUM_BYTES] {
    let mut bytes = size.executions.to_le_bytes().to_vec();
    bytes.extend(size.log_bytes.to_le_bytes());
    bytes.extend(columns::submitter_name(user).as_bytes());
    checksum(BlobKind::UserTotals, user.uid.into(), &bytes)
}

const SELECT: &str = "SELECT uid, name, finished, kept_log_bytes, checksum FROM user_totals";
const INSERT: &str = "INSERT OR REPLACE INTO user_totals \
                      (uid, name, finished, kept_log_bytes, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";
const DELETE: &str = "DELETE FROM user_totals WHERE uid = ?1 AND name = ?2";
