//! Which finished executions have to go.

use escher_protocol::Timestamp;

use super::HistoryLimits;
use super::columns::unsigned;
use super::error::DatabaseError;
use super::readers::Snapshot;
use super::totals::Totals;

/// All finished ones, the first that ended first, with what each counts for.
pub(super) const OLDEST_FIRST: &str = "SELECT number, completed_at, history_bytes \
     FROM execution INDEXED BY execution_completed WHERE ended > 0 AND completed_at IS NOT NULL \
     ORDER BY completed_at, number";

/// At most `room` finished executions that are over `limits`, those first that ended first.
pub(super) fn expired(
    snapshot: &Snapshot<'_>,
    limits: HistoryLimits,
    now: Timestamp,
    room: usize,
) -> Result<Vec<u64>, DatabaseError> {
    let Totals {
        finished: mut count,
        history_bytes: mut bytes,
        ..
    } = Totals::read(&snapshot.connection)?;
    let age = i64::try_from(limits.max_age_secs).unwrap_or(i64::MAX);
    let since = now
        .as_micros()
        .saturating_sub(age.saturating_mul(1_000_000));
    let mut numbers = Vec::new();
    let mut statement = snapshot.connection.prepare_cached(OLDEST_FIRST)?;
    let mut rows = statement.query([])?;
    while numbers.len() < room
        && let Some(row) = rows.next()?
    {
        let completed_at: i64 = row.get(1)?;
        if completed_at >= since && count <= limits.max_count && bytes <= limits.max_bytes {
            break;
        }
        numbers.push(unsigned(row.get(0)?));
        count = count.saturating_sub(1);
        bytes = bytes.saturating_sub(unsigned(row.get(2)?));
    }
    Ok(numbers)
}
