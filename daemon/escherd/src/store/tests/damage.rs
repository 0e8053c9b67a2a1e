//! Damaged stores, and files that are not stores.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;

use proptest::test_runner::{Config, TestRunner};

use super::super::damage::DamageMarker;
use super::super::error::DatabaseError;
use super::*;

/// The first executions of the sample are finished; the last ten are not.
const FINISHED: u64 = 150;
const ALL: u64 = FINISHED + 10;

const KEEP_NOTHING: HistoryLimits = HistoryLimits {
    max_age_secs: u64::MAX,
    max_bytes: u64::MAX,
    max_count: 0,
    min_age: Duration::ZERO,
};

/// Returns a closed store, as bytes, with the records of its finished executions.
async fn sample() -> (Vec<u8>, BTreeMap<u64, ExecutionRecord>) {
    let test = TestStore::new();
    let mut records = BTreeMap::new();
    for number in 1..=ALL {
        let mut one = submission(number);
        one.request.name = Some(format!("job{}", number % 7).into());
        one.request.labels = vec![("n".into(), (number % 5).to_string().into())];
        one.request.environment = vec![("TOKEN".into(), secret_of(number).as_str().into())];
        test.commit([submitted(&one)]);
        if number <= FINISHED {
            test.commit([finished(&one, Status::Completed)]);
            records.insert(number, record_of(&one, Status::Completed));
        }
    }
    test.store.close(DEADLINE).await.unwrap();
    (fs::read(test.path()).unwrap(), records)
}

/// Returns the secret in the environment of an execution of the sample.
fn secret_of(number: u64) -> String {
    format!("{SECRET}-{number:05}")
}

/// Returns whether a file of those that were set aside has `text`.
fn is_in_set_aside(text: &str, dir: &Path) -> bool {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut set_aside =
        files.filter(|file| file.file_name().to_string_lossy().contains("set-aside"));
    set_aside.any(|file| {
        let bytes = fs::read(file.path()).unwrap();
        let mut windows = bytes.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    })
}

/// Returns whether a request in a store that was set aside can be written. It can be read and not
/// written where the schema is damaged, or the tree in which it is searched.
fn can_be_erased(path: &Path, number: u64) -> bool {
    let connection = connection::eraser(path).unwrap();
    let number = columns::signed(number);
    connection
        .blob_open(rusqlite::MAIN_DB, "submission", "body", number, false)
        .is_ok()
}

/// Opens `bytes` as a store, and checks that it has no wrong rows, and that a file which was set
/// aside has no request that the new store has, unless it cannot be written there, and is unchanged if
/// there is none. Returns how many executions it has, and whether `bytes` were set aside.
async fn open_bytes(bytes: &[u8], records: &BTreeMap<u64, ExecutionRecord>) -> (usize, bool) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(store_path(dir.path()), bytes).unwrap();
    let (store, loaded, quarantined) = match open(&store_path(dir.path()), SETTINGS, |_| {}) {
        Ok(opened) => opened,
        // The flipped bit was in the version.
        Err(StoreError::UnsupportedVersion { .. }) => return (records.len(), false),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    };
    if let [file] = quarantined.as_slice() {
        let is_unchanged = fs::read(&file.to).unwrap() == bytes;
        assert!(is_unchanged || !loaded.unfinished.is_empty());
        for found in &loaded.unfinished {
            let secret = secret_of(found.submission.number);
            assert!(
                !is_in_set_aside(&secret, dir.path())
                    || !can_be_erased(&file.to, found.submission.number),
                "{secret}"
            );
        }
    }
    let found = list_all(&store, None, &select_all(), u64::MAX, 10_000).await;
    for record in &found {
        assert_eq!(records.get(&record.number), Some(record));
    }
    for found in &loaded.unfinished {
        let number = found.submission.number;
        assert!(number > FINISHED && number <= ALL);
        assert_eq!(found.submission.id, id(number));
    }
    for number in 1..=ALL {
        if let Ok(Some(found)) = store
            .find(LookupScope::ALL, &number.to_string().as_str().into())
            .await
        {
            let record = found.record.map(|record| *record);
            assert_eq!(
                (found.number, record.as_ref()),
                (number, records.get(&number))
            );
        }
    }
    store.close(DEADLINE).await.unwrap();
    (
        found.len() + loaded.unfinished.len(),
        !quarantined.is_empty(),
    )
}

