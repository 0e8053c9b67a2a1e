//! Files that are no store, and stores that are damaged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;

use proptest::test_runner::{Config, TestRunner};

use super::*;

/// How many executions of the damaged store are finished; the next ten are not.
const FINISHED: u64 = 150;
const ALL: u64 = FINISHED + 10;

/// A closed store, as bytes, with the records of what is finished in it.
async fn sample() -> (Vec<u8>, BTreeMap<u64, ExecutionRecord>) {
    let bed = Bed::new();
    let mut records = BTreeMap::new();
    for number in 1..=ALL {
        let mut one = submission(number);
        one.request.name = Some(format!("job{}", number % 7).into());
        one.request.labels = vec![("n".into(), (number % 5).to_string().into())];
        bed.commit([submitted(&one)]);
        if number <= FINISHED {
            bed.commit([finished(&one, Status::Completed)]);
            records.insert(number, ended(&one, Status::Completed));
        }
    }
    bed.store.close(DEADLINE).await.unwrap();
    (fs::read(bed.path()).unwrap(), records)
}

/// Opens `bytes` as a store; checks that nothing in it is wrong and that what was set aside is as it was.
/// Returns how many executions are there, and whether it was set aside.
async fn opened(bytes: &[u8], records: &BTreeMap<u64, ExecutionRecord>) -> (usize, bool) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(file(dir.path()), bytes).unwrap();
    let (store, loaded, notices) = match open(&file(dir.path()), SETTINGS, |_| {}) {
        Ok(opened) => opened,
        // The flipped bit was in the version.
        Err(StoreError::UnsupportedVersion { .. }) => return (records.len(), false),
        Err(error) => panic!("{error}"),
    };
    if let [notice] = notices.as_slice() {
        assert_eq!(
            fs::read(&notice.to).unwrap(),
            bytes,
            "it is set aside as it is"
        );
    }
    let found = store
        .list(None, everything(), u64::MAX, 10_000)
        .await
        .unwrap();
    for record in &found {
        assert_eq!(records.get(&record.number), Some(record));
    }
    for one in &loaded.unfinished {
        let number = one.submission.number;
        assert!(number > FINISHED && number <= ALL);
        assert_eq!(one.submission.id, id(number));
    }
    for number in 1..=ALL {
        if let Ok(Some(found)) = store.find(None, &number.to_string().as_str().into()).await {
            let record = found.record.map(|record| *record);
            assert_eq!(
                (found.number, record.as_ref()),
                (number, records.get(&number))
            );
        }
    }
    store.close(DEADLINE).await.unwrap();
    (found.len() + loaded.unfinished.len(), !notices.is_empty())
}

#[tokio::test]
async fn a_store_cut_anywhere_is_set_aside_and_what_is_left_is_saved() {
    let (bytes, records) = sample().await;
    let mut kept = Vec::new();
    for eighth in 0..8 {
        for more in [0, 1, 1000] {
            let length = bytes.len() * eighth / 8 + more;
            let (count, was_set_aside) = opened(&bytes[..length], &records).await;
            assert!(was_set_aside, "cut to {length} of {}", bytes.len());
            kept.push(count);
        }
    }
    let most = *kept.last().unwrap();
    assert!(kept[0] == 0 && most > records.len() / 3, "{kept:?}");
    let (count, was_set_aside) = opened(&bytes, &records).await;
    assert_eq!(
        (count as u64, was_set_aside),
        (ALL, false),
        "whole it is not"
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
            for (place, change) in flips {
                bytes[place] ^= change;
            }
            let (count, _) = runtime.block_on(opened(&bytes, &records));
            let (sum, runs) = total.get();
            total.set((sum + count, runs + 1));
            Ok(())
        })
        .unwrap();
    // A page of the schema costs everything, most others a few rows.
    let (sum, runs) = total.get();
    let most = usize::try_from(ALL).unwrap() * runs;
    assert!(sum * 10 > most * 6, "{sum} of {most} were saved");
}

