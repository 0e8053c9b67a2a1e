//! A lack of output is never silent: every way of reading says what is missing, and why.

use std::fs::{self, File};
use std::sync::Arc;

use escher_client::{ErrorCode, ExecutionId, GapReason, OutputItem, OutputRange, OutputStart};
use escher_tests::{
    Daemon, FinishedProgram, Home, Ramfs, Tmpfs, connect, exec, in_runtime, next_chunk, parent_of,
    require_root, shell, wait_started, watch,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const DRAINING: &str = "[execution]\nmax_log_bytes = 20000\nlog_full = \"drain\"";
const FORGETTING: &str = "[execution]\nmax_log_bytes = 262144\nlog_full = \"forget_oldest\"";

/// Bytes of a line of [`numbered_lines`].
const LINE: u64 = 16;

/// A script that writes this many lines of [`LINE`] bytes. Each has its number.
fn numbered_lines(count: u64) -> String {
    format!("seq -f %015.0f 0 {}", count - 1)
}

/// The bytes that [`numbered_lines`] writes from `offset` on.
fn numbered_bytes(offset: u64, count: u64) -> Vec<u8> {
    let lines = (offset / LINE..).map(|number| format!("{number:015}\n"));
    let bytes = lines.flat_map(String::into_bytes);
    bytes
        .skip(usize::try_from(offset % LINE).unwrap())
        .take(usize::try_from(count).unwrap())
        .collect()
}

fn number(record: &Value, field: &str) -> u64 {
    let number = record["output"][field].as_u64();
    number.unwrap_or_else(|| panic!("{field}: {record}"))
}

/// Checks that all of escherctl's own words are these, one line each.
#[track_caller]
fn assert_notices(ended: &FinishedProgram, expected: &[&str]) {
    let lines: Vec<&str> = ended.err().lines().collect();
    assert_eq!(lines.len(), expected.len(), "{ended:?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with("escherctl: "), "{line}");
        assert!(line.contains(expected), "{line}");
    }
}

/// Returns an object of a line of `logs`, which says of which execution it is, as results have it.
fn without_id(line: &Value) -> Value {
    let mut object = line.clone();
    let id = object
        .as_object_mut()
        .and_then(|object| object.remove("id"));
    assert!(id.is_some_and(|id| id.is_string()), "{line}");
    object
}

#[test]
fn run_whose_output_is_dropped_exits_with_125_and_says_why() {
    let daemon = Daemon::with_config(DRAINING);
    let ctl = daemon.ctl();
    let script = "head -c 100000 /dev/zero; exit 3";
    let ended = ctl.run(["run", "--shell", script]).expect(125);
    let record = ctl.inspect("1");
    assert_eq!(ended.stdout.len() as u64, number(&record, "log_bytes"));
    assert_notices(&ended, &["are missing here: the log has", "would be 3"]);
    assert_eq!(record["exit_code"], 3);

    let quiet = ctl.run(["-q", "run", "--shell", script]).expect(125);
    assert_eq!(quiet.err(), "");
    let json = ctl.run(["--json", "run", "--shell", script]).expect(125);
    let objects = json.json_lines();
    let is_gap = |object: &&serde_json::Value| object["reason"] == "dropped";
    assert!(objects.iter().any(|object| is_gap(&object)), "{objects:?}");
    let last = objects.last().unwrap();
    assert_eq!(last["output_missing"][0]["reason"], "dropped", "{last}");
    // What is complete has the command's status.
    let _ = ctl.run(["run", "--shell", "echo hello; exit 3"]).expect(3);
}

#[test]
fn every_way_of_reading_says_that_output_was_dropped() {
    let daemon = Daemon::with_config(DRAINING);
    let ctl = daemon.ctl();
    let id = ctl.submit(["sh", "-c", "head -c 100000 /dev/zero; exit 3"]);
    let text = id.to_string();
    ctl.wait(id, 3);
    let record = ctl.inspect(id);
    let (log, dropped) = (
        number(&record, "log_bytes"),
        number(&record, "dropped_bytes"),
    );
    assert_eq!(log + dropped, 100_000);
    for (arguments, status) in [
        (vec!["logs", &text], 0),
        (vec!["logs", "-f", &text], 0),
        (vec!["logs", "--stderr", &text], 0),
        (vec!["logs", "-n", "1", &text], 0),
        (vec!["result", &text], 0),
        (vec!["attach", &text], 3),
    ] {
        let ended = ctl.run(&arguments).expect(status);
        assert_notices(&ended, &["are missing here"]);
        let shown = if arguments.contains(&"--stderr") {
            0
        } else {
            log
        };
        assert_eq!(ended.stdout.len() as u64, shown, "{arguments:?}");
        let quiet = ctl.run([&["-q"], &arguments[..]].concat()).expect(status);
        assert_eq!(quiet.err(), "", "{arguments:?}");
    }
    let missing = json!({ "offset": log, "bytes": dropped, "reason": "dropped" });
    let result = ctl.json(["result", &text]);
    assert_eq!(result["output_cut"], true);
    assert_eq!(result["output_missing"], json!([missing]));
    let of_totals = json!([{ "offset": null, "bytes": dropped, "reason": "dropped" }]);
    assert_eq!(record["output_missing"], of_totals);
    for arguments in [vec!["logs", &text], vec!["logs", "-f", &text]] {
        let lines = ctl.json_lines(arguments);
        assert_eq!(lines.last().map(without_id), Some(missing.clone()));
        assert!(
            lines[..lines.len() - 1]
                .iter()
                .all(|line| line["stream"] == "stdout")
        );
    }
    let whole = ctl.submit(["echo", "whole"]);
    ctl.wait(whole, 0);
    let result = ctl.json(["result".to_owned(), whole.to_string()]);
    assert_eq!(
        (&result["output_cut"], &result["output_missing"]),
        (&json!(false), &json!([]))
    );
}

/// Output of which there is no log at all.
#[test]
fn output_is_missing_too_if_all_of_it_was_dropped() {
    let daemon = Daemon::with_config("[execution]\nmax_log_bytes = 1");
    let ctl = daemon.ctl();
    let ended = ctl.run(["run", "echo", "nowhere"]).expect(125);
    assert_eq!(ended.out(), "");
    assert_notices(
        &ended,
        &["8 bytes of the output are missing here", "would be 0"],
    );
    assert_eq!(fs::read_dir(daemon.home().logs()).unwrap().count(), 0);
    let missing = json!([{ "offset": 0, "bytes": 8, "reason": "dropped" }]);
    assert_eq!(ctl.json(["result", "1"])["output_missing"], missing);
}

#[test]
fn the_log_of_a_running_command_says_that_output_is_being_dropped() {
    let daemon = Daemon::with_config(DRAINING);
    let ctl = daemon.ctl();
    let written = daemon.home().fifo("written");
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "head -c 300000 /dev/zero; echo > {}; read line < {}",
        written.name(),
        gate.name()
    );
    let id = ctl.submit(["sh", "-c", &script]).to_string();
    assert_eq!(written.read_line(), "");
    // The shim has read all but the last pipe of output: several times what the log takes.
    let ended = ctl.run(["logs", &id]).expect(0);
    assert!(ended.stdout.len() > 10_000, "{}", ended.stdout.len());
    assert_notices(&ended, &["escherctl: output is missing here"]);
    let follower = ctl.start(["logs", "-f", &id]);
    gate.write_line("go");
    let followed = follower.wait().expect(0);
    assert_notices(&followed, &["of the output are missing here"]);
    assert_eq!(followed.stdout, ended.stdout);
}

