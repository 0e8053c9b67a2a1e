//! Logs and their indexes.

use escher_launcher::ipc::log_index::{RECORD_BYTES, TIME_ALLOWANCE_BYTES, TIME_RESOLUTION_US};
use escher_launcher::ipc::wire::{FromShim, LaunchSpec, ToShim};
use escher_protocol::{Exit, OutputTotals};

use crate::launcher::names;
use crate::{Launcher, Output, exec, shell};

#[test]
fn a_command_without_output_leaves_no_file() {
    let launcher = Launcher::start();
    let report = launcher.shim().run(&exec(["true"]));
    assert_eq!(report.output, OutputTotals::default());
    assert!(names(&launcher.log_dir()).is_empty());
}

/// The shell's parts are of both streams in turn. In two pipes their order would be lost.
#[test]
fn merged_output_is_one_stream_in_the_order_of_writing() {
    let launcher = Launcher::start();
    let text =
        "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done; echo end > /dev/stderr";
    let spec = LaunchSpec {
        merges_output: true,
        ..shell(text)
    };
    let report = launcher.shim().run(&spec);
    let lines = (1..=9).map(|i| format!("out {i}\nerr {i}\n"));
    let expected: String = lines.chain(["end\n".to_owned()]).collect();
    let output = Output::of(&launcher, spec.id);
    assert_eq!(output.text(), expected);
    assert!(output.stderr().is_empty());
    let bytes = expected.len() as u64;
    assert_eq!(
        (report.output.stdout_bytes, report.output.stderr_bytes),
        (bytes, 0)
    );
}

#[test]
fn the_log_has_every_byte_and_the_index_its_stream() {
    let launcher = Launcher::start();
    let spec = shell(r"printf 'out\377\000'; printf 'err\376\n' >&2; printf 'no newline'");
    let report = launcher.shim().run(&spec);
    let output = Output::of(&launcher, spec.id);
    assert_eq!(output.stdout(), b"out\xff\0no newline");
    assert_eq!(output.stderr(), b"err\xfe\n");
    assert_eq!(output.log.len(), 20);
    let totals = OutputTotals {
        stdout_bytes: 15,
        stderr_bytes: 5,
        log_bytes: 20,
        dropped_bytes: 0,
        forgotten_bytes: 0,
        reserved_bytes: 0,
    };
    assert_eq!(report.output, totals);
    assert_eq!(
        Some(output.start_us),
        report.started_at.map(|at| at.as_micros())
    );
}

#[test]
fn output_at_different_times_has_records_of_its_own() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        stdin: true,
        ..shell("while read -r line; do echo $line; done")
    };
    shim.start(&spec);
    let mut written = 0;
    let rounds = 20;
    for _ in 0..rounds {
        let before = std::time::Instant::now();
        shim.send(&ToShim::Watch {
            known_bytes: written,
        });
        shim.input("x\n", false);
        while !matches!(shim.receive(), Some(FromShim::LogGrew { .. })) {}
        written += 2;
        // Output within the resolution shares a record.
        while before.elapsed().as_micros() < u128::from(TIME_RESOLUTION_US) {
            std::thread::yield_now();
        }
    }
    shim.input("", true);
    let report = shim.finish();
    let output = Output::of(&launcher, spec.id);
    assert!(output.pieces.len() > rounds / 2, "{:?}", output.pieces);
    assert!(
        output
            .pieces
            .windows(2)
            .all(|two| two[0].time_us < two[1].time_us)
    );
    let last = output.pieces.last().unwrap();
    assert!(last.time_us <= report.duration_us);
}