#[tokio::test]
async fn sets_aside_a_truncated_store_and_salvages_the_rest() {
    let (bytes, records) = sample().await;
    let mut salvaged = Vec::new();
    for eighth in 0..8 {
        for more in [0, 1, 1000] {
            let length = bytes.len() * eighth / 8 + more;
            let (count, was_set_aside) = open_bytes(&bytes[..length], &records).await;
            assert!(was_set_aside, "truncated to {length} of {}", bytes.len());
            salvaged.push(count);
        }
    }
    let most = *salvaged.last().unwrap();
    assert!(salvaged[0] == 0 && most > records.len() / 3, "{salvaged:?}");
    let (count, was_set_aside) = open_bytes(&bytes, &records).await;
    assert_eq!(
        (count as u64, was_set_aside),
        (ALL, false),
        "a whole store is not set aside"
    );
}

#[test]
fn flipped_bytes_never_lead_to_a_wrong_row() {
    let runtime = runtime();
    let (bytes, records) = runtime.block_on(sample());
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    });
    let flips = proptest::collection::vec((0..bytes.len(), 1u8..), 1..4);
    let total = std::cell::Cell::new((0, 0));
    runner
        .run(&flips, |flips| {
            let mut bytes = bytes.clone();
            for (offset, mask) in flips {
                bytes[offset] ^= mask;
            }
            let (count, _) = runtime.block_on(open_bytes(&bytes, &records));
            let (sum, runs) = total.get();
            total.set((sum + count, runs + 1));
            Ok(())
        })
        .unwrap();
    // A page of the schema costs everything, most others a few rows.
    let (sum, runs) = total.get();
    let most = usize::try_from(ALL).unwrap() * runs;
    assert!(sum * 10 > most * 6, "{sum} of {most} were salvaged");
}

#[tokio::test]
async fn sets_aside_unchanged_files_that_are_not_stores() {
    let foreign = {
        let dir = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(store_path(dir.path())).unwrap();
        database
            .execute_batch("CREATE TABLE t (x); PRAGMA user_version = 77")
            .unwrap();
        drop(database);
        fs::read(store_path(dir.path())).unwrap()
    };
    let text = "not a database, but long enough to have a header ".repeat(50);
    for (bytes, reason) in [
        (Vec::new(), "it is empty"),
        (b"short".to_vec(), "it is too short for a database"),
        (text.into_bytes(), "not an SQLite"),
        (foreign, "another program"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(store_path(dir.path()), &bytes).unwrap();
        let test = TestStore::open_in(dir);
        let file = test.quarantined_file();
        assert!(file.reason.contains(reason), "{file:?}");
        assert_eq!(fs::read(&file.to).unwrap(), bytes);
        let name = file.to.to_string_lossy();
        assert!(name.contains("escher.db.set-aside-2"), "{name}");
        test.commit([submitted(&submission(1))]);
        let test = test.reopen().await;
        assert_eq!(
            (test.quarantined.len(), test.loaded.unfinished.len()),
            (0, 1)
        );
    }
}

#[tokio::test]
async fn files_set_aside_in_the_same_second_get_different_names() {
    let mut test = TestStore::new();
    for round in 0..5 {
        test.store.close(DEADLINE).await.unwrap();
        fs::write(test.path(), format!("{round}")).unwrap();
        test = TestStore::open_in(test.dir);
    }
    let files = fs::read_dir(test.dir.path())
        .unwrap()
        .map(|file| file.unwrap().path());
    let set_aside = files.filter(|path| path.to_string_lossy().contains("set-aside"));
    let mut contents: Vec<String> = set_aside
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    contents.sort_unstable();
    assert_eq!(contents, ["0", "1", "2", "3", "4"]);
}

#[test]
fn refuses_links_and_missing_directories() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::write(&target, "kept").unwrap();
    std::os::unix::fs::symlink(&target, store_path(dir.path())).unwrap();
    let error = open(&store_path(dir.path()), SETTINGS, |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::NotAFile(_)), "{error}");
    assert_eq!(fs::read_to_string(target).unwrap(), "kept");
    let missing = dir.path().join("missing/escher.db");
    assert!(matches!(
        open(&missing, SETTINGS, |_| {}),
        Err(StoreError::Io { .. })
    ));
}

