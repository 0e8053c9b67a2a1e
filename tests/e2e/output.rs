//! Output arrives as it was written: every byte, in order, and nothing else.

use std::fs::{self, File};
use std::process::Stdio;

use escher_client::{OutputRange, OutputStream, StreamSelection};
use escher_tests::{
    Ctl, Daemon, Digest, FinishedProgram, LONG_DEADLINE, RunningProgram, child_program, collect,
    connect, in_runtime, next_chunk, peak_memory_bytes, sha256sum, shell,
};

const MIB: u64 = 1024 * 1024;

/// escherctl for commands that take long.
fn long_running(daemon: &Daemon) -> Ctl {
    daemon.ctl().deadline(LONG_DEADLINE)
}

/// Checks that `run` and every other verb that shows output give exactly this.
fn assert_exact(daemon: &Daemon, script: &str, stdout: &[u8], stderr: &[u8]) {
    let ctl = daemon.ctl();
    let assert_same = |ended: FinishedProgram, what: &str| {
        assert!(ended.stdout == stdout, "stdout of {what}: {ended:?}");
        assert!(ended.stderr == stderr, "stderr of {what}: {ended:?}");
    };
    let id = ctl.submit(["sh", "-c", script]);
    let text = id.to_string();
    assert_same(ctl.run(["run", "sh", "-c", script]), "run");
    assert_same(ctl.run(["attach", &text]), "attach");
    assert_same(ctl.run(["result", &text]), "result");
    assert_same(ctl.run(["logs", &text]), "logs");
    assert_same(ctl.run(["logs", "-f", &text]), "logs -f");
    assert!(ctl.run(["logs", "--stdout", &text]).stdout == stdout);
    assert!(ctl.run(["logs", "--stderr", &text]).stderr == stderr);
    let mut sorted = [stdout, stderr].concat();
    let mut log = fs::read(daemon.home().log(id)).unwrap_or_default();
    sorted.sort_unstable();
    log.sort_unstable();
    assert!(log == sorted, "the log has the same bytes and no others");
}

#[test]
fn a_command_without_output_has_no_files() {
    let daemon = Daemon::start();
    assert_exact(&daemon, "true", b"", b"");
    assert_eq!(fs::read_dir(daemon.home().logs()).unwrap().count(), 0);
}

#[test]
fn a_line_without_a_newline_is_passed_on() {
    let daemon = Daemon::start();
    assert_exact(&daemon, "printf hello", b"hello", b"");
    assert_exact(&daemon, "printf hello >&2", b"", b"hello");
}

#[test]
fn all_byte_values_are_passed_on_by_both_streams() {
    let daemon = Daemon::start();
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let file = daemon.home().file("all", &all, 0o644);
    let script = format!("cat {0}; cat {0} >&2", file.display());
    assert_exact(&daemon, &script, &all, &all);
}

#[test]
fn a_million_lines_are_passed_on() {
    let daemon = Daemon::start();
    let mut command = long_running(&daemon).command(["run", "seq", "1000000"]);
    command.stdout(Stdio::piped());
    let ended = RunningProgram::spawn(command, LONG_DEADLINE)
        .wait()
        .expect(0);
    let expected: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    assert!(ended.stdout == expected.as_bytes(), "{ended:?}");
}

#[test]
fn output_just_before_the_exit_is_never_lost() {
    let daemon = Daemon::start();
    for round in 0..100 {
        let script = format!("echo first {round}; echo last {round} >&2; exit 3");
        let ended = daemon.ctl().run(["run", "sh", "-c", &script]).expect(3);
        assert_eq!(ended.out(), format!("first {round}\n"));
        assert_eq!(ended.err(), format!("last {round}\n"));
    }
}

/// Each write waits until the one before is in the log, so the order of arrival is known.
#[test]
fn ten_thousand_writes_to_two_streams_keep_their_order() {
    const COUNT: usize = 10_000;
    let daemon = Daemon::start();
    let logs = daemon.home().logs();
    let mut command = long_running(&daemon).command(["run", "--name", "lockstep", "--"]);
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

    // The library returns chunks, each of the right stream.
    in_runtime(async {
        let client = connect(&daemon).await;
        let mut output = client
            .read_logs("lockstep", OutputRange::default())
            .await
            .unwrap();
        let mut rest = log.as_bytes();
        let mut last_time = 0;
        while let Some(chunk) = output.next().await {
            let chunk = chunk.unwrap().into_chunk().unwrap();
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
            assert!(chunk.time_us >= last_time, "times do not decrease");
            last_time = chunk.time_us;
        }
        assert!(rest.is_empty());
    });
}

#[test]
fn the_index_of_ten_million_one_byte_writes_is_not_larger_than_the_log() {
    const COUNT: u64 = 10_000_000;
    let daemon = Daemon::start();
    let ctl = long_running(&daemon);
    let child_program = child_program();
    let id = ctl.submit([
        child_program.to_str().unwrap(),
        "write-bytes",
        &COUNT.to_string(),
    ]);
    ctl.wait(id, 0);
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

/// Random bytes are hashed at both ends.
#[test]
fn a_gibibyte_of_output_is_exact_and_needs_little_memory() {
    let daemon = Daemon::start();
    let work = daemon.home().work();
    nix::unistd::mkfifo(&work.join("copy"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The shim is the parent of the main process, which reads its status after all output.
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

/// A client that does not read costs no memory, and does not slow down the command.
#[test]
fn a_reader_that_does_not_read_delays_nothing() {
    const BYTES: u64 = 200_000_000;
    let daemon = Daemon::start();
    in_runtime(async {
        let (slow, other) = (connect(&daemon).await, connect(&daemon).await);
        let request = shell(&format!("head -c {BYTES} /dev/zero"));
        let id = slow.execute(request).await.unwrap().id;
        let mut stalled = slow.follow(id, OutputRange::default()).await.unwrap();
        let first = next_chunk(&mut stalled).await;
        // The command ends without further reads, and the connection serves other requests.
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
    ctl.wait(&id, 0);
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
            "the full length is reported"
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
    // `run` passes on everything, whatever the limit of a result.
    assert!(ctl.run(["run", "sh", "-c", script]).expect(0).out() == whole);
}

#[test]
fn single_streams_and_ranges_can_be_read() {
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
                let chunk = chunk.unwrap().into_chunk().unwrap();
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
                    bytes.extend_from_slice(&chunk.unwrap().into_chunk().unwrap().data);
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

/// 32 MB on each stream at once, over one connection.
#[test]
fn both_streams_at_full_speed_are_exact() {
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
    let ended = long_running(&daemon)
        .run(["run", "sh", "-c", &script])
        .expect(0);
    assert_eq!(sha256sum(&ended.stdout), sha256sum(&block.repeat(8)));
    assert_eq!(sha256sum(&ended.stderr), sha256sum(&err.repeat(8)));
}

/// Shims run one command after another.
#[test]
fn the_output_of_a_command_has_nothing_of_earlier_ones() {
    let daemon = Daemon::start();
    for round in 0..50 {
        let ended = daemon
            .ctl()
            .run(["run", "echo", &round.to_string()])
            .expect(0);
        assert_eq!(ended.out(), format!("{round}\n"));
    }
}
