//! What a command writes is what arrives: every byte, in order, and nothing else.

use std::fs::{self, File};
use std::process::Stdio;

use escher_client::{OutputRange, OutputStream, StreamSelection};
use escher_tests::{
    Ctl, Daemon, Digest, FinishedProgram, LONG_DEADLINE, RunningProgram, child_program, collect,
    connect, in_runtime, peak_memory_bytes, sha256sum, shell,
};

const MIB: u64 = 1024 * 1024;

fn long(daemon: &Daemon) -> Ctl {
    daemon.ctl().deadline(LONG_DEADLINE)
}

/// `run`, and then everything else that shows output, has to give exactly this.
fn assert_exact(daemon: &Daemon, script: &str, stdout: &[u8], stderr: &[u8]) {
    let ctl = daemon.ctl();
    let same = |ended: FinishedProgram, what: &str| {
        assert!(ended.stdout == stdout, "stdout of {what}: {ended:?}");
        assert!(ended.stderr == stderr, "stderr of {what}: {ended:?}");
    };
    let id = ctl.submit(["sh", "-c", script]);
    let text = id.to_string();
    same(ctl.run(["run", "sh", "-c", script]), "run");
    same(ctl.run(["attach", &text]), "attach");
    same(ctl.run(["result", &text]), "result");
    same(ctl.run(["logs", &text]), "logs");
    same(ctl.run(["logs", "-f", &text]), "logs -f");
    assert!(ctl.run(["logs", "--stdout", &text]).stdout == stdout);
    assert!(ctl.run(["logs", "--stderr", &text]).stderr == stderr);
    let mut sorted = [stdout, stderr].concat();
    let mut log = fs::read(daemon.home().log(id)).unwrap_or_default();
    sorted.sort_unstable();
    log.sort_unstable();
    assert!(log == sorted, "the log has the same bytes, nothing added");
}

#[test]
fn no_output_at_all_and_no_files_for_it() {
    let daemon = Daemon::start();
    assert_exact(&daemon, "true", b"", b"");
    assert_eq!(fs::read_dir(daemon.home().logs()).unwrap().count(), 0);
}

#[test]
fn one_line_without_a_newline() {
    let daemon = Daemon::start();
    assert_exact(&daemon, "printf hello", b"hello", b"");
    assert_exact(&daemon, "printf hello >&2", b"", b"hello");
}

#[test]
fn every_byte_there_is_on_both_streams() {
    let daemon = Daemon::start();
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let file = daemon.home().file("all", &all, 0o644);
    let script = format!("cat {0}; cat {0} >&2", file.display());
    assert_exact(&daemon, &script, &all, &all);
}

#[test]
fn a_million_lines() {
    let daemon = Daemon::start();
    let mut command = long(&daemon).command(["run", "seq", "1000000"]);
    command.stdout(Stdio::piped());
    let ended = RunningProgram::spawn(command, LONG_DEADLINE)
        .wait()
        .expect(0);
    let expected: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    assert!(ended.stdout == expected.as_bytes(), "{ended:?}");
}

/// The last output before the exit, again and again: none of it may be lost.
#[test]
fn what_is_written_just_before_the_exit_arrives() {
    let daemon = Daemon::start();
    for round in 0..100 {
        let script = format!("echo first {round}; echo last {round} >&2; exit 3");
        let ended = daemon.ctl().run(["run", "sh", "-c", &script]).expect(3);
        assert_eq!(ended.out(), format!("first {round}\n"));
        assert_eq!(ended.err(), format!("last {round}\n"));
    }
}