#[tokio::test]
async fn omits_a_damaged_record_and_replaces_the_store_at_the_next_start() {
    let test = TestStore::new();
    for number in 1..=3 {
        test.commit(submitted_and_finished(
            &submission(number),
            Status::Completed,
        ));
    }
    test.store.close(DEADLINE).await.unwrap();
    let database = rusqlite::Connection::open(test.path()).unwrap();
    let damage = "UPDATE record SET body = substr(body, 1, 20) || x'00' || substr(body, 22) \
                  WHERE number = 2";
    database.execute_batch(damage).unwrap();
    drop(database);
    let test = TestStore::open_in(test.dir);
    assert_eq!(test.finished_numbers().await, [3, 1]);
    let error = test
        .store
        .find(LookupScope::ALL, &"2".into())
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::INTERNAL);
    let test = test.reopen().await;
    assert_eq!(test.quarantined_file().salvaged, 2);
    assert_eq!(test.finished_numbers().await, [3, 1]);
    assert!(test.loaded.last_number > 3);
}

/// Number 1 was given again.
#[tokio::test]
async fn a_store_that_is_lost_gives_no_number_twice() {
    let test = TestStore::new();
    for number in 1..=3 {
        test.commit([submitted(&submission(number))]);
    }
    test.store.close(DEADLINE).await.unwrap();
    let mut paths = super::super::journal::paths(&test.path()).to_vec();
    paths.push(test.path());
    for path in paths {
        std::fs::remove_file(path).unwrap();
    }
    let test = TestStore::open_in(test.dir);
    assert!(test.loaded.last_number >= 3);
    let lost = test.loaded.last_number;
    test.commit([submitted(&submission(lost + 1))]);
    let test = test.reopen().await;
    assert_eq!(test.loaded.last_number, lost + 1, "exact again");
}

#[tokio::test]
async fn salvages_everything_that_is_not_damaged() {
    let test = TestStore::new();
    let mut keyed = submission(1);
    keyed.request.key = Some("k".into());
    keyed.submitted_at = at(50);
    let mut record = record_of(&keyed, Status::Completed);
    record.outcome.as_mut().unwrap().output.log_bytes = 5;
    let digest = Some([7; 32]);
    let submit = |one: &Submission, is_admitted| Change::Submitted {
        submission: Box::new(one.clone()),
        digest,
        is_admitted,
    };
    test.commit([submit(&keyed, true), finished_with(record.clone())]);
    test.commit(submitted_and_finished(&submission(2), Status::Failed));
    let mut removed = record_of(&submission(3), Status::Completed);
    removed.outcome.as_mut().unwrap().output.log_bytes = 5;
    test.commit([
        submitted(&submission(3)),
        finished_with(removed),
        Change::Removed { numbers: vec![3] },
        submitted(&submission(4)),
        Change::Submitted {
            submission: Box::new(submission(5)),
            digest: None,
            is_admitted: true,
        },
        Change::Started {
            number: 5,
            pid: 99,
            at: at(5),
        },
    ]);
    test.store.write(vec![ChangeEntry {
        ticket: 0,
        change: Change::LogsDeleted { ids: vec![] },
        events: vec![event(12, 5, EventKind::Started)],
        dropped_events: vec![DroppedEvent {
            uid: 1001,
            sequence: 11,
        }],
    }]);
    test.outcomes(1);
    let test = test.reopen().await;
    let before = test.loaded.clone();
    let expired = async |test: &TestStore| {
        let expired = test.store.expired_records(KEEP_NOTHING, at(0), 10).await;
        expired.unwrap()
    };
    let history = expired(&test).await;
    let of_users = test.store.user_history().await.unwrap();
    test.store.close(DEADLINE).await.unwrap();
    // As if damage had been found in a page that no row is read from.
    fs::write(quarantine::damage_mark_path(&test.path()), "a test").unwrap();
    let test = TestStore::open_in(test.dir);
    assert_eq!(test.quarantined_file().salvaged, 4);
    // What cannot be seen in a damaged file may have had a higher number.
    assert!(test.loaded.last_number > before.last_number);
    let loaded = LoadedState {
        last_number: before.last_number,
        ..test.loaded.clone()
    };
    assert_eq!(loaded, before);
    assert_eq!(test.store.finished_count().await, 2);
    assert_eq!(expired(&test).await, history);
    assert_eq!(test.store.user_history().await.unwrap(), of_users);
    assert_eq!(
        test.all_records().await,
        [record_of(&submission(2), Status::Failed), record]
    );
    let since = Selection {
        since: Some(at(50)),
        ..select_all()
    };
    let found = list_all(&test.store, None, &since, u64::MAX, 10).await;
    assert_eq!(found.len(), 1, "the order of the clock was restored");
    let same_key = Submission {
        number: 6,
        id: id(6),
        ..keyed
    };
    let outcome = CommitOutcome::KeyTaken {
        id: id(1),
        number: 1,
        is_same_request: true,
    };
    assert_eq!(test.write([submit(&same_key, false)]), [outcome]);
}

