//! Finished executions that exceed the limits of the history, and logs that do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use escher_protocol::{Timestamp, User};
use rusqlite::{Connection, params};

use super::HistoryLimits;
use super::columns::{self, signed, unsigned};
use super::error::DatabaseError;
use super::eviction::{self, Removable};
use super::readers::Snapshot;
use super::user_totals;

/// How many entries of a user's index are read at once.
const CHUNK: usize = 64;

/// The finished executions of a user in the order in which they ended.
pub(super) const RECORDS: &str = "SELECT number, completed_at, 1 \
     FROM execution INDEXED BY execution_submitter_completed \
     WHERE ended > 0 AND submitter_uid = ?1 AND submitter_name = ?2 \
     AND (completed_at, number) > (?3, ?4) AND completed_at < ?5 \
     ORDER BY completed_at, number LIMIT ?6";

/// The kept logs of a user in the order in which their executions ended.
pub(super) const LOGS: &str = "SELECT number, completed_at, kept_log_bytes \
     FROM execution INDEXED BY execution_submitter_log \
     WHERE kept_log_bytes > 0 AND submitter_uid = ?1 AND submitter_name = ?2 \
     AND (completed_at, number) > (?3, ?4) AND completed_at < ?5 \
     ORDER BY completed_at, number LIMIT ?6";

/// Returns at most `limit` finished executions that are over the maximum age or number.
pub(super) fn expired_records(
    snapshot: &Snapshot<'_>,
    limits: HistoryLimits,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<u64>, DatabaseError> {
    let connection = &snapshot.connection;
    let removable_before = removable_before(limits, now);
    let max_age = Duration::from_secs(limits.max_age_secs);
    let expired_before = removable_before.min(before(now, max_age));
    let (mut expired, mut used, mut scans) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (user, size) in user_totals::read_all(connection)? {
        let mut scan = OldestFirst::new(RECORDS, user.clone(), expired_before);
        let mut executions = size.executions;
        while expired.len() < limit
            && let Some(removable) = scan.next(connection)?
        {
            expired.push(removable.number);
            executions = executions.saturating_sub(1);
        }
        scan.continue_to(removable_before);
        scans.insert(user.clone(), scan);
        used.push((user, executions));
    }
    let next_oldest = |user: &User| next_of(&mut scans, connection, user);
    let max_chosen = limit - expired.len();
    expired.extend(eviction::choose(
        used,
        limits.max_count,
        max_chosen,
        next_oldest,
    )?);
    Ok(expired)
}

/// Returns at most `limit` finished executions whose logs are over the maximum size.
pub(super) fn expired_logs(
    snapshot: &Snapshot<'_>,
    limits: HistoryLimits,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<u64>, DatabaseError> {
    let connection = &snapshot.connection;
    let removable_before = removable_before(limits, now);
    let (mut used, mut scans) = (Vec::new(), BTreeMap::new());
    for (user, size) in user_totals::read_all(connection)? {
        let scan = OldestFirst::new(LOGS, user.clone(), removable_before);
        scans.insert(user.clone(), scan);
        used.push((user, size.log_bytes));
    }
    let next_oldest = |user: &User| next_of(&mut scans, connection, user);
    eviction::choose(used, limits.max_bytes, limit, next_oldest)
}

/// Returns the time of completion from which on no limit applies.
fn removable_before(limits: HistoryLimits, now: Timestamp) -> i64 {
    if limits.min_age.is_zero() {
        // Also what ended in the future, before the clock was set back.
        return i64::MAX;
    }
    before(now, limits.min_age)
}

/// Returns the time `age` before `now`, in microseconds.
fn before(now: Timestamp, age: Duration) -> i64 {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    now.as_micros().saturating_sub(age)
}

/// Reads a user's executions or logs, the oldest first, in chunks.
struct OldestFirst {
    sql: &'static str,
    user: User,
    /// The completion of what was read last, and its number.
    after: (i64, i64),
    /// What completed at this time or later is not read.
    before: i64,
    chunk: VecDeque<Removable>,
    is_over: bool,
}

impl OldestFirst {
    fn new(sql: &'static str, user: User, before: i64) -> Self {
        OldestFirst {
            sql,
            user,
            after: (i64::MIN, 0),
            before,
            chunk: VecDeque::new(),
            is_over: false,
        }
    }

    /// Continues up to a later time.
    fn continue_to(&mut self, before: i64) {
        self.is_over &= before <= self.before;
        self.before = before;
    }

    fn next(&mut self, connection: &Connection) -> Result<Option<Removable>, DatabaseError> {
        if self.chunk.is_empty() && !self.is_over {
            let mut statement = connection.prepare_cached(self.sql)?;
            let (completed_at, number) = self.after;
            let chunk = signed(CHUNK as u64);
            let mut rows = statement.query(params![
                self.user.uid,
                columns::submitter_name(&self.user),
                completed_at,
                number,
                self.before,
                chunk
            ])?;
            while let Some(row) = rows.next()? {
                let number = row.get(0)?;
                self.after = (row.get(1)?, number);
                self.chunk.push_back(Removable {
                    number: unsigned(number),
                    amount: unsigned(row.get(2)?),
                });
            }
            self.is_over = self.chunk.len() < CHUNK;
        }
        Ok(self.chunk.pop_front())
    }
}

fn next_of(
    scans: &mut BTreeMap<User, OldestFirst>,
    connection: &Connection,
    user: &User,
) -> Result<Option<Removable>, DatabaseError> {
    match scans.get_mut(user) {
        Some(scan) => scan.next(connection),
        None => Ok(None),
    }
}
