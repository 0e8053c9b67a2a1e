//! What is missing from a log is reported where it is missing.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use OutputStream::{Stderr, Stdout};
use StreamSelection::{Both, Only};
use escher_launcher::ipc::log_index::{
    HEADER_BYTES, MARK_OFFSET, RECORD_BYTES, Record, encode_header, encode_mark,
};
use escher_protocol::{GapReason, OutputGap, OutputItem, OutputStream, StreamSelection, Timestamp};
use nix::fcntl::{FallocateFlags, fallocate};
use proptest::prelude::*;
use tempfile::TempDir;

use super::log::{LogFiles, ReadRange};

/// A log that is written by hand, as a shim writes it.
struct WrittenLog {
    dir: TempDir,
    log: File,
    index: File,
    length: u64,
    records: u64,
}

impl WrittenLog {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut index = File::create(dir.path().join("x.idx")).unwrap();
        let header = encode_header(Timestamp::from_micros(0));
        index.write_all(&header).unwrap();
        WrittenLog {
            log: File::create(dir.path().join("x.log")).unwrap(),
            index,
            dir,
            length: 0,
            records: 0,
        }
    }

    fn record(&mut self, record: Record) {
        self.index.write_all(&record.encode()).unwrap();
        self.records += 1;
    }

    fn output(&mut self, stream: OutputStream, bytes: &[u8]) {
        self.record(Record::output(self.length, stream, self.records));
        self.log.write_all(bytes).unwrap();
        self.length += bytes.len() as u64;
    }

    /// Notes that `dropped` bytes have been dropped by now: where a gap begins and where it ends.
    fn missing(&mut self, dropped: u64) {
        self.record(Record::missing(self.length, dropped));
    }

    /// Marks the log before `offset` as forgotten and frees what is before `log_hole` and before the
    /// record `first_record`.
    fn forget(&self, offset: u64, log_hole: u64, first_record: u64) {
        let mark = encode_mark(offset);
        self.index.write_all_at(&mark, MARK_OFFSET).unwrap();
        let index_hole = HEADER_BYTES as u64 + first_record * RECORD_BYTES as u64;
        punch(&self.log, 0, log_hole);
        punch(&self.index, HEADER_BYTES as u64, index_hole);
    }

    fn open(&self) -> LogFiles {
        let path = self.dir.path().join("x.log");
        LogFiles::open(&path).unwrap().unwrap()
    }

    /// Reads everything, a batch at a time, and what is missing at the end.
    fn read(&self, streams: StreamSelection, start: u64, dropped: Option<u64>) -> Vec<String> {
        let (mut files, mut offset, end) = (self.open(), start, self.length);
        let (mut shown, stop) = (Vec::new(), u64::MAX);
        while offset < end {
            let range = ReadRange { offset, end, stop };
            let batch = files.read(streams, range).unwrap();
            assert!(batch.next_offset > offset, "no progress at {offset}");
            offset = batch.next_offset;
            shown.extend(batch.items.into_iter().map(show));
        }
        let gap = files.final_gap(end, dropped).unwrap();
        shown.extend(gap.map(OutputItem::Gap).map(show));
        shown
    }

    fn gaps(&self, dropped: Option<u64>, most: usize) -> Vec<OutputGap> {
        self.open().gaps(self.length, dropped, most).unwrap()
    }
}

fn punch(file: &File, start: u64, end: u64) {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let [start, length] = [start, end.saturating_sub(start)].map(|n| i64::try_from(n).unwrap());
    if length > 0 {
        fallocate(file, flags, start, length).unwrap();
    }
}

fn gap(offset: u64, bytes: impl Into<Option<u64>>, reason: GapReason) -> OutputGap {
    let bytes = bytes.into();
    OutputGap {
        offset,
        bytes,
        reason,
    }
}

fn show(item: OutputItem) -> String {
    match item {
        OutputItem::Chunk(chunk) => chunk.data.to_string_lossy().into_owned(),
        OutputItem::Gap(gap) => show_gap(gap),
    }
}

fn show_gap(gap: OutputGap) -> String {
    let bytes = gap.bytes.map_or("?".to_owned(), |bytes| bytes.to_string());
    format!("<{bytes} {} at {}>", gap.reason.name(), gap.offset)
}

