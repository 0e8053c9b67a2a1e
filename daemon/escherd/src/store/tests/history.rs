//! The history: its size, of all users and of each, and what exceeds its limits.

use super::*;

const NO: u64 = u64::MAX;

const UNLIMITED: HistoryLimits = HistoryLimits {
    max_age_secs: NO,
    max_bytes: NO,
    max_count: NO,
    min_age: Duration::ZERO,
};

/// The index of each log, and its size.
const INDEX: [u8; 100] = [0; 100];
const INDEX_BYTES: u64 = INDEX.len() as u64;

/// A directory of logs, and a store.
struct History {
    test: TestStore,
    logs: TempDir,
}

impl History {
    fn new() -> Self {
        History {
            test: TestStore::new(),
            logs: tempfile::tempdir().unwrap(),
        }
    }

    /// Adds execution `number` of a user, which ended at this minute, with a log of so many bytes.
    fn add(&self, number: u64, uid: u32, minute: u64, log_bytes: u64) -> ExecutionRecord {
        let mut one = submission(number);
        one.submitter = user(uid);
        let log = self.logs.path().join(format!("{number}.log"));
        std::fs::write(log.with_extension("idx"), INDEX).unwrap();
        one.log_path = log.into_os_string().into();
        let mut record = record_of(&one, Status::Completed);
        record.completed_at = Some(at(minute));
        record.outcome.as_mut().unwrap().output.log_bytes = log_bytes;
        self.test
            .commit([submitted(&one), finished_with(record.clone())]);
        record
    }

    /// Returns what is over the limits at minute 10: records and logs.
    async fn expired(&self, limits: HistoryLimits, limit: usize) -> (Vec<u64>, Vec<u64>) {
        let store = &self.test.store;
        let records = store.expired_records(limits, at(10), limit).await.unwrap();
        let logs = store.expired_logs(limits, at(10), limit).await.unwrap();
        (records, logs)
    }

    /// Returns the size of the history as an operator sees it.
    fn shown_size(&self) -> (u64, u64) {
        let database = rusqlite::Connection::open(self.test.path()).unwrap();
        let sql = "SELECT finished, kept_log_bytes FROM history";
        let size = database.query_row(sql, [], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?))
        });
        let (finished, bytes) = size.unwrap();
        (finished.into(), bytes.into())
    }

    /// Returns what each user has, checked against the size of all.
    async fn sizes(&self) -> Vec<(u32, u64, u64)> {
        let users = self.test.store.user_history().await.unwrap();
        let mut sum = HistorySize::default();
        for size in users.values() {
            sum.add(*size);
        }
        assert_eq!(self.test.store.history_size().await.unwrap(), sum);
        assert_eq!(*self.test.store.watch_history().borrow(), sum);
        assert_eq!(self.shown_size(), (sum.executions, sum.log_bytes));
        let users = users.into_iter();
        users
            .map(|(user, size)| (user.uid, size.executions, size.log_bytes))
            .collect()
    }

    async fn reopen(self) -> Self {
        History {
            test: self.test.reopen().await,
            ..self
        }
    }
}

#[tokio::test]
async fn one_users_history_expires_in_the_order_in_which_it_ended() {
    let history = History::new();
    for number in 1..=9 {
        history.add(number, 1001, 10 - number, number * 1024);
    }
    history.test.commit([submitted(&submission(10))]);
    let bytes = 45 * 1024 + 9 * INDEX_BYTES;
    assert_eq!(history.sizes().await, [(1001, 9, bytes)]);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let oldest = 9 * 60;
    for (limits, limit, records, logs) in [
        (UNLIMITED, 100, &[][..], &[][..]),
        (
            HistoryLimits {
                max_count: 7,
                ..UNLIMITED
            },
            100,
            &[9, 8],
            &[],
        ),
        (
            HistoryLimits {
                max_count: 0,
                ..UNLIMITED
            },
            100,
            &[9, 8, 7, 6, 5, 4, 3, 2, 1],
            &[],
        ),
        (
            HistoryLimits {
                max_count: 0,
                ..UNLIMITED
            },
            2,
            &[9, 8],
            &[],
        ),
        // The maximum age itself does not expire.
        (
            HistoryLimits {
                max_age_secs: oldest,
                ..UNLIMITED
            },
            100,
            &[],
            &[],
        ),
        (
            HistoryLimits {
                max_age_secs: oldest - 1,
                ..UNLIMITED
            },
            100,
            &[9],
            &[],
        ),
        (
            HistoryLimits {
                max_age_secs: oldest - 2 * 60,
                max_count: 6,
                ..UNLIMITED
            },
            100,
            &[9, 8, 7],
            &[],
        ),
        (
            HistoryLimits {
                max_bytes: bytes,
                ..UNLIMITED
            },
            100,
            &[],
            &[],
        ),
        (
            HistoryLimits {
                max_bytes: bytes - 1,
                ..UNLIMITED
            },
            100,
            &[],
            &[9],
        ),
        (
            HistoryLimits {
                max_bytes: bytes - 11 * 1024,
                ..UNLIMITED
            },
            100,
            &[],
            &[9, 8],
        ),
        // Within the minimum age no limit applies; the minimum age itself is within it.
        (
            HistoryLimits {
                max_count: 0,
                max_bytes: 0,
                min_age: minutes(8),
                ..UNLIMITED
            },
            100,
            &[9],
            &[9],
        ),
        (
            HistoryLimits {
                max_age_secs: 0,
                min_age: minutes(7),
                ..UNLIMITED
            },
            100,
            &[9, 8],
            &[],
        ),
    ] {
        let expired = history.expired(limits, limit).await;
        assert_eq!(expired, (records.to_vec(), logs.to_vec()), "{limits:?}");
    }
    let numbers = (1..=9).collect();
    history.test.commit([Change::Removed { numbers }]);
    assert_eq!(history.sizes().await, []);
}