#[test]
fn output_of_a_lost_command_is_missing_where_it_was_being_dropped() {
    let daemon = Daemon::with_config(DRAINING);
    let ctl = daemon.ctl();
    let written = daemon.home().fifo("written");
    let script = format!(
        "head -c 300000 /dev/zero; echo > {}; sleep 600",
        written.name()
    );
    let id = ctl.submit(["sh", "-c", &script]);
    assert_eq!(written.read_line(), "");
    let pid = ctl.inspect(id)["pid"].as_i64().unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    kill(parent_of(pid).unwrap(), Signal::SIGKILL).unwrap();
    ctl.wait(id, 125);
    let text = id.to_string();
    for verb in ["logs", "result"] {
        let ended = ctl.run([verb, &text]).expect(0);
        assert_notices(&ended, &["escherctl: output is missing here"]);
    }
    let result = ctl.json(["result", &text]);
    assert_eq!(result["output_missing"][0]["bytes"], Value::Null);
    assert_eq!(result["output_cut"], true);
}

#[test]
fn output_that_was_dropped_in_the_middle_is_missing_there() {
    if !require_root("a disk that is full for a while") {
        return;
    }
    let home = Arc::new(Home::new());
    let disk = Tmpfs::mount(&home.logs(), "2m");
    let daemon = Daemon::builder()
        .home(&home)
        .config("[execution]\nlog_min_free_bytes = 0")
        .start();
    let ctl = daemon.ctl();
    let (begun, gate) = (home.fifo("begun"), home.fifo("gate"));
    let script = format!(
        "echo first; echo > {0}; read line < {1}; head -c 500000 /dev/zero; echo > {0}; \
         read line < {1}; echo last",
        begun.name(),
        gate.name()
    );
    let id = ctl.submit(["sh", "-c", &script]);
    assert_eq!(begun.read_line(), "");
    watch::until(&home.logs(), || {
        fs::read(home.log(id))
            .is_ok_and(|log| log == b"first\n")
            .then_some(())
    });
    disk.fill();
    gate.write_line("go");
    assert_eq!(begun.read_line(), "");
    // The shim reads what is left in the pipe, and drops it as well: the log has not grown by then.
    in_runtime(async {
        let client = connect(&daemon).await;
        let mut output = client.read_logs(id, OutputRange::default()).await.unwrap();
        let mut last = None;
        while let Some(item) = output.next().await {
            last = Some(item.unwrap());
        }
        match last {
            Some(OutputItem::Gap(gap)) => {
                assert_eq!((gap.bytes, gap.reason), (None, GapReason::Dropped));
            }
            other => panic!("{other:?}"),
        }
    });
    disk.empty();
    gate.write_line("go");
    ctl.wait(id, 0);
    let record = ctl.inspect(id);
    let dropped = number(&record, "dropped_bytes");
    assert!(dropped > 300_000, "{record}");
    let lines = ctl.json_lines(["logs".to_owned(), id.to_string()]);
    let gaps: Vec<(usize, &Value)> = lines
        .iter()
        .enumerate()
        .filter(|line| line.1["reason"] == "dropped")
        .collect();
    let [(place, gap)] = gaps[..] else {
        panic!("{gaps:?}");
    };
    assert_eq!(gap["bytes"], dropped);
    assert_eq!(lines[place + 1]["offset"], gap["offset"]);
    assert!(
        lines.last().unwrap()["text"]
            .as_str()
            .unwrap()
            .ends_with("last\n")
    );
    let result = ctl.json(["result".to_owned(), id.to_string()]);
    assert_eq!(result["output_missing"], json!([without_id(gap)]));
}