fn show_gaps(gaps: Vec<OutputGap>) -> Vec<String> {
    gaps.into_iter().map(show_gap).collect()
}

#[test]
fn dropped_output_is_missing_between_what_came_before_and_after() {
    let mut log = WrittenLog::new();
    log.output(Stdout, b"abc");
    log.output(Stderr, b"XY");
    log.missing(0);
    log.missing(7);
    log.output(Stderr, b"Z");
    log.output(Stdout, b"de");
    // Nothing could be written in between.
    log.missing(7);
    log.missing(8);
    log.missing(8);
    log.missing(20);
    log.output(Stdout, b"f");
    let dropped = Some(20);
    let all = [
        "abc",
        "XY",
        "<7 dropped at 5>",
        "Z",
        "de",
        "<13 dropped at 8>",
        "f",
    ];
    assert_eq!(log.read(Both, 0, dropped), all);
    assert_eq!(log.read(Both, 5, dropped), all[2..]);
    assert_eq!(log.read(Both, 6, dropped), all[4..]);
    let gaps = ["<7 dropped at 5>", "<13 dropped at 8>"];
    assert_eq!(show_gaps(log.gaps(dropped, 9)), gaps);
    assert_eq!(show_gaps(log.gaps(None, 9)), gaps);
    assert_eq!(
        log.read(Only(Stderr), 0, dropped),
        ["XY", gaps[0], "Z", gaps[1]]
    );
    assert_eq!(show_gaps(log.gaps(dropped, 1)), ["<20 dropped at 5>"]);
}

#[test]
fn output_that_is_dropped_at_the_end_is_counted_once_the_end_is_known() {
    let mut log = WrittenLog::new();
    log.output(Stdout, b"abc");
    log.missing(0);
    log.missing(4);
    log.output(Stdout, b"de");
    log.missing(4);
    let before = ["abc", "<4 dropped at 3>", "de"];
    for (dropped, last) in [(None, "<? dropped at 5>"), (Some(9), "<5 dropped at 5>")] {
        let read = log.read(Both, 0, dropped);
        assert_eq!(read[..3], before);
        assert_eq!(read[3..], [last]);
        assert_eq!(show_gaps(log.gaps(dropped, 9)), ["<4 dropped at 3>", last]);
    }
    // The output that followed did not get into the log, or has not come yet.
    log.missing(6);
    for dropped in [None, Some(6)] {
        assert_eq!(log.read(Both, 3, dropped)[2], "<2 dropped at 5>");
    }
}

#[test]
fn dropped_output_that_no_record_names_is_missing_at_the_end() {
    let mut log = WrittenLog::new();
    log.output(Stdout, b"abc");
    assert_eq!(log.read(Both, 0, Some(0)), ["abc"]);
    assert_eq!(log.read(Both, 0, None), ["abc"]);
    assert_eq!(log.read(Both, 0, Some(9)), ["abc", "<9 dropped at 3>"]);
    log.missing(0);
    log.missing(4);
    log.output(Stdout, b"de");
    assert_eq!(log.read(Both, 3, Some(4)), ["<4 dropped at 3>", "de"]);
    assert_eq!(
        log.read(Both, 3, Some(9)),
        ["<4 dropped at 3>", "de", "<5 dropped at 5>"]
    );
}

#[test]
fn what_was_cut_from_outside_is_missing_at_the_end_of_the_file() {
    let mut log = WrittenLog::new();
    log.output(Stdout, b"abc");
    log.output(Stderr, b"XYZ");
    log.log.set_len(4).unwrap();
    assert_eq!(log.read(Both, 0, Some(0)), ["abc", "X", "<2 cut at 4>"]);
    assert_eq!(log.read(Only(Stdout), 0, Some(0)), ["abc", "<2 cut at 4>"]);
    assert_eq!(log.read(Both, 5, Some(0)), ["<1 cut at 5>"]);
    assert_eq!(show_gaps(log.gaps(Some(0), 9)), ["<2 cut at 4>"]);
    // Without a byte count, the last record says how long the log was at least.
    log.log.set_len(1).unwrap();
    assert_eq!(log.open().written_length().unwrap(), 3);
}

