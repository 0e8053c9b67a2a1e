//! Output over the limit of a result, by strategy, size, stream and content.

use std::fs;
use std::process::Command;

use escher_client::protocol::{ExecutionResult, OutputRange};
use escher_client::{Client, ErrorCode, OutputStream, Status};
use escher_tests::{Daemon, connect, exec, in_runtime, run_program, shell};

/// Odd, so that it is in the middle of a character of two bytes.
const LIMIT: usize = 100_001;

/// What a command writes to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Characters of two bytes each, and one of a single byte if the length is odd.
    Text,
    /// Bytes that are no UTF-8.
    Binary,
}

impl Content {
    fn bytes(self, length: usize) -> Vec<u8> {
        match self {
            Content::Text => {
                let mut text = "é".repeat(length / 2);
                text.push_str(&"x"[..length % 2]);
                text.into_bytes()
            }
            Content::Binary => (0..length).map(|n| [0xff, 0xfe, 0, 0x80][n % 4]).collect(),
        }
    }

    /// Length of what is kept before a cut at `limit`.
    fn head_length(self, limit: usize) -> usize {
        match self {
            Content::Text => limit / 2 * 2,
            Content::Binary => limit,
        }
    }
}

const STREAMS: [&[OutputStream]; 3] = [
    &[OutputStream::Stdout],
    &[OutputStream::Stderr],
    &[OutputStream::Stdout, OutputStream::Stderr],
];

/// Runs a command that writes the content of `file` to each of `streams`.
async fn run_writer(client: &Client, file: &str, streams: &[OutputStream]) -> ExecutionResult {
    let script = streams.iter().map(|stream| match stream {
        OutputStream::Stdout => "cat \"$0\"; ",
        OutputStream::Stderr => "cat \"$0\" >&2; ",
    });
    let script: String = script.collect();
    let request = exec(["sh", "-c", &script, file]);
    let id = client.execute(request).await.unwrap().id;
    client.get_result(id).await.unwrap()
}

/// Runs all sizes, streams and contents with `settings`, and passes each result to `check`.
fn for_each_case(
    settings: &str,
    check: impl Fn(usize, Content, &[OutputStream], &[u8], &ExecutionResult),
) {
    let daemon = Daemon::with_config(&format!(
        "[execution]\nmax_output_size_bytes = {LIMIT}\nkill_grace_ms = 100\n{settings}\n"
    ));
    in_runtime(async {
        let client = connect(&daemon).await;
        for size in [LIMIT - 1, LIMIT, LIMIT + 1, 100 * LIMIT] {
            for content in [Content::Text, Content::Binary] {
                let bytes = content.bytes(size);
                let file = daemon
                    .home()
                    .file(format!("{content:?}-{size}"), &bytes, 0o644);
                for streams in STREAMS {
                    let result = run_writer(&client, file.to_str().unwrap(), streams).await;
                    check(size, content, streams, &bytes, &result);
                }
            }
        }
    });
}

/// The text of a stream in a result.
fn text_of(result: &ExecutionResult, stream: OutputStream) -> &[u8] {
    match stream {
        OutputStream::Stdout => &result.stdout,
        OutputStream::Stderr => &result.stderr,
    }
}

/// Whether output of this size fits into a result. Checks what all strategies have in common.
fn check_common(
    size: usize,
    streams: &[OutputStream],
    bytes: &[u8],
    result: &ExecutionResult,
) -> bool {
    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
        if !streams.contains(&stream) {
            assert!(text_of(result, stream).is_empty());
        } else if size <= LIMIT {
            assert!(
                text_of(result, stream) == bytes,
                "{size} bytes of {stream:?}"
            );
        }
    }
    assert_eq!(result.is_cut(), size > LIMIT);
    assert_eq!(result.output_file().is_some(), size > LIMIT);
    if size <= LIMIT {
        assert_eq!(result.status(), Status::Completed);
    }
    size <= LIMIT
}

/// Checks that the file that the result names has everything.
fn check_output_file(streams: &[OutputStream], bytes: &[u8], result: &ExecutionResult) {
    let mut file = fs::read(result.output_file().unwrap()).unwrap();
    let mut expected = bytes.repeat(streams.len());
    if streams.len() > 1 {
        // What of them comes first in the log is not certain.
        file.sort_unstable();
        expected.sort_unstable();
    }
    assert!(file == expected);
}

