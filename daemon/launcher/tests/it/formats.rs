//! The examples in docs/formats.md are what the code writes and reads.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::log_index::{
    RECORD_BYTES, Record, decode_header, decode_mark, encode_header,
};
use escher_launcher::ipc::wire::{
    Abilities, Assignment, Directories, EndCause, ExitReport, FIRST_ATTEMPT, LaunchSpec,
    LauncherHello, LauncherReply, LogDirAbilities, LogLimits, ProcessDefaults, ToShim, WhenLogFull,
};
use escher_protocol::{
    Controllers, ExecutionId, Exit, Leftovers, Measurements, OutputStream, OutputTotals, Part,
    Parts, ProcessLimits, ResourceLimits, Rlimit, RlimitResource, SentSignals, Timestamp, Usage,
    User, codec,
};
use tempfile::TempDir;

use crate::Output;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");

const START: Timestamp = Timestamp::from_micros(1_767_323_045_000_678);

fn id() -> ExecutionId {
    "019b7cd2-8f68-7c31-8f35-0d6c7e9b1a42".parse().unwrap()
}

/// The examples: blocks of hex digits, marked ```` ```hex NAME ````. What follows two spaces on a
/// line is for people.
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
        let record = Record::output(offset, stream, time_us);
        assert_eq!(Record::decode(record.encode()), record);
        record.encode()
    };
    let records = [
        record(0, OutputStream::Stdout, 1_500),
        record(6, OutputStream::Stderr, 1_740),
        record(11, OutputStream::Stdout, 2_000_000),
        Record::missing(15, 0).encode(),
    ];
    let header = encode_header(START);
    assert_eq!(index, &[&header[..], &records.concat()].concat());
    let (start, mark) = header.split_at(RECORD_BYTES);
    assert_eq!(decode_header(start.try_into().unwrap()), Ok(START));
    assert_eq!(decode_mark(mark.try_into().unwrap()), Some(0));
    let output = Output::parse(log.clone(), index);
    assert_eq!(output.start_us, START.as_micros());
    assert_eq!(output.stdout(), b"hello\nbye\n");
    assert_eq!(output.stderr(), b"oops\n");
    assert_eq!(output.log, b"hello\noops\nbye\n");
}

/// Two SIGINTs from alice.
fn signals() -> SentSignals {
    let alice = User {
        uid: 1000,
        name: Some("alice".into()),
    };
    let mut signals = SentSignals::default();
    signals.add(libc::SIGINT, alice.clone(), START);
    signals.add(libc::SIGINT, alice, START);
    signals
}

/// The report of the examples.
fn report() -> ExitReport {
    let killed = Exit::Signal {
        signal: libc::SIGKILL,
        core_dumped: false,
    };
    let ended_at = Timestamp::from_micros(START.as_micros() + 5_010_000);
    ExitReport {
        cause: EndCause::TimedOut,
        ladder_signal: Some(libc::SIGKILL),
        signals: signals(),
        started_at: Some(START),
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
            forgotten_bytes: 0,
            reserved_bytes: 0,
        },
        leftovers: Leftovers::Killed,
        measured: Some(Measurements {
            user_us: Some(1_300),
            system_us: Some(260),
            oom_kills: Some(0),
            ..Measurements::default()
        }),
        ..ExitReport::new(id(), FIRST_ATTEMPT, killed, ended_at)
    }
}

/// A part of a later version, with this tag.
fn later_part(tag: u32) -> Parts {
    Parts::try_from(vec![Part::new(tag, "new")]).unwrap()
}

/// Writes `report`, and checks that its record is the example.
fn write_and_compare(report: &ExitReport, example: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    exit_record::write(File::open(folder.path()).unwrap(), report).unwrap();
    let name = exit_record::file_name(report.id, report.attempt);
    let path = folder.path().join(name);
    let written = fs::read(&path).unwrap();
    assert_eq!(example, written, "it is {written:02x?}");
    (folder, path)
}

#[test]
fn the_example_of_an_exit_record_is_what_the_code_writes_and_reads() {
    let (_folder, path) = write_and_compare(&report(), &examples()["exit"]);
    assert_eq!(exit_record::read(&path).unwrap(), report());
}

#[test]
fn an_exit_record_of_a_later_version_is_read_unless_a_part_must_be_understood() {
    let example = &examples()["exit"];
    let with_part = |tag_bytes: [u8; 3]| {
        // The list of parts: one, its tag, three bytes.
        let body = &example[12..example.len() - 1];
        let body = [body, &[1], &tag_bytes, &[3], b"new"].concat();
        let sum = crc32fast::hash(&[&example[..8], &body].concat());
        [&example[..8], &sum.to_le_bytes(), &body].concat()
    };
    let optional = ExitReport {
        parts: later_part(4_710),
        ..report()
    };
    let (_folder, path) = write_and_compare(&optional, &with_part([251, 0x66, 0x12]));
    assert_eq!(exit_record::read(&path).unwrap(), optional);

    let required = ExitReport {
        parts: later_part(4_711),
        ..report()
    };
    let (_folder, path) = write_and_compare(&required, &with_part([251, 0x67, 0x12]));
    let error = exit_record::read(&path).unwrap_err();
    assert!(error.is_of_another_version());
    assert!(error.to_string().contains("part 4711"), "{error}");
}

