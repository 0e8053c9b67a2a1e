//! The tables, and how a file of an earlier version is brought to the current one.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior};

use super::error::DatabaseError;

/// Marks a file as a store of escherd (`PRAGMA application_id`): "escr" in ASCII.
pub(super) const APPLICATION_ID: u32 = 0x6573_6372;

/// The schema of this escherd.
pub(super) const SCHEMA: Schema = Schema {
    oldest: 10,
    scripts: &[include_str!("schema/10.sql")],
};

/// Successive versions of the tables. The version of a file is its `PRAGMA user_version`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    /// The oldest supported version, which the first script creates in an empty file.
    pub(super) oldest: i64,
    /// One SQL script per version, which turns the version before it into that one. A released
    /// script never changes.
    pub(super) scripts: &'static [&'static str],
}

impl Schema {
    /// Returns the version that the last script creates.
    pub(super) fn newest(self) -> i64 {
        (self.oldest..)
            .zip(self.scripts)
            .last()
            .map_or(self.oldest, |(version, _)| version)
    }

    /// Migrates an open database to the newest version, from an empty one or any supported version.
    /// Each step is a transaction, so that a crash leaves a complete version.
    pub(super) fn migrate(self, connection: &mut Connection) -> Result<(), DatabaseError> {
        let found = version(connection)?;
        for (version, script) in (self.oldest..).zip(self.scripts) {
            if version <= found {
                continue;
            }
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(script)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
            if found > 0 {
                tracing::info!("the store was migrated to version {version}");
            }
        }
        Ok(())
    }

    /// Checks that a database of the newest version has everything that the scripts create.
    pub(super) fn check(self, connection: &Connection) -> Result<(), DatabaseError> {
        let mut model = Connection::open_in_memory()?;
        self.migrate(&mut model)?;
        let found = definitions(connection)?;
        for (name, definition) in definitions(&model)? {
            if found.get(&name) != Some(&definition) {
                let problem = format!("{name} is missing or changed");
                return Err(DatabaseError::CheckFailed(problem));
            }
        }
        Ok(())
    }
}

/// Returns the statements that made the tables, indexes and views of a database, by their names.
fn definitions(connection: &Connection) -> Result<BTreeMap<String, String>, DatabaseError> {
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the version of an open database; 0 if it is empty.
pub(super) fn version(connection: &Connection) -> Result<i64, DatabaseError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