#[tokio::test]
async fn what_one_user_has_too_much_of_costs_nobody_else_anything() {
    let history = History::new();
    // Bob's are the oldest, and few.
    for number in 1..=3 {
        history.add(number, 1002, 1, 10 * INDEX_BYTES);
    }
    for number in 4..=200 {
        history.add(number, 1001, 2, 9 * INDEX_BYTES);
    }
    let (bob, alice) = (33 * INDEX_BYTES, 1970 * INDEX_BYTES);
    assert_eq!(history.sizes().await, [(1001, 197, alice), (1002, 3, bob)]);
    let limits = HistoryLimits {
        max_count: 100,
        max_bytes: bob + alice - 700 * INDEX_BYTES,
        ..UNLIMITED
    };
    let (records, logs) = history.expired(limits, 1000).await;
    assert_eq!(records, (4..=103).collect::<Vec<u64>>());
    assert_eq!(logs, (4..=73).collect::<Vec<u64>>());
    // Everybody is above its share of nothing.
    let nothing = HistoryLimits {
        max_count: 0,
        ..UNLIMITED
    };
    assert_eq!(history.expired(nothing, 1000).await.0.len(), 200);
}

#[tokio::test]
async fn a_log_is_removed_without_its_record_which_says_so() {
    let history = History::new();
    let mut records: Vec<ExecutionRecord> = (1..=3)
        .map(|number| history.add(number, 1001, number, 1000))
        .collect();
    let logs_of = |numbers: &[u64]| Change::LogsRemoved {
        numbers: numbers.to_vec(),
    };
    history.test.commit([submitted(&submission(4))]);
    let removed = |log_bytes, ids: Vec<ExecutionId>| {
        let removed = escher_protocol::message::Removed {
            executions: 0,
            log_bytes,
        };
        let freed = log_bytes + ids.len() as u64 * INDEX_BYTES;
        let freed = (freed > 0).then_some((1001, freed));
        CommitOutcome::Removed {
            removed,
            logs: ids,
            freed_log_bytes: freed.into_iter().collect(),
        }
    };
    // The unfinished have no log to lose, and nobody loses one twice.
    let outcomes = history.test.write([logs_of(&[1, 2, 4, 77]), logs_of(&[2])]);
    let ids = vec![id(1), id(2)];
    assert_eq!(outcomes, [removed(2000, ids.clone()), removed(0, vec![])]);
    for record in &mut records[..2] {
        record.log_removed = true;
    }
    let history = history.reopen().await;
    records.reverse();
    assert_eq!(history.test.all_records().await, records);
    assert_eq!(history.sizes().await, [(1001, 3, 1000 + INDEX_BYTES)]);
    let mut undeleted = history.test.loaded.undeleted_logs.clone();
    undeleted.sort_unstable();
    assert_eq!(undeleted, ids, "the files are deleted after a crash, too");
    history.test.commit([Change::LogsDeleted { ids }]);
    // A removal of the rest reports what is there.
    let outcomes = history.test.write([Change::Removed {
        numbers: vec![1, 2, 3],
    }]);
    let [
        CommitOutcome::Removed {
            removed,
            logs,
            freed_log_bytes,
        },
    ] = outcomes.as_slice()
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(
        (removed.executions, removed.log_bytes, logs.len()),
        (3, 1000, 3)
    );
    // Those removed before are not freed again.
    let freed = BTreeMap::from([(1001, 1000 + INDEX_BYTES)]);
    assert_eq!(*freed_log_bytes, freed);
}

#[tokio::test]
async fn a_salvaged_record_whose_log_was_removed_has_no_log_that_counts() {
    let history = History::new();
    for number in 1..=2 {
        history.add(number, 1001, number, 1000);
    }
    history
        .test
        .commit([Change::LogsRemoved { numbers: vec![1] }]);
    std::fs::write(quarantine::damage_mark_path(&history.test.path()), "a test").unwrap();
    let history = history.reopen().await;
    assert_eq!(history.test.quarantined_file().salvaged, 2);
    assert_eq!(history.sizes().await, [(1001, 2, 1000 + INDEX_BYTES)]);
    assert!(history.test.record(1).await.unwrap().log_removed);
}

#[tokio::test]
async fn a_log_whose_record_is_damaged_is_removed_as_well() {
    let history = History::new();
    history.add(1, 1001, 1, 1000);
    let database = rusqlite::Connection::open(history.test.path()).unwrap();
    database
        .execute("UPDATE record SET body = x'00'", [])
        .unwrap();
    history
        .test
        .commit([Change::LogsRemoved { numbers: vec![1] }]);
    assert_eq!(history.sizes().await, [(1001, 1, 0)]);
}

#[tokio::test]
async fn totals_of_users_that_are_not_those_of_all_are_damage() {
    for (sql, reason) in [
        ("UPDATE user_totals SET finished = 7", "of user 1001"),
        ("UPDATE user_totals SET name = 'bob'", "of user 1001"),
        ("DELETE FROM user_totals", "are not those of all"),
    ] {
        let history = History::new();
        history.add(1, 1001, 1, 1000);
        history.test.store.close(DEADLINE).await.unwrap();
        let database = rusqlite::Connection::open(history.test.path()).unwrap();
        database.execute(sql, []).unwrap();
        drop(database);
        let test = TestStore::open_in(history.test.dir);
        let file = test.quarantined_file();
        assert!(file.reason.contains(reason), "{}", file.reason);
        assert_eq!(file.salvaged, 1);
        let users = test.store.user_history().await.unwrap();
        assert_eq!(users[&user(1001)].executions, 1);
    }
}