#[tokio::test]
async fn sets_aside_a_write_ahead_log_without_a_database() {
    let test = TestStore::new();
    test.commit([submitted(&submission(1))]);
    let crashed = tempfile::tempdir().unwrap();
    fs::copy(
        quarantine::wal_path(&test.path()),
        quarantine::wal_path(&store_path(crashed.path())),
    )
    .unwrap();
    let test = TestStore::open_in(crashed);
    assert!(quarantine::wal_path(&test.quarantined_file().to).exists());
    assert_eq!(test.unfinished_numbers(), [0; 0]);
}

#[tokio::test]
async fn a_torn_write_ahead_log_loses_only_the_torn_transaction() {
    let test = TestStore::new();
    let mut ends = Vec::new();
    for number in 1..=5 {
        test.commit([submitted(&submission(number))]);
        ends.push(
            fs::metadata(quarantine::wal_path(&test.path()))
                .unwrap()
                .len(),
        );
    }
    for (whole, end) in (1..).zip(&ends[..4]) {
        for torn in [0, 1, 100, 2000] {
            let crashed = tempfile::tempdir().unwrap();
            let wal = quarantine::wal_path(&store_path(crashed.path()));
            fs::copy(test.path(), store_path(crashed.path())).unwrap();
            fs::copy(quarantine::wal_path(&test.path()), &wal).unwrap();
            let log = fs::File::options().write(true).open(&wal).unwrap();
            log.set_len(*end + torn).unwrap();
            if torn > 1 {
                log.write_all_at(b"torn", *end + torn - 4).unwrap();
            }
            let test = TestStore::open_in(crashed);
            assert_eq!(
                (test.quarantined.len(), test.loaded.unfinished.len()),
                (0, whole)
            );
        }
    }
}

/// Returns whether the store at this path is marked as damaged.
fn is_marked(test: &TestStore) -> bool {
    damage_report(&test.path()).unwrap().is_damaged
}

#[tokio::test]
async fn a_statement_that_sqlite_refuses_does_not_mark_the_store() {
    let test = TestStore::new();
    test.commit(submitted_and_finished(&submission(1), Status::Completed));
    let database = rusqlite::Connection::open(test.path()).unwrap();
    let marker = DamageMarker::new(&test.path());
    let deep = format!("SELECT 1 WHERE 1 {}", "AND 1=1 ".repeat(1100));
    let wide = format!("SELECT {}1", "?,".repeat(40_000));
    for (sql, expected) in [
        (deep.as_str(), "too large"),
        (&wide, "too many"),
        ("SELECT * FROM missing", "no such table"),
        ("SELECT zeroblob(2000000000)", "too big"),
        ("INSERT INTO totals (one) VALUES (2)", "constraint"),
        ("SELEC", "syntax error"),
    ] {
        let outcome = database.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.raw_query();
            rows.next().map(|_| ())
        });
        let error = DatabaseError::from(outcome.unwrap_err());
        assert!(error.to_string().contains(expected), "{sql:.40}: {error}");
        marker.report(&error);
        assert!(!is_marked(&test), "{error}");
    }
    assert_eq!(test.reopen().await.quarantined, []);
}

