//! Tests of reading logs.

use std::fs::File;
use std::io;

use OutputStream::{Stderr, Stdout};
use escher_launcher::ipc::log_index::{HEADER_BYTES, RECORD_BYTES, Record, RecordKind};
use escher_protocol::{OutputItem, OutputStream, StreamSelection};

use super::OutputBatch;
use super::log::{LogFiles, ReadRange};
use super::sample::SampleLog;
use crate::blocking::Abandoned;

fn open(sample: &SampleLog) -> LogFiles {
    LogFiles::open(&sample.log()).unwrap().unwrap()
}

/// Reads a range of a log that was forgotten nowhere.
fn read(
    files: &mut LogFiles,
    streams: StreamSelection,
    offset: u64,
    end: u64,
) -> io::Result<OutputBatch> {
    let stop = end;
    files.read(streams, ReadRange { offset, end, stop })
}

fn last_lines(
    files: &mut LogFiles,
    streams: StreamSelection,
    lines: u64,
    end: u64,
) -> io::Result<u64> {
    let found = files.start_of_last_lines(streams, lines, end)?;
    assert!(!found.lacks_lines);
    Ok(found.offset)
}

fn text(batch: &OutputBatch) -> Vec<(OutputStream, u64, String)> {
    let chunks = batch.items.iter().filter_map(|item| match item {
        OutputItem::Chunk(chunk) => Some(chunk),
        OutputItem::Gap(_) => None,
    });
    chunks
        .map(|chunk| {
            (
                chunk.stream,
                chunk.offset,
                String::from_utf8_lossy(&chunk.data).into_owned(),
            )
        })
        .collect()
}

#[test]
fn abandoned_work_ends_at_its_next_block() {
    let sample = SampleLog::new([(Stdout, "a\nb\n"), (Stderr, "E\n"), (Stdout, "c\nd")]);
    let mut files = open(&sample);
    let (abandoned, abandon) = Abandoned::of_a_test();
    files.set_abandoned(abandoned);
    let both = StreamSelection::Both;
    assert!(files.start_of_last_lines(both, 9, 9).is_ok());
    drop(abandon);
    assert!(files.start_of_last_lines(both, 9, 9).is_err());
    assert!(files.skip_forward(both, 0, 9, 9).is_err());
    assert!(files.skip_backward(both, 9, 9).is_err());
}

#[test]
fn reads_both_streams_or_one_from_any_offset() {
    let sample = SampleLog::new([(Stdout, "abc"), (Stderr, "XY"), (Stdout, "def")]);
    let mut files = open(&sample);
    let both = read(&mut files, StreamSelection::Both, 0, 8).unwrap();
    let expected = [
        (Stdout, 0, "abc".into()),
        (Stderr, 3, "XY".into()),
        (Stdout, 5, "def".into()),
    ];
    assert_eq!(text(&both), expected);
    for offset in 0..=8 {
        let rest = read(&mut files, StreamSelection::Both, offset, 8).unwrap();
        let bytes: String = text(&rest).into_iter().map(|chunk| chunk.2).collect();
        assert_eq!(bytes, "abcXYdef"[usize::try_from(offset).unwrap()..]);
    }
    let errors = read(&mut files, StreamSelection::Only(Stderr), 0, 8).unwrap();
    assert_eq!(
        (text(&errors), errors.next_offset),
        (vec![(Stderr, 3, "XY".into())], 8)
    );
    let part = read(&mut files, StreamSelection::Both, 1, 4).unwrap();
    assert_eq!(
        text(&part),
        [(Stdout, 1, "bc".into()), (Stderr, 3, "X".into())]
    );
}

#[test]
fn counts_last_lines_in_the_selected_streams() {
    let sample = SampleLog::new([(Stdout, "a\nb\n"), (Stderr, "E\n"), (Stdout, "c\nd")]);
    let mut files = open(&sample);
    let mut start = |streams, lines| last_lines(&mut files, streams, lines, 9).unwrap();
    let both = StreamSelection::Both;
    assert_eq!(
        [0, 1, 2, 3, 4, 9].map(|lines| start(both, lines)),
        [9, 8, 6, 4, 2, 0]
    );
    let errors = StreamSelection::Only(Stderr);
    assert_eq!([1, 2].map(|lines| start(errors, lines)), [4, 4]);
    let out = StreamSelection::Only(Stdout);
    assert_eq!([1, 2, 3].map(|lines| start(out, lines)), [8, 4, 2]);
}

#[test]
fn skips_bytes_of_a_stream_forward_and_backward_from_any_offset() {
    let sample = SampleLog::new([
        (Stdout, "abc"),
        (Stderr, "XY"),
        (Stdout, ""),
        (Stdout, "def"),
    ]);
    let mut files = open(&sample);
    for (streams, selected) in [
        (StreamSelection::Both, "abcXYdef"),
        (StreamSelection::Only(Stdout), "abcdef"),
        (StreamSelection::Only(Stderr), "XY"),
    ] {
        let count = |from: u64, to: u64| {
            let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            let bytes = "abcXYdef"[range].chars();
            bytes.filter(|byte| selected.contains(*byte)).count() as u64
        };
        for (from, to) in (0..=8).flat_map(|to| (0..=to).map(move |from| (from, to))) {
            let total = count(from, to);
            let all = files.skip_forward(streams, from, u64::MAX, to).unwrap();
            assert_eq!((all.bytes, all.end), (total, to));
            let begin = files.skip_backward(streams, to, total).unwrap();
            assert!(begin >= from && count(begin, to) == total);
            for some in 0..=total {
                let first = files.skip_forward(streams, from, some, to).unwrap();
                assert_eq!((first.bytes, count(from, first.end)), (some, some));
                let begin = files.skip_backward(streams, to, some).unwrap();
                assert_eq!(count(begin, to), some);
            }
        }
    }
}

