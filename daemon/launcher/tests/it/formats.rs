//! docs/formats.md is true: its examples are what the code writes and reads.

use std::collections::HashMap;
use std::fs::{self, File};

use escher_launcher::ipc::exit_record::{self, ExitRecord};
use escher_launcher::ipc::log_index::{Record, decode_header, encode_header};
use escher_launcher::ipc::wire::{EndCause, ExitReport};
use escher_protocol::{ExecutionId, Exit, Leftovers, OutputStream, OutputTotals, Timestamp, Usage};

use crate::Output;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");

const START: Timestamp = Timestamp::from_micros(1_767_323_045_000_678);

fn id() -> ExecutionId {
    "019b7cd2-8f68-7c31-8f35-0d6c7e9b1a42".parse().unwrap()
}

/// The examples: blocks of hex digits, marked ```` ```hex NAME ````. What follows two spaces on a line is
/// for people.
fn examples() -> HashMap<String, Vec<u8>> {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let mut blocks = document.split("```");
    let mut examples = HashMap::new();
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let (title, body) = block.split_once('\n').unwrap();
        if let Some(name) = title.strip_prefix("hex ") {
            let digits = body.lines().flat_map(|line| line.split("  ").next());
            let bytes = digits
                .flat_map(str::split_whitespace)
                .map(|byte| u8::from_str_radix(byte, 16).unwrap());
            examples.insert(name.to_owned(), bytes.collect());
        }
    }
    examples
}

#[test]
fn the_example_of_log_and_index_is_what_the_code_writes() {
    let examples = examples();
    let (log, index) = (&examples["log"], &examples["index"]);
    let record = |offset, stream, time_us| {
        let record = Record {
            offset,
            stream,
            time_us,
        };
        assert_eq!(Record::decode(record.encode()), record);
        record.encode()
    };
    let written = [
        encode_header(START),
        record(0, OutputStream::Stdout, 1_500),
        record(6, OutputStream::Stderr, 1_740),
        record(11, OutputStream::Stdout, 2_000_000),
    ];
    assert_eq!(index, &written.concat());
    assert_eq!(decode_header(written[0]), Some(START));
    let output = Output::parse(log.clone(), index);
    assert_eq!(output.start_us, START.as_micros());
    assert_eq!(output.stdout(), b"hello\nbye\n");
    assert_eq!(output.stderr(), b"oops\n");
    assert_eq!(output.log, b"hello\noops\nbye\n");
}

#[test]
fn the_example_of_an_exit_record_is_what_the_code_writes_and_reads() {
    let report = ExitReport {
        id: id(),
        exit: Exit::Signal {
            signal: libc::SIGKILL,
            core_dumped: false,
        },
        cause: EndCause::TimedOut,
        ended_by_signal: Some(libc::SIGKILL),
        started_at: Some(START),
        ended_at: Timestamp::from_micros(START.as_micros() + 5_010_000),
        duration_us: 5_000_100,
        usage: Usage {
            user_us: 1_200,
            system_us: 250,
            peak_memory_bytes: 3_670_016,
        },
        output: OutputTotals {
            stdout_bytes: 10,
            stderr_bytes: 5,
            log_bytes: 15,
            dropped_bytes: 0,
        },
        leftovers: Leftovers::Killed,
    };
    let folder = tempfile::tempdir().unwrap();
    let record = ExitRecord {
        report,
        measured: None,
    };
    exit_record::write(File::open(folder.path()).unwrap(), &record).unwrap();
    let path = folder.path().join(exit_record::file_name(record.report.id));
    let example = &examples()["exit"];
    let written = fs::read(&path).unwrap();
    assert_eq!(example, &written, "it is {written:02x?}");
    fs::write(&path, example).unwrap();
    assert_eq!(exit_record::read(&path).unwrap(), record);
}
