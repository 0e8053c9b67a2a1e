use std::fs;

use proptest::prelude::*;

use super::replay::read_missing;
use super::*;

const ID: StoreId = [7; 16];

fn started(number: u64) -> ChangeEntry {
    ChangeEntry {
        ticket: 0,
        change: Change::Started {
            number,
            pid: 1,
            at: escher_protocol::Timestamp::from_micros(2),
        },
        events: Vec::new(),
        dropped_events: Vec::new(),
    }
}

fn all_started(numbers: std::ops::Range<u64>) -> Vec<ChangeEntry> {
    numbers.map(started).collect()
}

fn missing(path: &Path, sequence: u64) -> Vec<ChangeEntry> {
    read_missing(path, ID, sequence).unwrap().entries
}

/// A journal in a directory of its own, with the path of its store.
fn journal() -> (tempfile::TempDir, PathBuf, ChangeJournal) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("escher.db");
    let journal = ChangeJournal::create(&path, ID, 0).unwrap();
    (dir, path, journal)
}

#[test]
fn what_was_appended_is_read_from_the_change_on_that_the_database_lacks() {
    let (_dir, path, mut journal) = journal();
    assert_eq!(missing(&path, 0), []);
    journal.append(&all_started(1..3)).unwrap();
    let appended = journal.append(&all_started(3..4)).unwrap();
    assert_eq!((appended.count, appended.first_sequence), (1, 3));
    assert_eq!(missing(&path, 0), all_started(1..4));
    assert_eq!(missing(&path, 2), all_started(3..4));
    assert_eq!(missing(&path, 3), []);
}

#[test]
fn a_change_that_is_too_large_ends_what_is_appended() {
    let (_dir, path, mut journal) = journal();
    let large = ChangeEntry {
        change: Change::Removed {
            numbers: vec![u64::MAX; MAX_CHANGE_BYTES / 8],
        },
        ..started(2)
    };
    let entries = [started(1), large, started(3)];
    assert_eq!(journal.append(&entries).unwrap().count, 1);
    assert_eq!(missing(&path, 0), all_started(1..2));
    assert_eq!(journal.append(&entries[1..]).unwrap().count, 0);
}

#[test]
fn files_are_used_again_once_the_database_has_what_is_in_them() {
    let (_dir, path, mut journal) = journal();
    let per_round = 5_000;
    for round in 0..20 {
        let first = round * per_round + 1;
        journal
            .append(&all_started(first..first + per_round))
            .unwrap();
        assert_eq!(missing(&path, first - 1).len() as u64, per_round);
        // The database is half a round behind.
        journal.on_applied(first + per_round / 2).unwrap();
        assert_eq!(
            missing(&path, first + per_round / 2).len() as u64,
            per_round / 2 - 1
        );
    }
    let bytes = paths(&path).map(|path| fs::metadata(path).unwrap().len());
    assert!(bytes.iter().sum::<u64>() < 4 * SEGMENT_BYTES, "{bytes:?}");
}

#[test]
fn a_journal_of_another_store_and_one_with_a_gap_are_ignored() {
    let (_dir, path, mut journal) = journal();
    journal.append(&all_started(1..4)).unwrap();
    let other = read_missing(&path, [8; 16], 0).unwrap();
    assert_eq!((other.entries.len(), other.last_sequence), (0, 0));
    drop(
        ChangeJournal::create(&path, ID, 10)
            .unwrap()
            .append(&all_started(11..13)),
    );
    let gap = read_missing(&path, ID, 5).unwrap();
    assert_eq!((gap.entries.len(), gap.last_sequence), (0, 5));
}

#[test]
fn a_failed_append_leaves_nothing_behind() {
    let (_dir, path, mut journal) = journal();
    journal.append(&all_started(1..3)).unwrap();
    // A pipe takes no bytes at an offset.
    let (_reader, writer) = std::io::pipe().unwrap();
    let file = fs::File::from(std::os::fd::OwnedFd::from(writer));
    let before = std::mem::replace(&mut journal.segments[0].file, file);
    assert!(journal.append(&all_started(3..5)).is_err());
    journal.segments[0].file = before;
    assert_eq!(
        journal.append(&all_started(5..6)).unwrap().first_sequence,
        3
    );
    let expected = [all_started(1..3), all_started(5..6)].concat();
    assert_eq!(missing(&path, 0), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A crash in the middle of a write, at every byte of the file.
    #[test]
    fn a_journal_cut_or_damaged_anywhere_has_the_whole_records_before(
        counts in prop::collection::vec(1..4_u64, 1..5),
        damage in any::<u8>(),
    ) {
        let (_dir, path, mut journal) = journal();
        let [file, _] = paths(&path);
        let mut ends = vec![(journal.segments[0].bytes(), 0)];
        let mut last = 0;
        for count in counts {
            for number in last + 1..=last + count {
                journal.append(&all_started(number..number + 1)).unwrap();
                ends.push((journal.segments[0].bytes(), number));
            }
            last += count;
        }
        let whole = fs::read(&file).unwrap();
        for cut in 24..whole.len() {
            let is_before = |(end, _): &&(u64, u64)| *end <= cut as u64;
            let (_, kept) = ends.iter().rev().find(is_before).unwrap();
            fs::write(&file, &whole[..cut]).unwrap();
            prop_assert_eq!(missing(&path, 0), all_started(1..kept + 1));
            let mut damaged = whole.clone();
            damaged[cut] ^= damage.max(1);
            fs::write(&file, damaged).unwrap();
            prop_assert_eq!(missing(&path, 0), all_started(1..kept + 1));
        }
    }
}