#[test]
fn truncation_keeps_the_first_part_with_a_mark() {
    for settings in ["", "truncate_large_output = true"] {
        for_each_case(settings, |size, content, streams, bytes, result| {
            if check_common(size, streams, bytes, result) {
                return;
            }
            assert_eq!(
                (result.status(), result.exit_code()),
                (Status::Completed, Some(0))
            );
            let head = &bytes[..content.head_length(LIMIT)];
            let mark = b"\n[... output truncated at 100001B ...]";
            for stream in streams {
                assert!(
                    text_of(result, *stream) == [head, mark].concat(),
                    "{stream:?}"
                );
            }
            let omitted: Vec<u64> = result.omissions.iter().map(|cut| cut.bytes).collect();
            assert_eq!(omitted, vec![(size - head.len()) as u64; streams.len()]);
            check_output_file(streams, bytes, result);
        });
    }
}

#[test]
fn with_stream_to_file_the_result_has_the_first_part() {
    let strategy = "oversized_output_strategy = \"stream_to_file\"";
    // Without truncation the result is the same.
    for settings in [
        strategy.to_owned(),
        format!("{strategy}\ntruncate_large_output = false"),
    ] {
        for_each_case(&settings, |size, content, streams, bytes, result| {
            if check_common(size, streams, bytes, result) {
                return;
            }
            assert_eq!(result.status(), Status::Completed);
            for stream in streams {
                assert!(text_of(result, *stream) == &bytes[..content.head_length(LIMIT)]);
            }
            check_output_file(streams, bytes, result);
        });
    }
}

#[test]
fn with_fail_execution_the_command_is_ended_and_the_result_has_no_output() {
    for settings in [
        "oversized_output_strategy = \"fail_execution\"",
        "truncate_large_output = false",
    ] {
        for_each_case(settings, |size, _, streams, bytes, result| {
            if check_common(size, streams, bytes, result) {
                return;
            }
            assert_eq!((result.status(), result.success()), (Status::Failed, false));
            let error = result.error().unwrap();
            assert_eq!(error.code, ErrorCode::OVERSIZED_OUTPUT, "{error}");
            assert!(result.stdout.is_empty() && result.stderr.is_empty());
            // What it wrote up to its end is in its log.
            let file = fs::metadata(result.output_file().unwrap()).unwrap();
            assert!(file.len() > LIMIT as u64);
        });
    }
}

const FAIL: &str = "[execution]\nmax_output_size_bytes = 1000\nkill_grace_ms = 200\n\
    oversized_output_strategy = \"fail_execution\"\n";

#[test]
fn a_command_that_writes_without_end_is_ended_even_if_it_ignores_sigterm() {
    let daemon = Daemon::with_config(FAIL);
    in_runtime(async {
        let client = connect(&daemon).await;
        for script in ["yes", "yes >&2", "trap '' TERM; while :; do echo x; done"] {
            let id = client.execute(shell(script)).await.unwrap().id;
            let record = client.wait_for_completion(id).await.unwrap();
            assert_eq!(record.status, Status::Failed, "{script}");
            let code = record.outcome.unwrap().error.unwrap().code;
            assert_eq!(code, ErrorCode::OVERSIZED_OUTPUT, "{script}");
        }
        // Two streams at the limit are not one over it.
        let script = "head -c 1000 /dev/zero; head -c 1000 /dev/zero >&2";
        let id = client.execute(shell(script)).await.unwrap().id;
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Completed);
    });
    let ended = daemon.ctl().run(["run", "sh", "-c", "yes"]).expect(125);
    assert!(ended.err().contains("output"), "{ended:?}");
}

#[test]
fn a_command_that_exits_right_after_too_much_output_has_failed_too() {
    let daemon = Daemon::with_config(FAIL);
    in_runtime(async {
        let client = connect(&daemon).await;
        // It exits before its output was read.
        let script = "head -c 1001 /dev/zero";
        for _ in 0..20 {
            let id = client.execute(shell(script)).await.unwrap().id;
            let result = client.get_result(id).await.unwrap();
            assert_eq!(result.status(), Status::Failed);
            assert_eq!(result.error().unwrap().code, ErrorCode::OVERSIZED_OUTPUT);
        }
    });
}

