//! Reading what a database lacks.

use std::path::Path;

use super::record::{self, ChangeRecord};
use super::{StoreId, paths, segment};
use crate::store::ChangeEntry;
use crate::store::error::StoreError;

/// What a journal has beyond its database.
#[derive(Debug, Default)]
pub(in crate::store) struct Missing {
    /// The changes, in order.
    pub(in crate::store) entries: Vec<ChangeEntry>,
    /// The sequence number of the last change that database and journal have.
    pub(in crate::store) last_sequence: u64,
}

/// Reads what the journal of the store `id` at `path` has beyond the change `sequence`, the last one in the database.
///
/// A record that is torn or damaged ends its file: nothing after it was acknowledged, unless the disk has lost a part of
/// it. Then the rest is ignored, and that is logged.
///
/// # Errors
/// When a file cannot be read.
pub(in crate::store) fn read_missing(
    path: &Path,
    id: StoreId,
    sequence: u64,
) -> Result<Missing, StoreError> {
    let mut records = Vec::new();
    for path in paths(path) {
        let bytes = segment::read(&path, id).map_err(StoreError::io(&path, "it cannot be read"))?;
        records.extend(read_run(&bytes));
    }
    records.retain(|record| record.sequence > sequence);
    records.sort_unstable_by_key(|record| record.sequence);
    let mut missing = Missing {
        entries: Vec::with_capacity(records.len()),
        last_sequence: sequence,
    };
    for record in &records {
        let next = missing.last_sequence + 1;
        let entry = (record.sequence == next)
            .then(|| record.decode().ok())
            .flatten();
        let Some(entry) = entry else {
            let ignored = records.len() - missing.entries.len();
            tracing::error!(
                "change {next} is not in the journal of {}: it and {ignored} later ones are lost",
                path.display()
            );
            break;
        };
        missing.entries.push(entry);
        missing.last_sequence = next;
    }
    Ok(missing)
}

/// Reads records with consecutive sequence numbers. What follows them is older, torn or zeros.
fn read_run(mut bytes: &[u8]) -> Vec<ChangeRecord> {
    let mut run: Vec<ChangeRecord> = Vec::new();
    while let Some((record, rest)) = record::read(bytes) {
        if run
            .last()
            .is_some_and(|last| record.sequence != last.sequence + 1)
        {
            break;
        }
        run.push(record);
        bytes = rest;
    }
    run
}
