//! How values stand in rows.

use escher_protocol::{
    Canceller, ExecutionId, ExecutionRecord, Exit, Resources, Status, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::RequestDigest;

/// Bytes that a finished execution takes in the database beside its record, more or less: its row, its
/// places in the indexes.
const ROW_BYTES: u64 = 512;

/// The number in the column `ended`, for ever; 0 is one that has not ended.
const ENDED: [(Status, i64); 5] = [
    (Status::Completed, 1),
    (Status::Failed, 2),
    (Status::Cancelled, 3),
    (Status::Timeout, 4),
    (Status::Lost, 5),
];

/// All values of `ended` that finished executions have.
pub(super) fn all_ended() -> impl Iterator<Item = i64> {
    ENDED.iter().map(|row| row.1)
}

/// The value of `ended` for a state; `None` for one that is no end.
pub(super) fn ended(status: Status) -> Option<i64> {
    ENDED.iter().find(|row| row.0 == status).map(|row| row.1)
}

/// How far an execution has come that is not finished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Whether it was handed to a shim, or was about to be.
    pub(super) launching: bool,
    /// Its main process and since when.
    pub(super) started: Option<(u32, Timestamp)>,
    /// Who wants its end, and whether by SIGKILL at once.
    pub(super) cancel: Option<(Canceller, bool)>,
}

/// What is kept of a finished execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRecord {
    /// The digest of its request, where that has a key.
    pub(super) digest: Option<RequestDigest>,
    /// All that is known.
    pub(super) record: ExecutionRecord,
    /// What it was allowed to use, and has used.
    pub(super) resources: Resources,
}

/// An unsigned number as SQLite has it. Nothing that escherd counts comes near 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The way back. A negative one is damage, and read as 0.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Digits of an id in its `tail`: as many as fit into a number that is not negative.
pub(super) const TAIL_DIGITS: usize = 15;

/// The last [`TAIL_DIGITS`] digits of `id`, the last one first.
pub(super) fn tail(id: ExecutionId) -> i64 {
    let bytes = id.into_bytes();
    let digits = bytes.iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
    digits
        .take(TAIL_DIGITS)
        .fold(0, |tail, digit| tail << 4 | i64::from(digit))
}

/// Whether a finished execution may have a log. Of one whose end nobody saw nobody counted the bytes.
pub(super) fn may_have_log(record: &ExecutionRecord) -> bool {
    let outcome = record.outcome.as_ref();
    outcome.is_some_and(|outcome| outcome.output.log_bytes > 0 || outcome.exit == Exit::Unknown)
}

/// What a finished execution with so many bytes in blobs counts for in the history's limit of bytes, beside its
/// log and index.
pub(super) fn row_bytes(record: &ExecutionRecord, body_bytes: usize) -> u64 {
    let labels = record.labels.iter();
    let labels: usize = labels
        .map(|(key, value)| 2 * (key.len() + value.len()))
        .sum();
    ROW_BYTES + (body_bytes + labels) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_id_from_its_end() {
        let id: ExecutionId = "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42".parse().unwrap();
        assert_eq!(format!("{:x}", tail(id)), "24a1b9e7c6d053f");
        assert!(tail(ExecutionId::from_bytes([0xff; 16])) > 0);
    }

    #[test]
    fn the_numbers_of_ends_are_for_ever() {
        let numbers = Status::TABLE.map(|(status, _)| ended(status));
        assert_eq!(
            numbers,
            [None, None, Some(1), Some(2), Some(3), Some(4), Some(5)]
        );
    }
}