/// Each write waits until the one before was logged, so the order of arrival is known.
#[test]
fn ten_thousand_writes_in_lockstep_keep_their_order() {
    const COUNT: usize = 10_000;
    let daemon = Daemon::start();
    let logs = daemon.home().logs();
    let mut command = long(&daemon).command(["run", "--name", "lockstep", "--"]);
    command
        .arg(child_program())
        .arg("write-in-lockstep")
        .arg(&logs)
        .arg(COUNT.to_string());
    let ended = RunningProgram::spawn(command, LONG_DEADLINE)
        .wait()
        .expect(0);
    let lines = |word: &str| {
        (0..COUNT)
            .map(|n| format!("{word} {n}\n"))
            .collect::<String>()
    };
    assert!(ended.out() == lines("out"), "{ended:?}");
    assert!(ended.err() == lines("err"), "{ended:?}");

    let id = daemon.ctl().inspect("lockstep")["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let log = fs::read_to_string(daemon.home().log(id)).unwrap();
    let expected: String = (0..COUNT).map(|n| format!("out {n}\nerr {n}\n")).collect();
    assert!(log == expected, "the log has the order of arrival");

    // And by the library: piece by piece, each of the right stream.
    in_runtime(async {
        let client = connect(&daemon).await;
        let mut output = client
            .read_logs("lockstep", OutputRange::default())
            .await
            .unwrap();
        let mut rest = log.as_bytes();
        let mut last_time = 0;
        while let Some(chunk) = output.next().await {
            let chunk = chunk.unwrap();
            assert_eq!(&*chunk.data, &rest[..chunk.data.len()]);
            rest = &rest[chunk.data.len()..];
            let word = match chunk.stream {
                OutputStream::Stdout => "out",
                OutputStream::Stderr => "err",
            };
            let text = std::str::from_utf8(&chunk.data).unwrap();
            assert!(
                text.lines().all(|line| line.starts_with(word)),
                "{word}: {text:?}"
            );
            assert!(chunk.time_us >= last_time, "time does not go back");
            last_time = chunk.time_us;
        }
        assert!(rest.is_empty());
    });
}

#[test]
fn ten_million_writes_of_one_byte_do_not_make_the_index_outgrow_the_log() {
    const COUNT: u64 = 10_000_000;
    let daemon = Daemon::start();
    let ctl = long(&daemon);
    let child_program = child_program();
    let id = ctl.submit([
        child_program.to_str().unwrap(),
        "write-bytes",
        &COUNT.to_string(),
    ]);
    let _ = ctl.run(["wait".to_owned(), id.to_string()]).expect(0);
    let log = fs::metadata(daemon.home().log(id)).unwrap().len();
    let index = fs::metadata(daemon.home().index(id)).unwrap().len();
    assert_eq!(log, COUNT);
    assert!(index <= log, "index {index}, log {log}");
    let expected: Vec<u8> = b"0123456789abcde\n"
        .iter()
        .copied()
        .cycle()
        .take(COUNT as usize)
        .collect();
    let ended = ctl.run(["logs".to_owned(), id.to_string()]).expect(0);
    assert!(ended.stdout == expected, "{ended:?}");
}

/// Random bytes through the whole length of it, hashed at both ends, while escherd and the shim stay small.
#[test]
fn a_gibibyte_of_random_bytes_is_exact_and_memory_stays_flat() {
    let daemon = Daemon::start();
    let work = daemon.home().work();
    nix::unistd::mkfifo(&work.join("copy"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The shim is the parent of the main process. It is looked at as its work is nearly done.
    let script = "sha256sum < copy > sum & \
        head -c 1073741824 /dev/urandom | tee copy; wait; cat /proc/$PPID/status > shim";
    let mut command = daemon
        .ctl()
        .command(["run", "--name", "big", "sh", "-c", script]);
    command.stdin(Stdio::null());
    let mut run = RunningProgram::spawn_unread(command, LONG_DEADLINE);
    let received = Digest::of_reader(run.stdout());
    let _ = run.wait().expect(0);
    let received = received.hex();
    let sent = fs::read_to_string(work.join("sum")).unwrap();
    assert_eq!(sent.split(' ').next().unwrap(), received);

    let id = daemon.ctl().inspect("big")["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let log = File::open(daemon.home().log(id)).unwrap();
    assert_eq!(log.metadata().unwrap().len(), 1024 * MIB);
    assert_eq!(
        Digest::of_reader(log).hex(),
        received,
        "the log has the same bytes"
    );

    let daemon_peak = peak_memory_bytes(daemon.pid()).unwrap();
    assert!(
        daemon_peak < 32 * MIB,
        "escherd took {} KiB",
        daemon_peak / 1024
    );
    let status = fs::read_to_string(work.join("shim")).unwrap();
    assert!(status.starts_with("Name:\tescher-shim"), "{status}");
    let field = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let shim_peak: u64 = field.trim_end_matches("kB").trim().parse().unwrap();
    assert!(shim_peak < 4 * 1024, "the shim took {shim_peak} KiB");
}

/// A reader that does not read must cost neither memory nor the command's progress.
#[test]
fn a_reader_that_stands_still_holds_up_nothing() {
    const BYTES: u64 = 200_000_000;
    let daemon = Daemon::start();
    in_runtime(async {
        let (slow, other) = (connect(&daemon).await, connect(&daemon).await);
        let request = shell(&format!("head -c {BYTES} /dev/zero"));
        let id = slow.execute(request).await.unwrap().id;
        let mut stalled = slow.follow(id, OutputRange::default()).await.unwrap();
        let first = stalled.next().await.unwrap().unwrap();
        // Not read on; the command ends all the same, and the same connection serves other requests.
        let record = slow.wait_for_completion(id).await.unwrap();
        assert_eq!(record.outcome.unwrap().output.stdout_bytes, BYTES);
        let (stdout, _, end) = collect(
            other.read_logs(id, OutputRange::default()).await.unwrap(),
            0,
        )
        .await;
        assert_eq!((stdout.len() as u64, end), (BYTES, BYTES));
        let (rest, _, end) = collect(stalled, first.data.len() as u64).await;
        assert_eq!(
            (rest.len() as u64 + first.data.len() as u64, end),
            (BYTES, BYTES)
        );
    });
    let peak = peak_memory_bytes(daemon.pid()).unwrap();
    assert!(peak < 32 * MIB, "escherd took {} KiB", peak / 1024);
}

#[test]
fn a_result_is_cut_at_the_limit_and_the_log_is_not() {
    const LIMIT: usize = 64 * 1024;
    let daemon = Daemon::with_config(&format!("[execution]\nmax_output_size_bytes = {LIMIT}\n"));
    let script = "seq 1 100000; seq 1 100000 >&2";
    let whole: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    let ctl = daemon.ctl();
    let id = ctl.submit(["sh", "-c", script]).to_string();
    let _ = ctl.run(["wait", &id]).expect(0);
    assert!(ctl.run(["logs", &id]).out() == whole);
    in_runtime(async {
        let result = connect(&daemon)
            .await
            .get_result(id.as_str())
            .await
            .unwrap();
        let output = result.record.outcome.unwrap().output;
        assert_eq!(
            output.stdout_bytes,
            whole.len() as u64,
            "the true length is told"
        );
        for (name, text) in [("stdout", result.stdout), ("stderr", result.stderr)] {
            assert!(text.len() < whole.len(), "{name} is cut");
            let marked = String::from_utf8_lossy(&text);
            assert!(
                marked.ends_with("[... output truncated at 64KB ...]"),
                "{name}: {:?}",
                &marked[marked.len() - 80..]
            );
            assert!(
                whole.starts_with(&marked[..LIMIT - 100]),
                "{name} begins as the output does"
            );
        }
    });
    // `run` passes on everything, whatever a result may carry.
    assert!(ctl.run(["run", "sh", "-c", script]).expect(0).out() == whole);
}

#[test]
fn streams_and_ranges_can_be_read_by_themselves() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let script = "for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done";
        let id = client.execute(shell(script)).await.unwrap().id;
        client.wait_for_completion(id).await.unwrap();
        let only = |stream| OutputRange {
            streams: StreamSelection::Only(stream),
            ..OutputRange::default()
        };
        for (stream, word) in [(OutputStream::Stdout, "out"), (OutputStream::Stderr, "err")] {
            let mut output = client.read_logs(id, only(stream)).await.unwrap();
            let mut text = Vec::new();
            while let Some(chunk) = output.next().await {
                let chunk = chunk.unwrap();
                assert_eq!(chunk.stream, stream);
                text.extend_from_slice(&chunk.data);
            }
            let expected: String = (1..=5).map(|n| format!("{word}{n}\n")).collect();
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
        // Any range of the log, at any offset.
        let log = fs::read(daemon.home().log(id)).unwrap();
        for start in 0..=log.len() + 1 {
            for length in [0, 1, 7, 100] {
                let range = OutputRange {
                    length: Some(length as u64),
                    ..OutputRange::from_offset(start as u64)
                };
                let mut output = client.read_logs(id, range).await.unwrap();
                let mut bytes = Vec::new();
                while let Some(chunk) = output.next().await {
                    bytes.extend_from_slice(&chunk.unwrap().data);
                }
                let from = start.min(log.len());
                assert_eq!(
                    bytes,
                    &log[from..(from + length).min(log.len())],
                    "{start}+{length}"
                );
            }
        }
    });
}

/// 32 MB on each stream at once, through one connection.
#[test]
fn both_streams_at_full_speed_stay_apart() {
    let daemon = Daemon::start();
    let block: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let out = daemon.home().file("out", &block, 0o644);
    let err: Vec<u8> = block.iter().rev().copied().collect();
    let err_file = daemon.home().file("err", &err, 0o644);
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8; do cat {}; done & for i in 1 2 3 4 5 6 7 8; do cat {} >&2; done; wait",
        out.display(),
        err_file.display()
    );
    let ended = long(&daemon).run(["run", "sh", "-c", &script]).expect(0);
    assert_eq!(sha256sum(&ended.stdout), sha256sum(&block.repeat(8)));
    assert_eq!(sha256sum(&ended.stderr), sha256sum(&err.repeat(8)));
}

/// The warm pool reuses shims: an earlier command's output must not show in a later one's.
#[test]
fn outputs_of_commands_one_after_another_do_not_mix() {
    let daemon = Daemon::start();
    for round in 0..50 {
        let ended = daemon
            .ctl()
            .run(["run", "echo", &round.to_string()])
            .expect(0);
        assert_eq!(ended.out(), format!("{round}\n"));
    }
}