/// Bytes of an assignment with this list of parts.
fn assignment_bytes(parts: &[u8]) -> Vec<u8> {
    let id = id().into_bytes();
    let id = [&[16][..], &id].concat();
    let mut bytes = Vec::new();
    let fields: [&[u8]; 24] = [
        &[0],                     // ToShim::Assign
        &id[1..],                 // id
        &[1],                     // attempt
        &[5, 9],                  // number, uid of the submitter
        &[1, 4],                  // argv: one of four bytes
        b"true",                  //
        &[1, 3],                  // environment: one of three bytes
        b"A=1",                   //
        &[1, b'/', 0, 0],         // working directory; no fallback to /; no identity
        &[18],                    // umask 022
        &[1, 10, 1, 1],           // nice value 5, score -1
        &[1, 6, 64, 253],         // a limit of open files: soft 64
        &[255; 8],                // hard: infinity
        &[0, 0],                  // does not merge output; no stdin
        &[1, 251, 0xe8, 3],       // timeout of 1000 ms
        &[10, 20, 0],             // grace of 10 ms, drain of 20 ms; may leave no process
        &[2, b'm', b'e'],         // submission backup
        &[100, 0, 1],             // log limits: 100 bytes, any free space, kill
        &[90],                    // budget of the log
        &[1, 50],                 // output limit
        &[1, 251, 0, 0x10],       // memory_max of 4096
        &[0, 0, 0, 1, 9, 1, 7],   // no other limit of memory or CPU; io_weight of 9; tasks_max of 7
        &[0, 0, 1, 150, 0, 0, 0], // all of the user: CPU of 150 percent
        parts,
    ];
    for field in fields {
        bytes.extend_from_slice(field);
    }
    bytes
}

#[test]
fn assignments_of_this_and_of_a_later_version_are_frozen() {
    let assignment = |parts| {
        let spec = LaunchSpec {
            id: id(),
            attempt: FIRST_ATTEMPT,
            number: 5,
            submitter_uid: 9,
            argv: vec!["true".into()],
            environment: vec!["A=1".into()],
            working_dir: "/".into(),
            falls_back_to_root_dir: false,
            identity: None,
            umask: 0o022,
            process: ProcessLimits {
                nice: Some(5),
                oom_score_adjust: Some(-1),
                rlimits: vec![Rlimit {
                    resource: RlimitResource::OpenFiles,
                    soft: 64,
                    hard: Rlimit::INFINITY,
                }],
            },
            merges_output: false,
            stdin: false,
            timeout_ms: Some(1_000),
            kill_grace_ms: 10,
            drain_ms: 20,
            may_leave: None,
        };
        Assignment {
            spec,
            submission_backup: "me".into(),
            log_limits: LogLimits {
                max_bytes: 100,
                min_free_bytes: 0,
                when_full: WhenLogFull::Kill,
            },
            log_budget: 90,
            output_limit: Some(50),
            limits: ResourceLimits {
                memory_max: Some(4_096),
                io_weight: Some(9),
                tasks_max: Some(7),
                ..ResourceLimits::default()
            },
            user_limits: ResourceLimits {
                cpu_quota: Some(150),
                ..ResourceLimits::default()
            },
            parts,
        }
    };
    for (parts, bytes) in [
        (Parts::new(), &[0][..]),
        (later_part(4_710), b"\x01\xfb\x66\x12\x03new"),
        (later_part(4_711), b"\x01\xfb\x67\x12\x03new"),
    ] {
        let (assignment, bytes) = (assignment(parts), assignment_bytes(bytes));
        let encoded = ToShim::encode_assign(&assignment).unwrap();
        assert_eq!(encoded, bytes, "it is {encoded:02x?}");
        let message = ToShim::Assign(Box::new(assignment));
        assert_eq!(codec::encode(&message).unwrap(), bytes);
        assert_eq!(codec::decode::<ToShim>(&bytes), Ok(message));
    }
}

/// Its layout is the same in every version, so that escherd can say which version it refuses.
#[test]
fn the_first_message_of_a_launcher_is_frozen() {
    let hello = |version, parts| {
        LauncherReply::Hello(Box::new(LauncherHello {
            version,
            pid: 7,
            uid: 0,
            directories: Ok(Directories {
                log_dir: "/l".into(),
                state_dir: "/s".into(),
                runtime_dir: "/r".into(),
            }),
            abilities: Abilities {
                program: "1.0".into(),
                log_dir: LogDirAbilities {
                    punches_holes: true,
                },
                cgroups: Some(Controllers {
                    memory: true,
                    ..Controllers::default()
                }),
                process: ProcessDefaults {
                    nice: 3,
                    oom_score_adjust: -3,
                    hard_limits: [7; RlimitResource::TABLE.len()],
                },
            },
            parts,
        }))
    };
    for (hello, bytes) in [
        (
            hello(10, Parts::new()),
            &b"\0\x0a\x07\0\0\x02/l\x02/s\x02/r\x031.0\x01\x01\x01\0\0\0\0\
               \x06\x05\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\0"[..],
        ),
        (
            hello(99, later_part(4_711)),
            b"\0\x63\x07\0\0\x02/l\x02/s\x02/r\x031.0\x01\x01\x01\0\0\0\0\
               \x06\x05\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
               \x01\xfb\x67\x12\x03new",
        ),
    ] {
        assert_eq!(codec::encode(&hello).unwrap(), bytes);
        assert_eq!(codec::decode::<LauncherReply>(bytes), Ok(hello));
    }
}