#[tokio::test]
async fn what_is_no_store_is_set_aside_untouched() {
    let foreign = {
        let dir = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(file(dir.path())).unwrap();
        database
            .execute_batch("CREATE TABLE t (x); PRAGMA user_version = 77")
            .unwrap();
        drop(database);
        fs::read(file(dir.path())).unwrap()
    };
    let text = "not a database, but long enough to have a header ".repeat(50);
    for (bytes, reason) in [
        (Vec::new(), "empty"),
        (b"short".to_vec(), "short"),
        (text.into_bytes(), "not an SQLite"),
        (foreign, "something else"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(dir.path()), &bytes).unwrap();
        let bed = Bed::on(dir);
        let [notice] = bed.notices.as_slice() else {
            panic!("{:?}", bed.notices)
        };
        assert!(notice.reason.contains(reason), "{notice:?}");
        assert_eq!(fs::read(&notice.to).unwrap(), bytes);
        assert!(
            notice
                .to
                .to_string_lossy()
                .contains("escher.db.set-aside-2")
        );
        bed.commit([submitted(&submission(1))]);
        let bed = bed.again().await;
        assert_eq!((bed.notices.len(), bed.loaded.unfinished.len()), (0, 1));
    }
}

#[tokio::test]
async fn files_set_aside_within_a_second_do_not_overwrite_each_other() {
    let mut bed = Bed::new();
    for round in 0..5 {
        bed.store.close(DEADLINE).await.unwrap();
        fs::write(bed.path(), format!("{round}")).unwrap();
        bed = Bed::on(bed.dir);
    }
    let files = fs::read_dir(bed.dir.path())
        .unwrap()
        .map(|file| file.unwrap().path());
    let aside = files.filter(|path| path.to_string_lossy().contains("set-aside"));
    let mut contents: Vec<String> = aside
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    contents.sort_unstable();
    assert_eq!(contents, ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_link_is_not_followed_and_a_missing_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::write(&target, "kept").unwrap();
    std::os::unix::fs::symlink(&target, file(dir.path())).unwrap();
    let error = open(&file(dir.path()), SETTINGS, |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::NotAFile(_)), "{error}");
    assert_eq!(fs::read_to_string(target).unwrap(), "kept");
    let missing = dir.path().join("missing/escher.db");
    assert!(matches!(
        open(&missing, SETTINGS, |_| {}),
        Err(StoreError::Io { .. })
    ));
}

#[tokio::test]
async fn a_damaged_record_is_passed_over_and_heals_with_the_next_start() {
    let bed = Bed::new();
    for number in 1..=3 {
        bed.commit(whole(&submission(number), Status::Completed));
    }
    bed.store.close(DEADLINE).await.unwrap();
    let database = rusqlite::Connection::open(bed.path()).unwrap();
    let spoil = "UPDATE record SET body = substr(body, 1, 20) || x'00' || substr(body, 22) WHERE number = 2";
    database.execute_batch(spoil).unwrap();
    drop(database);
    let bed = Bed::on(bed.dir);
    let numbers = |records: Vec<ExecutionRecord>| -> Vec<u64> {
        records.into_iter().map(|record| record.number).collect()
    };
    assert_eq!(numbers(bed.all().await), [3, 1]);
    let error = bed.store.find(None, &"2".into()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::INTERNAL);
    let bed = bed.again().await;
    assert_eq!((bed.notices.len(), bed.notices[0].salvaged), (1, 2));
    assert_eq!(numbers(bed.all().await), [3, 1]);
    assert_eq!(bed.loaded.last_number, 3);
}

