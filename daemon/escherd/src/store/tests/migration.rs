//! Files of other versions: older ones are migrated, unsupported ones refused.

use super::super::open::open_with_schema;
use super::super::schema::{SCHEMA, Schema, version};
use super::*;

/// An invented next version, with another column and another table.
const NEXT: Schema = Schema {
    oldest: SCHEMA.oldest,
    scripts: &[
        SCHEMA.scripts[0],
        "ALTER TABLE execution ADD COLUMN invented INTEGER NOT NULL DEFAULT 7;
         CREATE TABLE invention (number INTEGER PRIMARY KEY);
         INSERT INTO invention SELECT number FROM execution;",
    ],
};

/// The same with one more step, which fails halfway.
const BROKEN: Schema = Schema {
    oldest: SCHEMA.oldest,
    scripts: &[
        NEXT.scripts[0],
        NEXT.scripts[1],
        "DELETE FROM invention; ALTER TABLE nothing ADD COLUMN x;",
    ],
};

/// Returns a closed store with a finished execution, 1, and an unfinished one, 2.
async fn closed_store() -> TempDir {
    let test = TestStore::new();
    test.commit(submitted_and_finished(&submission(1), Status::Completed));
    test.commit([submitted(&submission(2))]);
    test.store.close(DEADLINE).await.unwrap();
    test.dir
}

fn count(database: &rusqlite::Connection, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {condition}");
    database.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn migrates_an_older_version_with_all_its_content() {
    let dir = closed_store().await;
    for _ in ["migrated", "opened again"] {
        let (opened, quarantined) =
            open_with_schema(&store_path(dir.path()), SETTINGS, NEXT).unwrap();
        assert_eq!(quarantined, []);
        let database = &opened.connection;
        assert_eq!(version(database).unwrap(), SCHEMA.oldest + 1);
        assert_eq!(count(database, "execution WHERE invented = 7"), 2);
        assert_eq!(count(database, "invention"), 2);
        let [unfinished] = opened.loaded.unfinished.as_slice() else {
            panic!("{:?}", opened.loaded)
        };
        assert_eq!(unfinished.submission, submission(2));
        assert_eq!(opened.state.totals.history.executions, 1);
    }
}

#[tokio::test]
async fn a_failed_step_of_a_migration_changes_nothing() {
    let dir = closed_store().await;
    let mut database = rusqlite::Connection::open(store_path(dir.path())).unwrap();
    BROKEN.migrate(&mut database).unwrap_err();
    assert_eq!(version(&database).unwrap(), NEXT.newest());
    assert_eq!(count(&database, "invention"), 2);
}

#[tokio::test]
async fn refuses_an_unsupported_version_and_leaves_it_in_place() {
    for (change, expected) in [
        ("PRAGMA user_version = 99", 99),
        ("PRAGMA user_version = 9", 9),
        ("PRAGMA user_version = 0", 0),
    ] {
        let dir = closed_store().await;
        let path = store_path(dir.path());
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch(change).unwrap();
        drop(database);
        let bytes = std::fs::read(&path).unwrap();
        let error = open(&path, SETTINGS, |_| {}).unwrap_err();
        let StoreError::UnsupportedVersion { found, .. } = error else {
            panic!("{change}: {error}")
        };
        assert_eq!(found, expected);
        let message = error.to_string();
        assert!(message.contains(&format!("version {found}")), "{message}");
        assert!(message.contains("versions 10 to 10"), "{message}");
        assert!(std::fs::read(&path).unwrap() == bytes, "{change}");
        assert_eq!(damage_report(&path).unwrap().set_aside, []);
    }
}