#[test]
fn skips_records_of_events() {
    let pieces = [(Stdout, "abc\n"), (Stderr, "XY"), (Stdout, "def")];
    let (plain, with_events) = (SampleLog::new(pieces), SampleLog::new(pieces));
    let kinds = [
        RecordKind::AttemptBegins,
        RecordKind::TerminalResized,
        RecordKind::BytesMissing,
        RecordKind::Unknown(5),
        RecordKind::Unknown(6),
        RecordKind::Unknown(255),
    ];
    let index = std::fs::read(with_events.index()).unwrap();
    let events_at = |offset| {
        kinds.map(|kind| Record {
            offset,
            kind,
            value: 1,
        })
    };
    let (header, records) = index.split_at(HEADER_BYTES);
    let (mut all_records, mut records) = (header.to_vec(), records.chunks(RECORD_BYTES));
    let event_offsets: [&[u64]; 4] = [&[0, 0], &[0, 2, 4], &[4, 5], &[6, 8, 9]];
    for (position, offsets) in event_offsets.into_iter().enumerate() {
        if position > 0 {
            all_records.extend(records.next().unwrap());
        }
        for record in offsets.iter().flat_map(|offset| events_at(*offset)) {
            all_records.extend(record.encode());
        }
    }
    std::fs::write(with_events.index(), all_records).unwrap();
    for streams in [
        StreamSelection::Both,
        StreamSelection::Only(Stdout),
        StreamSelection::Only(Stderr),
    ] {
        for offset in 0..=9 {
            let (mut plain, mut with_events) = (open(&plain), open(&with_events));
            let expected = read(&mut plain, streams, offset, 9).unwrap();
            let found = read(&mut with_events, streams, offset, 9).unwrap();
            assert_eq!(text(&found), text(&expected), "{streams:?} from {offset}");
            assert_eq!(found.next_offset, expected.next_offset);
            for count in 0..4 {
                assert_eq!(
                    last_lines(&mut with_events, streams, count, offset).unwrap(),
                    last_lines(&mut plain, streams, count, offset).unwrap()
                );
                assert_eq!(
                    with_events.skip_forward(streams, offset, count, 9).unwrap(),
                    plain.skip_forward(streams, offset, count, 9).unwrap()
                );
                assert_eq!(
                    with_events.skip_backward(streams, offset, count).unwrap(),
                    plain.skip_backward(streams, offset, count).unwrap()
                );
            }
        }
    }
}

#[test]
fn refuses_an_index_of_another_version_by_number() {
    let sample = SampleLog::new([(Stdout, "abc")]);
    let mut index = std::fs::read(sample.index()).unwrap();
    index[7] = 1;
    std::fs::write(sample.index(), index).unwrap();
    let error = LogFiles::open(&sample.log()).unwrap_err().to_string();
    assert!(error.contains("version 1;"), "{error}");
}

/// Whatever a crash or an accident leaves of an index, reading ends with the bytes of the log
/// or with an error, and never invents a byte.
#[test]
fn a_truncated_or_changed_index_never_leads_to_invented_output() {
    let sample = SampleLog::new([(Stdout, "abc"), (Stderr, "XY"), (Stdout, "def")]);
    let (path, index) = (sample.log(), sample.index());
    let bytes = std::fs::read(&index).unwrap();
    let read = || -> io::Result<String> {
        let mut files = LogFiles::open(&path)?.ok_or(io::ErrorKind::NotFound)?;
        let (mut all, mut offset) = (String::new(), 0);
        while offset < 8 {
            let batch = read(&mut files, StreamSelection::Both, offset, 8)?;
            all.extend(text(&batch).into_iter().map(|chunk| chunk.2));
            assert!(batch.next_offset > offset, "no progress at {offset}");
            offset = batch.next_offset;
        }
        Ok(all)
    };
    for length in 0..=bytes.len() {
        std::fs::write(&index, &bytes[..length]).unwrap();
        assert!(
            read().is_err() || read().unwrap() == "abcXYdef",
            "truncated to {length}"
        );
    }
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&index, &changed).unwrap();
        assert!(
            read().map_or(true, |all| "abcXYdef".ends_with(&all)),
            "bit {bit} changed: {:?}",
            read()
        );
    }
}

#[test]
fn ignores_an_incomplete_last_record_and_refuses_a_damaged_index() {
    let sample = SampleLog::new([(Stdout, "abc"), (Stdout, "def")]);
    let index = File::options().write(true).open(sample.index()).unwrap();
    index
        .set_len(HEADER_BYTES as u64 + 2 * RECORD_BYTES as u64 - 1)
        .unwrap();
    let all = read(&mut open(&sample), StreamSelection::Both, 0, 6).unwrap();
    assert_eq!(text(&all), [(Stdout, 0, "abcdef".into())]);
    index.set_len(HEADER_BYTES as u64).unwrap();
    assert!(read(&mut open(&sample), StreamSelection::Both, 0, 6).is_err());
    index.set_len(3).unwrap();
    assert!(LogFiles::open(&sample.log()).is_err());
}
