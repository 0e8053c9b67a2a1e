//! Finished executions that exceed the limits of the history.

use escher_protocol::Timestamp;

use super::HistoryLimits;
use super::columns::unsigned;
use super::error::DatabaseError;
use super::readers::Snapshot;
use super::totals::Totals;

/// All finished executions in the order in which they ended, with the bytes that each counts.
pub(super) const OLDEST_FIRST: &str = "SELECT number, completed_at, history_bytes \
     FROM execution INDEXED BY execution_completed WHERE ended > 0 AND completed_at IS NOT NULL \
     ORDER BY completed_at, number";

/// Returns at most `limit` finished executions that exceed `limits`, in the order in which they
/// ended.
pub(super) fn expired(
    snapshot: &Snapshot<'_>,
    limits: HistoryLimits,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<u64>, DatabaseError> {
    let Totals {
        finished: mut count,
        history_bytes: mut bytes,
        ..
    } = Totals::read(&snapshot.connection)?;
    let max_age = i64::try_from(limits.max_age_secs).unwrap_or(i64::MAX);
    let since = now
        .as_micros()
        .saturating_sub(max_age.saturating_mul(1_000_000));
    let mut numbers = Vec::new();
    let mut statement = snapshot.connection.prepare_cached(OLDEST_FIRST)?;
    let mut rows = statement.query([])?;
    while numbers.len() < limit
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