#[test]
fn ten_thousand_alternating_writes_keep_their_order() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        stdin: true,
        ..shell(r#"while read -r n; do echo "out $n"; read -r n; echo "err $n" >&2; done"#)
    };
    shim.start(&spec);
    let (mut log, mut stdout, mut stderr) = (String::new(), String::new(), String::new());
    for index in 0..5_000 {
        for (name, stream) in [("out", &mut stdout), ("err", &mut stderr)] {
            // Each is written only after the one before it is in the log.
            let seen = log.len() as u64;
            shim.send(&ToShim::Watch { known_bytes: seen });
            shim.input(format!("{index}\n").as_str(), false);
            let line = format!("{name} {index}\n");
            log += &line;
            *stream += &line;
            loop {
                match shim.receive() {
                    Some(FromShim::InputAccepted) => {}
                    Some(FromShim::LogGrew { log_bytes }) => {
                        assert_eq!(log_bytes, log.len() as u64);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    shim.input("", true);
    assert_eq!(shim.finish().exit, Exit::Code(0));
    let output = Output::of(&launcher, spec.id);
    assert!(output.log == log.as_bytes(), "the order of arrival is lost");
    assert!(output.stdout() == stdout.as_bytes());
    assert!(output.stderr() == stderr.as_bytes());
    assert_eq!(output.pieces.len(), 10_000);
}

#[test]
fn the_index_of_ten_million_one_byte_writes_is_no_longer_than_allowed() {
    let launcher = Launcher::start();
    let spec = exec("dd if=/dev/zero bs=1 count=10000000 status=none".split(' '));
    let report = launcher.shim().run(&spec);
    assert_eq!(report.exit, Exit::Code(0));
    assert_eq!(report.output.log_bytes, 10_000_000);
    let output = Output::of(&launcher, spec.id);
    assert_eq!(output.log.len(), 10_000_000);
    assert!(output.log.iter().all(|byte| *byte == 0));
    assert!(output.index_bytes <= output.log.len() as u64 + TIME_ALLOWANCE_BYTES);
    assert_eq!(output.index_bytes % RECORD_BYTES as u64, 0);
}

#[test]
fn much_output_on_both_streams_is_logged_exactly() {
    let launcher = Launcher::start();
    let spec = shell("seq 1 300000 & seq 300001 600000 >&2; wait");
    let report = launcher.shim().run(&spec);
    let output = Output::of(&launcher, spec.id);
    let lines = |range: std::ops::RangeInclusive<u32>| {
        range.fold(String::new(), |text, n| text + &n.to_string() + "\n")
    };
    assert!(output.stdout() == lines(1..=300_000).as_bytes());
    assert!(output.stderr() == lines(300_001..=600_000).as_bytes());
    assert_eq!(report.output.log_bytes, output.log.len() as u64);
}

#[test]
fn growth_is_reported_once_for_each_watch() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        stdin: true,
        ..shell("echo one; read line; echo three")
    };
    shim.start(&spec);
    assert_eq!(shim.log_longer_than(0), 4);
    // The log is longer already.
    assert_eq!(shim.log_longer_than(3), 4);
    shim.send(&ToShim::Watch { known_bytes: 4 });
    shim.input("go\n", true);
    let mut growth = Vec::new();
    loop {
        match shim.receive() {
            Some(FromShim::LogGrew { log_bytes }) => growth.push(log_bytes),
            Some(FromShim::InputAccepted) => {}
            Some(FromShim::Exited(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(growth, [10]);
}

/// Two followers at different offsets were sent one growth only: the later question replaced
/// the earlier one.
#[test]
fn growth_is_reported_for_each_watched_length() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let spec = LaunchSpec {
        stdin: true,
        ..shell("while read -r line; do echo $line; done")
    };
    shim.start(&spec);
    shim.send(&ToShim::Watch { known_bytes: 0 });
    shim.send(&ToShim::Watch { known_bytes: 2 });
    for log_bytes in [2, 4] {
        shim.input("x\n", false);
        loop {
            match shim.receive() {
                Some(FromShim::InputAccepted) => {}
                Some(FromShim::LogGrew {
                    log_bytes: reported,
                }) => break assert_eq!(reported, log_bytes),
                other => panic!("{other:?}"),
            }
        }
    }
    shim.input("", true);
    assert_eq!(shim.finish().exit, Exit::Code(0));
}