#[test]
fn what_was_forgotten_is_missing_from_where_the_reading_began() {
    let mut log = WrittenLog::new();
    log.output(Stdout, b"aaaa\n");
    log.output(Stderr, b"EEEE\n");
    log.output(Stdout, b"bb\n");
    log.forget(7, 0, 1);
    assert_eq!(
        log.read(Both, 0, Some(0)),
        ["<7 forgotten at 0>", "EE\n", "bb\n"]
    );
    assert_eq!(
        log.read(Only(Stdout), 2, Some(0)),
        ["<5 forgotten at 2>", "bb\n"]
    );
    assert_eq!(log.read(Both, 7, Some(0)), ["EE\n", "bb\n"]);
    let forgotten = gap(0, 7, GapReason::Forgotten);
    assert_eq!(log.gaps(Some(0), 9), [forgotten]);
    let mut files = log.open();
    for (lines, offset, lacks_lines) in [(0, 13, false), (1, 10, false), (2, 7, true), (3, 7, true)]
    {
        let found = files.start_of_last_lines(Both, lines, 13).unwrap();
        assert_eq!((found.offset, found.lacks_lines), (offset, lacks_lines));
    }
    assert_eq!(files.skip_backward(Both, 13, 100).unwrap(), 7);
}

#[test]
fn a_mark_that_is_no_mark_is_damage() {
    let mut log = WrittenLog::new();
    log.output(Stdout, b"abc");
    log.index.write_all_at(&[7; 16], MARK_OFFSET).unwrap();
    let path = log.dir.path().join("x.log");
    let error = LogFiles::open(&path).unwrap_err().to_string();
    assert!(error.contains("the mark in the index"), "{error}");
}

/// The bytes that such a test writes say their own offsets.
fn byte_at(offset: u64) -> u8 {
    // Never zero, as holes are.
    1 + u8::try_from(offset * 31 / 7 % 251).unwrap()
}

/// Every byte that a reader gets was written at its place and by its stream, however fast the log is
/// forgotten beneath it.
#[test]
fn a_reader_beside_a_writer_that_forgets_never_sees_a_hole() {
    const PIECE: u64 = 1000;
    const PIECES: u64 = 20_000;
    const KEPT: u64 = 40;
    let mut log = WrittenLog::new();
    let path = log.dir.path().join("x.log");
    let stream_at = |offset: u64| match offset / PIECE % 3 {
        0 => Stderr,
        _ => Stdout,
    };
    log.output(Stderr, &[byte_at(0)]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read_all = || {
            let mut files = LogFiles::open(&path).unwrap().unwrap();
            let (mut offset, mut bytes) = (0, 0);
            loop {
                let was_over = is_over.load(Ordering::Acquire);
                let end = files.length().unwrap();
                let range = ReadRange {
                    offset,
                    end,
                    stop: u64::MAX,
                };
                let batch = files.read(Both, range).unwrap();
                for item in batch.items {
                    match item {
                        OutputItem::Gap(gap) => {
                            assert_eq!((gap.offset, gap.reason), (offset, GapReason::Forgotten));
                            offset = gap.end();
                        }
                        OutputItem::Chunk(chunk) => {
                            assert_eq!(chunk.offset, offset);
                            for (at, byte) in (offset..).zip(&*chunk.data) {
                                assert_eq!(*byte, byte_at(at), "at {at}");
                                assert_eq!(chunk.stream, stream_at(at), "at {at}");
                            }
                            offset += chunk.data.len() as u64;
                            bytes += chunk.data.len() as u64;
                        }
                    }
                }
                assert_eq!(offset, batch.next_offset.max(offset));
                let lines = files.start_of_last_lines(Both, 1_000_000, end).unwrap();
                assert!(lines.offset <= end.max(files.start()));
                if was_over && offset == end {
                    return bytes;
                }
            }
        };
        let readers = [scope.spawn(read_all), scope.spawn(read_all)];
        for piece in 0..PIECES {
            let bytes: Vec<u8> = (log.length..(piece + 1) * PIECE).map(byte_at).collect();
            log.output(stream_at(log.length), &bytes);
            if piece % 10 == 9 && piece > KEPT {
                let first = piece - KEPT;
                let offset = first * PIECE;
                // The first record is that of the single byte, so numbers are one higher.
                log.forget(offset, offset - offset % 4096, first);
            }
        }
        is_over.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() >= KEPT * PIECE);
        }
    });
}