#[tokio::test]
async fn damage_that_sqlite_alone_reports_is_confirmed_by_a_check_of_the_file() {
    let test = TestStore::new();
    test.commit(submitted_and_finished(&submission(1), Status::Completed));
    let marker = DamageMarker::new(&test.path());
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    marker.report(&rusqlite::Error::SqliteFailure(corrupt, None).into());
    assert!(!is_marked(&test), "the file is whole");
    assert_eq!(test.reopen().await.quarantined, []);
}

#[tokio::test]
async fn a_corrupt_page_marks_the_store_and_the_rest_is_served() {
    let test = TestStore::new();
    for number in 1..=200 {
        test.commit(submitted_and_finished(
            &submission(number),
            Status::Completed,
        ));
    }
    // Nothing is read after the check at the start.
    let test = test.reopen().await;
    let bytes = fs::read(test.path()).unwrap();
    let body = {
        let database = rusqlite::Connection::open(test.path()).unwrap();
        let sql = "SELECT body FROM record WHERE number = 100";
        database
            .query_row::<Vec<u8>, _, _>(sql, [], |row| row.get(0))
            .unwrap()
    };
    let mut windows = bytes.windows(64);
    let found = windows.position(|window| *window == body[..64]).unwrap();
    let file = fs::File::options().write(true).open(test.path()).unwrap();
    file.write_all_at(&[0xff; 1024], (found / 1024 * 1024) as u64)
        .unwrap();
    let error = test
        .store
        .find(LookupScope::ALL, &"100".into())
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::INTERNAL);
    assert!(is_marked(&test));
    let served = test.all_records().await.len();
    assert!((100..200).contains(&served), "{served}");
    let test = test.reopen().await;
    assert!(test.quarantined_file().reason.contains("malformed"));
    assert_eq!(test.all_records().await.len(), served);
    assert!(!is_marked(&test), "the mark is removed");
}

#[tokio::test]
async fn the_environments_that_the_new_store_has_are_gone_from_what_was_set_aside() {
    let test = TestStore::new();
    let large = |number| {
        let mut one = submission(number);
        // It takes several pages.
        let value = format!("{}{}", secret_of(number), "x".repeat(500)).repeat(12);
        one.request.environment = vec![("TOKEN".into(), value.as_str().into())];
        one
    };
    // The first are in the database, the others in the write-ahead log.
    test.commit((1..=20).map(|number| submitted(&large(number))));
    let test = test.reopen().await;
    test.commit((21..=40).map(|number| submitted(&large(number))));
    test.commit([finished(&large(1), Status::Completed)]);
    let crashed = tempfile::tempdir().unwrap();
    let path = store_path(crashed.path());
    for suffix in ["", "-wal"] {
        let from = quarantine::with_suffix(&test.path(), suffix);
        fs::copy(from, quarantine::with_suffix(&path, suffix)).unwrap();
    }
    fs::write(quarantine::damage_mark_path(&path), "a test").unwrap();
    let test = TestStore::open_in(crashed);
    assert_eq!(test.quarantined_file().salvaged, 40);
    let loaded: Vec<Submission> = test
        .loaded
        .unfinished
        .iter()
        .map(|found| found.submission.clone())
        .collect();
    assert_eq!(loaded, (2..=40).map(large).collect::<Vec<_>>());
    assert!(!is_in_set_aside(SECRET, test.dir.path()));
}

#[tokio::test]
async fn an_old_store_that_was_set_aside_is_deleted() {
    let test = TestStore::new();
    test.store.close(DEADLINE).await.unwrap();
    fs::write(test.path(), "no database").unwrap();
    let test = TestStore::open_in(test.dir);
    let file = test.quarantined_file().to.clone();
    let age = Duration::from_secs(3600);
    let now = Timestamp::now();
    let deleted = test.store.delete_set_aside(age, now).await.unwrap();
    assert_eq!((deleted.len(), file.exists()), (0, true));
    let later = now.saturating_add(age);
    let deleted = test.store.delete_set_aside(age, later).await.unwrap();
    assert_eq!((deleted.len(), file.exists()), (1, false));
}
