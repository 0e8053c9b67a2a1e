//! The tables, and how a file of an earlier version gets those of this one.

use rusqlite::{Connection, TransactionBehavior};

use super::error::Fault;

/// Marks a file as a store of escherd's (`PRAGMA application_id`): "esch" in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x6573_6368;

/// What makes version n of version n - 1, at place n - 1. One that was released never changes; the version
/// of a file is its `PRAGMA user_version`.
const MIGRATIONS: [&str; 2] = [include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// The latest version: as many as there are migrations.
pub(super) const VERSION: i64 = 2;

const _: () = assert!(MIGRATIONS.len() as u64 == VERSION.unsigned_abs());

/// The version of an open database.
pub(super) fn version(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Brings an open database to the latest version, from 0 (an empty one) or any other; each step is a
/// transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let from = version(connection)?;
    let done = usize::try_from(from).unwrap_or(0);
    for (step, migration) in (1i64..).zip(MIGRATIONS).skip(done) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", step)?;
        transaction.commit()?;
        if from > 0 {
            tracing::info!("the store was brought from version {} to {step}", step - 1);
        }
    }
    Ok(())
}