/// What a test does to a log.
#[derive(Debug, Clone)]
enum Step {
    Output(OutputStream, u8),
    Dropped(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (any::<bool>(), 1..40u8).prop_map(|(is_stderr, bytes)| {
            Step::Output(if is_stderr { Stderr } else { Stdout }, bytes)
        }),
        1 => (1..40u8).prop_map(Step::Dropped),
    ];
    prop::collection::vec(step, 0..40)
}

/// It was reported once more at the end.
#[test]
fn what_was_dropped_before_the_first_byte_is_not_missing_at_the_end() {
    let mut log = WrittenLog::new();
    log.missing(0);
    log.missing(1);
    log.output(Stdout, b"x");
    assert_eq!(log.open().final_gap(1, Some(1)).unwrap(), None);
    // What was dropped after it is.
    assert_eq!(
        log.open().final_gap(1, Some(3)).unwrap(),
        Some(gap(1, 2, GapReason::Dropped))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever was written, dropped and forgotten: bytes and gaps together are all of the output.
    #[test]
    fn what_is_read_and_what_is_missing_add_up(steps in steps(), start in 0u64..200, forgotten in 0u64..100) {
        let (mut log, mut dropped) = (WrittenLog::new(), 0);
        let (mut is_open, mut drops) = (false, Vec::new());
        for step in steps {
            match step {
                Step::Output(stream, bytes) => {
                    if std::mem::take(&mut is_open) {
                        log.missing(dropped);
                    }
                    let bytes: Vec<u8> = (log.length..).take(bytes.into()).map(byte_at).collect();
                    log.output(stream, &bytes);
                }
                Step::Dropped(bytes) => {
                    if !std::mem::replace(&mut is_open, true) {
                        log.missing(dropped);
                        drops.push((log.length, 0));
                    }
                    dropped += u64::from(bytes);
                    drops.last_mut().unwrap().1 += u64::from(bytes);
                }
            }
        }
        let forgotten = forgotten.min(log.length);
        log.forget(forgotten, 0, 0);
        let start = start.min(log.length);
        let (mut files, mut offset, mut seen) = (log.open(), start, Vec::new());
        let end = log.length;
        while offset < end {
            let batch = files.read(Both, ReadRange { offset, end, stop: u64::MAX }).unwrap();
            for item in batch.items {
                match item {
                    OutputItem::Chunk(chunk) => {
                        prop_assert_eq!(chunk.offset, offset);
                        let expected: Vec<u8> = (offset..).take(chunk.data.len()).map(byte_at).collect();
                        prop_assert_eq!(&*chunk.data, &*expected);
                        offset += chunk.data.len() as u64;
                    }
                    OutputItem::Gap(gap) if gap.reason == GapReason::Forgotten => {
                        prop_assert_eq!((gap.offset, gap.end()), (start, forgotten));
                        offset = gap.end();
                    }
                    OutputItem::Gap(gap) => {
                        prop_assert_eq!(gap.offset, offset);
                        seen.push((gap.offset, gap.bytes.unwrap()));
                    }
                }
            }
            prop_assert_eq!(batch.next_offset, offset);
        }
        let last = files.final_gap(end, Some(dropped)).unwrap();
        seen.extend(last.map(|gap| (gap.offset, gap.bytes.unwrap())));
        let first = start.max(forgotten);
        let expected: Vec<_> = drops.iter().copied().filter(|drop| drop.0 >= first).collect();
        prop_assert_eq!(&seen, &expected);
        let gaps = files.gaps(end, Some(dropped), 100).unwrap();
        let drops_left = drops.iter().copied().filter(|drop| drop.0 >= forgotten);
        let expected: Vec<_> = drops_left.map(|(offset, bytes)| gap(offset, bytes, GapReason::Dropped)).collect();
        let is_forgotten = usize::from(forgotten > 0);
        prop_assert_eq!(&gaps[is_forgotten..], &expected[..]);
    }
}
