//! How values are stored in rows.

use escher_protocol::{
    CancelMode, Canceller, ExecutionId, ExecutionRecord, Exit, Outcome, Status, Timestamp, User,
};
use serde::{Deserialize, Serialize};

use super::RequestDigest;

/// The values of the column `ended`, which never change; 0 means unfinished.
const ENDED_CODES: [(Status, i64); 5] = [
    (Status::Completed, 1),
    (Status::Failed, 2),
    (Status::Cancelled, 3),
    (Status::Timeout, 4),
    (Status::Lost, 5),
];

/// Returns all values of `ended` that finished executions have.
pub(super) fn ended_codes() -> impl Iterator<Item = i64> {
    ENDED_CODES.iter().map(|row| row.1)
}

/// Returns the value of `ended` for a status; `None` for that of an unfinished execution.
pub(super) fn ended_code(status: Status) -> Option<i64> {
    let mut codes = ENDED_CODES.iter();
    codes.find(|row| row.0 == status).map(|row| row.1)
}

/// The progress of an unfinished execution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredProgress {
    /// Whether it was admitted, so that a shim may have it.
    pub(super) is_admitted: bool,
    /// How often its launch was begun by an escherd that has not stopped cleanly since.
    pub(super) launch_attempts: u32,
    /// Its main process and the time of its start.
    pub(super) started: Option<(u32, Timestamp)>,
    /// The canceller, and whether SIGKILL is sent at once.
    pub(super) cancel: Option<(Canceller, CancelMode)>,
}

/// What is stored of a finished execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRecord {
    /// The digest of its request, if that had a key.
    pub(super) digest: Option<RequestDigest>,
    /// Its record.
    pub(super) record: ExecutionRecord,
}

/// Converts a number for SQLite. Nothing that escherd counts comes near 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a number from SQLite. A negative one is damage, and read as 0.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Returns the value of a column with the login name of a submitter, which is never `NULL`.
pub(super) fn submitter_name(user: &User) -> &str {
    user.name.as_deref().unwrap_or_default()
}

/// Returns the submitter with this uid and this value of such a column.
pub(super) fn submitter(uid: u32, name: String) -> User {
    User {
        uid,
        name: (!name.is_empty()).then(|| name.into()),
    }
}

/// Digits of an id in the column `tail`: as many as fit into a non-negative number.
pub(super) const TAIL_DIGITS: usize = 15;

/// Returns the last [`TAIL_DIGITS`] digits of `id` in reverse order, as a number.
pub(super) fn id_tail(id: ExecutionId) -> i64 {
    let bytes = id.into_bytes();
    let digits = bytes.iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
    digits
        .take(TAIL_DIGITS)
        .fold(0, |tail, digit| tail << 4 | i64::from(digit))
}

/// Returns whether a finished execution may have a log. Lost executions have no byte count, and what others have left
/// may write.
pub(super) fn may_have_log(record: &ExecutionRecord) -> bool {
    let outcome = record.outcome.as_ref();
    outcome.is_some_and(|Outcome { output, exit, .. }| {
        output.log_bytes > 0 || output.reserved_bytes > 0 || *exit == Exit::Unknown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_has_the_last_digits_in_reverse_order() {
        let id: ExecutionId = "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42".parse().unwrap();
        assert_eq!(format!("{:x}", id_tail(id)), "24a1b9e7c6d053f");
        assert!(id_tail(ExecutionId::from_bytes([0xff; 16])) > 0);
    }

    #[test]
    fn ended_codes_never_change() {
        let codes = Status::TABLE.map(|(status, _)| ended_code(status));
        assert_eq!(
            codes,
            [None, None, Some(1), Some(2), Some(3), Some(4), Some(5)]
        );
    }
}