/// Runs numbered lines to their end in a log that forgets. Returns its id and how much was forgotten.
fn forgotten_execution(daemon: &Daemon, lines: u64) -> (ExecutionId, u64) {
    let ctl = daemon.ctl();
    let id = ctl.submit(["sh", "-c", &numbered_lines(lines)]);
    ctl.wait(id, 0);
    let record = ctl.inspect(id);
    assert_eq!(number(&record, "log_bytes"), lines * LINE);
    assert_eq!(number(&record, "dropped_bytes"), 0);
    (id, number(&record, "forgotten_bytes"))
}

#[test]
fn every_way_of_reading_says_that_output_was_forgotten() {
    const LINES: u64 = 100_000;
    let daemon = Daemon::with_config(FORGETTING);
    let ctl = daemon.ctl();
    let (id, forgotten) = forgotten_execution(&daemon, LINES);
    let kept = LINES * LINE - forgotten;
    assert!(kept > 65_536 && kept <= 262_144, "{kept}");
    let newest = numbered_bytes(forgotten, kept);
    let text = id.to_string();
    for arguments in [
        vec!["logs", &text],
        vec!["logs", "-f", &text],
        vec!["logs", "-n", "99999999", &text],
        vec!["result", &text],
        vec!["attach", &text],
    ] {
        let ended = ctl.run(&arguments).expect(0);
        assert!(ended.stdout == newest, "{arguments:?}");
        assert_notices(
            &ended,
            &["are missing here: the log has reached max_log_bytes or its user's share"],
        );
    }
    // These lines are all there.
    let ended = ctl.run(["logs", "-n", "3", &text]).expect(0);
    assert_notices(&ended, &[]);
    assert!(ended.stdout == numbered_bytes((LINES - 3) * LINE, 3 * LINE));
    let missing = json!({ "offset": 0, "bytes": forgotten, "reason": "forgotten" });
    for object in [ctl.inspect(id), ctl.json(["result", &text])] {
        assert_eq!(object["output_missing"], json!([missing]));
    }
    assert_eq!(ctl.json(["result", &text])["output_cut"], true);
    let first = without_id(&ctl.json_lines(["logs", &text])[0]);
    assert_eq!(first, missing);
}