#[tokio::test]
async fn a_salvaged_store_has_all_but_what_was_lost() {
    let bed = Bed::new();
    let mut keyed = submission(1);
    keyed.request.key = Some("k".into());
    keyed.submitted_at = at(50);
    let mut record = ended(&keyed, Status::Completed);
    record.outcome.as_mut().unwrap().output.log_bytes = 5;
    let digest = Some([7; 32]);
    let submit = |one: &Submission, launching| Change::Submitted {
        submission: Box::new(one.clone()),
        digest,
        launching,
    };
    bed.commit([submit(&keyed, true), over(record.clone())]);
    bed.commit(whole(&submission(2), Status::Failed));
    let mut removed = ended(&submission(3), Status::Completed);
    removed.outcome.as_mut().unwrap().output.log_bytes = 5;
    bed.commit([
        submitted(&submission(3)),
        over(removed),
        Change::Removed { numbers: vec![3] },
        submitted(&submission(4)),
        Change::Submitted {
            submission: Box::new(submission(5)),
            digest: None,
            launching: true,
        },
        Change::Started {
            number: 5,
            pid: 99,
            at: at(5),
        },
    ]);
    bed.store.write(vec![ChangeEntry {
        ticket: 0,
        change: Change::LogsDeleted { ids: vec![] },
        events: vec![event(12, 5, EventKind::Started)],
    }]);
    bed.outcomes(1);
    let bed = bed.again().await;
    let before = bed.loaded.clone();
    let history = bed.store.expired(NOTHING, at(0), 10).await.unwrap();
    bed.store.close(DEADLINE).await.unwrap();
    // A page that nothing but the check of the whole reads.
    fs::write(Damage::mark(&bed.path()), "a test").unwrap();
    let bed = Bed::on(bed.dir);
    assert_eq!(bed.notices[0].salvaged, 4);
    assert_eq!(bed.loaded, before);
    assert_eq!(bed.store.finished_count(), 2);
    assert_eq!(
        bed.store.expired(NOTHING, at(0), 10).await.unwrap(),
        history
    );
    assert_eq!(
        bed.all().await,
        [ended(&submission(2), Status::Failed), record]
    );
    let since = Selection {
        since: Some(at(50)),
        ..everything()
    };
    let found = bed.store.list(None, since, u64::MAX, 10).await.unwrap();
    assert_eq!(found.len(), 1, "the order of the clock was kept too");
    let again = Submission {
        number: 6,
        id: id(6),
        ..keyed
    };
    let outcome = CommitOutcome::KeyTaken {
        id: id(1),
        number: 1,
        is_same_request: true,
    };
    assert_eq!(bed.write([submit(&again, false)]), [outcome]);
}

use super::super::quarantine::Damage;

const NOTHING: HistoryLimits = HistoryLimits {
    max_age_secs: u64::MAX,
    max_bytes: u64::MAX,
    max_count: 0,
};

#[tokio::test]
async fn a_write_ahead_log_alone_is_not_taken_for_another_stores() {
    let bed = Bed::new();
    bed.commit([submitted(&submission(1))]);
    let crashed = tempfile::tempdir().unwrap();
    fs::copy(
        quarantine::wal(&bed.path()),
        quarantine::wal(&file(crashed.path())),
    )
    .unwrap();
    let bed = Bed::on(crashed);
    assert_eq!((bed.notices.len(), bed.loaded.unfinished.len()), (1, 0));
    assert!(quarantine::wal(&bed.notices[0].to).exists());
}

#[tokio::test]
async fn a_torn_write_ahead_log_loses_the_torn_transaction_alone() {
    let bed = Bed::new();
    let mut ends = Vec::new();
    for number in 1..=5 {
        bed.commit([submitted(&submission(number))]);
        ends.push(fs::metadata(quarantine::wal(&bed.path())).unwrap().len());
    }
    for (whole, end) in (1..).zip(&ends[..4]) {
        for torn in [0, 1, 100, 2000] {
            let crashed = tempfile::tempdir().unwrap();
            let wal = quarantine::wal(&file(crashed.path()));
            fs::copy(bed.path(), file(crashed.path())).unwrap();
            fs::copy(quarantine::wal(&bed.path()), &wal).unwrap();
            let log = fs::File::options().write(true).open(&wal).unwrap();
            log.set_len(*end + torn).unwrap();
            if torn > 1 {
                log.write_all_at(b"torn", *end + torn - 4).unwrap();
            }
            let bed = Bed::on(crashed);
            assert_eq!((bed.notices.len(), bed.loaded.unfinished.len()), (0, whole));
        }
    }
}