#[test]
fn with_keep_tail_bytes_the_end_of_truncated_output_is_kept() {
    for strategy in ["truncate_with_warning", "stream_to_file"] {
        let daemon = Daemon::with_config(&format!(
            "[execution]\nmax_output_size_bytes = 1000\nkeep_tail_bytes = 300\n\
             oversized_output_strategy = \"{strategy}\"\n"
        ));
        in_runtime(async {
            let client = connect(&daemon).await;
            // Both streams in turns, so that neither is in one piece in the log.
            let script = "for i in $(seq 1 2000); do echo \"out $i\"; echo \"err $i\" >&2; done; \
                          echo 'error: no space' >&2";
            let id = client.execute(shell(script)).await.unwrap().id;
            let result = client.get_result(id).await.unwrap();
            let lines =
                |word: &str| -> String { (1..=2000).map(|n| format!("{word} {n}\n")).collect() };
            let whole = [lines("out"), lines("err") + "error: no space\n"];
            for (text, whole) in [&result.stdout, &result.stderr].into_iter().zip(&whole) {
                let left_out = whole.len() - 1000;
                let mark =
                    format!("\n[... output truncated at 1000B: {left_out} bytes left out ...]\n");
                let expected = [&whole[..700], &mark, &whole[whole.len() - 300..]].concat();
                assert_eq!(String::from_utf8_lossy(text), expected);
            }
            assert!(result.output_file().is_some());
            // One byte less is whole.
            let id = client
                .execute(exec(["head", "-c", "1000", "/dev/zero"]))
                .await
                .unwrap()
                .id;
            assert!(!client.get_result(id).await.unwrap().is_cut());
        });
    }
}

/// JSON has text as text, truncated or not, and the path of the whole output.
#[test]
fn truncated_text_stays_text_in_json() {
    let daemon = Daemon::with_config("[execution]\nmax_output_size_bytes = 1000\n");
    let ctl = daemon.ctl();
    for word in ["é", "€", "😀", "x"] {
        let text = word.repeat(1000);
        let id = ctl.submit(["printf", "%s", &text]).to_string();
        let json = ctl.json(["result", &id]);
        let cut = 1000 / word.len() * word.len();
        match word {
            "x" => assert_eq!(
                (&json["stdout"], &json["output_cut"]),
                (&text.into(), &false.into())
            ),
            _ => {
                let expected = format!("{}\n[... output truncated at 1000B ...]", &text[..cut]);
                assert_eq!(json["stdout"], expected);
                assert_eq!(
                    (&json["output_cut"], &json["output_file"]),
                    (&true.into(), &json["log_path"])
                );
            }
        }
        assert!(json["stdout_base64"].is_null());
    }
}

/// Size of the largest output. `ESCHER_TEST_OUTPUT_BYTES` overrides it.
fn huge_output_bytes() -> u64 {
    let set = std::env::var("ESCHER_TEST_OUTPUT_BYTES").ok();
    set.map_or(300_000_000, |text| text.parse().expect("a number"))
}

#[test]
fn huge_outputs_are_never_held_in_memory() {
    const MIB: u64 = 1024 * 1024;
    let bytes = huge_output_bytes();
    for strategy in ["truncate_with_warning", "stream_to_file", "fail_execution"] {
        let daemon = Daemon::with_config(&format!(
            "[execution]\nmax_output_size_bytes = {MIB}\nkeep_tail_bytes = 1000\n\
             default_timeout_ms = 600000\noversized_output_strategy = \"{strategy}\"\n"
        ));
        let id = daemon
            .ctl()
            .submit(["head", "-c", &bytes.to_string(), "/dev/zero"])
            .to_string();
        let processes = in_runtime(async {
            let client = connect(&daemon).await;
            // A follower gets everything.
            let mut output = client
                .follow(id.as_str(), OutputRange::default())
                .await
                .unwrap();
            let mut seen = 0;
            while let Some(chunk) = output.next().await {
                seen += chunk.unwrap().into_chunk().unwrap().data.len() as u64;
            }
            let result = client.get_result(id.as_str()).await.unwrap();
            let log = fs::metadata(result.output_file().unwrap()).unwrap().len();
            assert_eq!(seen, log, "{strategy}");
            match strategy {
                "fail_execution" => assert_eq!(result.status(), Status::Failed),
                _ => {
                    assert_eq!(log, bytes);
                    assert!(result.stdout.len() < 2 * 1024 * 1024);
                }
            }
            daemon.processes()
        });
        // The client holds none of it either: with this limit it would fail.
        let ctl = daemon.ctl().command(["result", "--json", &id]);
        let mut confined = Command::new("sh");
        let script = format!("ulimit -v {}; exec \"$@\"", 512 * 1024);
        confined
            .args(["-c", &script, "sh"])
            .arg(ctl.get_program())
            .args(ctl.get_args())
            .envs(
                ctl.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        let _ = run_program(confined).expect(0);
        for process in processes {
            let peak = escher_tests::peak_memory_bytes(process.pid).unwrap_or(0);
            assert!(peak < 48 * MIB, "{}: {} KiB", process.command, peak / 1024);
        }
    }
}