#[test]
fn a_reader_that_begins_below_what_was_forgotten_begins_where_the_log_does() {
    const LINES: u64 = 50_000;
    let daemon = Daemon::with_config(FORGETTING);
    let (id, forgotten) = forgotten_execution(&daemon, LINES);
    in_runtime(async {
        let client = connect(&daemon).await;
        for (start, length) in [
            (0, None),
            (5, None),
            (forgotten - 1, Some(10)),
            (3, Some(4)),
        ] {
            let range = OutputRange {
                length,
                ..OutputRange::from_offset(start)
            };
            let mut output = client.follow(id, range).await.unwrap();
            let stop = length.map_or(LINES * LINE, |length| start + length);
            let Some(Ok(OutputItem::Gap(gap))) = output.next().await else {
                panic!("no gap at {start}");
            };
            assert_eq!((gap.offset, gap.reason), (start, GapReason::Forgotten));
            let mut offset = forgotten.min(stop);
            assert_eq!(gap.end(), offset);
            while let Some(item) = output.next().await {
                let chunk = item.unwrap().into_chunk().unwrap();
                assert_eq!(chunk.offset, offset);
                assert!(*chunk.data == *numbered_bytes(offset, chunk.data.len() as u64));
                offset += chunk.data.len() as u64;
            }
            assert_eq!(offset, stop);
        }
        let range = OutputRange {
            start: OutputStart::LastLines(2 * LINES),
            length: Some(100),
            ..OutputRange::default()
        };
        let mut output = client.read_logs(id, range).await.unwrap();
        let Some(Ok(OutputItem::Gap(gap))) = output.next().await else {
            panic!("no gap");
        };
        assert_eq!((gap.offset, gap.end()), (0, forgotten));
        let chunk = next_chunk(&mut output).await;
        assert_eq!((chunk.offset, chunk.data.len()), (forgotten, 100));
        assert!(output.next().await.is_none());
    });
}

/// The log is forgotten beneath its readers, again and again.
#[test]
fn followers_beside_a_command_whose_log_forgets_never_see_a_byte_that_was_not_written() {
    const LINES: u64 = 2_000_000;
    let daemon =
        Daemon::with_config("[execution]\nmax_log_bytes = 65536\nlog_full = \"forget_oldest\"");
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let script = format!("read line < {}; {}", gate.name(), numbered_lines(LINES));
        let id = client.execute(shell(&script)).await.unwrap().id;
        wait_started(&client, id).await;
        let follow = async |start: u64| {
            let range = OutputRange::from_offset(start);
            let mut output = client.follow(id, range).await.unwrap();
            let mut offset = start;
            while let Some(item) = output.next().await {
                match item.unwrap() {
                    OutputItem::Gap(gap) => {
                        assert_eq!((gap.offset, gap.reason), (offset, GapReason::Forgotten));
                        offset = gap.end();
                    }
                    OutputItem::Chunk(chunk) => {
                        assert_eq!(chunk.offset, offset);
                        let length = chunk.data.len() as u64;
                        assert!(*chunk.data == *numbered_bytes(offset, length), "{offset}");
                        offset += length;
                    }
                }
            }
            assert_eq!(offset, LINES * LINE);
        };
        let read = async || {
            for _ in 0..100 {
                let mut output = client.read_logs(id, OutputRange::default()).await.unwrap();
                let mut offset = 0;
                while let Some(item) = output.next().await {
                    match item.unwrap() {
                        OutputItem::Gap(gap) => offset = gap.end(),
                        OutputItem::Chunk(chunk) => {
                            let length = chunk.data.len() as u64;
                            assert_eq!(chunk.offset, offset);
                            assert!(*chunk.data == *numbered_bytes(offset, length), "{offset}");
                            offset += length;
                        }
                    }
                }
            }
        };
        let go = async { gate.write_line("go") };
        tokio::join!(follow(0), follow(100_000), read(), go);
    });
}

#[test]
fn what_was_cut_from_outside_is_missing_and_a_log_that_was_deleted_is_unavailable() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let id = ctl.submit(["sh", "-c", "printf 0123456789; exit 3"]);
    ctl.wait(id, 3);
    let text = id.to_string();
    let log = daemon.home().log(id);
    File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(4)
        .unwrap();
    for (verb, status) in [("logs", 0), ("result", 0), ("attach", 3)] {
        let ended = ctl.run([verb, &text]).expect(status);
        assert_eq!(ended.out(), "0123");
        assert_notices(
            &ended,
            &["6 bytes of the output are missing here: something other than"],
        );
    }
    let missing = json!([{ "offset": 4, "bytes": 6, "reason": "cut" }]);
    let result = ctl.json(["result", &text]);
    assert_eq!(result["output_missing"], missing);
    assert_eq!(result["output_cut"], true);
    fs::remove_file(&log).unwrap();
    for verb in ["logs", "result"] {
        let ended = ctl.run(["--json", verb, &text]).expect(1);
        assert!(ended.err().contains("output-unavailable"), "{ended:?}");
    }
}

#[test]
fn a_log_cannot_forget_where_its_file_system_has_no_holes() {
    if !require_root("a file system without holes") {
        return;
    }
    let home = Arc::new(Home::new());
    let _disk = Ramfs::mount(&home.logs());
    let daemon = Daemon::builder()
        .home(&home)
        .config(&format!("{FORGETTING}\nlog_min_free_bytes = 0"))
        .start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let refused = client.execute(exec(["true"])).await.unwrap_err();
        let error = refused.as_api().unwrap();
        assert_eq!(error.code, ErrorCode::LIMIT_UNENFORCEABLE);
        assert!(error.message.contains("forget_oldest"), "{error}");
    });
}
