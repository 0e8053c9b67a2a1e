//! `logs` of one execution and of several, the output of `run --json`, and `events`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use escher_tests::{Ctl, DEADLINE, Daemon, RunningProgram, run_program};
use serde_json::Value;

/// Runs a script to its end. Returns its number.
fn ran(ctl: &Ctl, name: &str, script: &str, code: i32) -> String {
    let id = ctl.submit(["--name", name, "--merge", "--shell", script]);
    ctl.wait(id, code);
    ctl.inspect(id)["number"].to_string()
}

/// The time, in RFC 3339.
fn now() -> String {
    let mut date = Command::new("date");
    date.args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]);
    run_program(date).expect(0).out().trim_end().to_owned()
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).expect(line)
}

#[test]
fn several_logs_come_one_after_the_other_each_line_behind_its_id() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    ran(&ctl, "web", r"printf 'a\nb'", 0);
    let worker = ran(&ctl, "worker", "echo c; echo d >&2", 0);
    let shown = ctl.run(["logs", "worker", "web"]).expect(0);
    assert_eq!(
        shown.out(),
        "worker | c\nworker | d\nweb    | a\nweb    | b\n"
    );
    let tails = ctl.run(["logs", "--tail", "1", &worker, "web"]).expect(0);
    assert_eq!(tails.out(), "2   | d\nweb | b\n");
    let missing = ctl.run(["logs", "web", "nowhere"]).expect(1);
    assert_eq!(missing.out(), "");
    let objects = ctl.json_lines(["logs", "web", "worker"]);
    let ids = ["web", "worker"].map(|name| ctl.inspect(name)["id"].clone());
    let shown = objects.iter().map(|object| object["id"].clone());
    let mut shown: Vec<Value> = shown.collect();
    // One log may come in several pieces.
    shown.dedup();
    assert_eq!(shown, ids);
}

#[test]
fn several_logs_are_followed_at_once() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gates = ["one", "two"].map(|name| daemon.home().fifo(name));
    for gate in &gates {
        let script = format!("read line < {}; echo $line", gate.name());
        let name = gate.name().rsplit('/').next().unwrap();
        let _ = ctl.submit(["--name", name, "--shell", &script]);
    }
    let mut logs = ctl.command(["logs", "-f", "one", "two"]);
    logs.stdin(Stdio::null());
    let mut logs = RunningProgram::spawn_unread(logs, DEADLINE);
    let mut output = BufReader::new(logs.stdout());
    let mut next = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    };
    // The second says something while the first does not.
    gates[1].write_line("b");
    assert_eq!(next(), "two | b\n");
    gates[0].write_line("a");
    assert_eq!(next(), "one | a\n");
    assert_eq!(next(), "");
    let _ = logs.wait().expect(0);
}

#[test]
fn logs_begin_at_an_offset_or_a_time_and_end_at_one() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let script = format!("echo one; read line < {}; echo two >&2", gate.name());
    let id = ctl.submit(["--shell", &script]).to_string();
    let mut follow = RunningProgram::spawn_unread(ctl.command(["logs", "-f", &id]), DEADLINE);
    let mut line = String::new();
    BufReader::new(follow.stdout())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "one\n");
    let now = now();
    gate.write_line("go");
    ctl.wait(&id, 0);
    let _ = follow.wait().expect(0);
    for (options, out, err) in [
        (&["--from", "4"][..], "", "two\n"),
        (&["--from", "1", "--stdout"], "ne\n", ""),
        (&["--since", &now], "", "two\n"),
        (&["--until", &now], "one\n", ""),
        (&["--until", &now, "--since", &now], "", ""),
        (&["--until", &now, "-n", "1"], "one\n", ""),
        (&["--since", &now, "-n", "9"], "", "two\n"),
    ] {
        let words = [&["logs"], options, &[&id]].concat();
        let shown = ctl.run(&words).expect(0);
        assert_eq!((shown.out(), shown.err()), (out, err), "{words:?}");
    }
    let _ = ctl.run(["logs", "--from", "4", "-n", "1", &id]).expect(2);
}

/// `--since` and `--until` also hold for a command that starts after the request.
#[test]
fn times_hold_for_a_command_that_starts_later() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let _ = ctl.submit(["--shell", &format!("read line < {}", gate.name())]);
    let id = ctl.submit(["echo", "later"]).to_string();
    let options = [
        (&["--since", "1h", "--until", "2200-01-01"][..], "later\n"),
        (&["--until", "1h"], ""),
    ];
    let logs = options.map(|(options, shown)| {
        (
            ctl.start([&["logs", "-f"], options, &[&id]].concat()),
            shown,
        )
    });
    gate.write_line("go");
    for (logs, shown) in logs {
        assert_eq!(logs.wait().expect(0).out(), shown);
    }
}

#[test]
fn last_and_failed_are_the_callers_newest() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let none = ctl.run(["inspect", "@last"]).expect(1);
    assert!(none.err().contains("you have no execution"), "{none:?}");
    let failed = ran(&ctl, "broken", "echo no; exit 3", 3);
    ran(&ctl, "fine", "echo yes", 0);
    assert_eq!(ctl.run(["logs", "@last"]).expect(0).out(), "yes\n");
    assert_eq!(ctl.run(["logs", "@failed"]).expect(0).out(), "no\n");
    let _ = ctl.run(["wait", "@failed"]).expect(3);
    assert_eq!(ctl.inspect("@failed")["number"].to_string(), failed);
    // What has not ended is the newest, too.
    let gate = daemon.home().fifo("gate");
    let _ = ctl.submit([
        "--name",
        "up",
        "--shell",
        &format!("read line < {}", gate.name()),
    ]);
    assert_eq!(ctl.inspect("@last")["name"], "up");
    let _ = ctl.run(["cancel", "@last"]).expect(0);
    ctl.wait("@last", 143);
    // Removed ones are not.
    let _ = ctl.run(["rm", "@last", "@last"]).expect(0);
    assert_eq!(ctl.inspect("@last")["number"].to_string(), failed);
}

/// Nothing of it waits for the end, so it takes no memory however much there is.
#[test]
fn run_with_json_streams_its_output_and_ends_with_the_record() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!("echo one; read line < {}; echo two; exit 3", gate.name());
    let run = daemon.ctl().command(["run", "--json", "sh", "-c", &script]);
    let mut run = RunningProgram::spawn_unread(run, DEADLINE);
    let mut output = BufReader::new(run.stdout());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    let first = parse(&first);
    assert_eq!(
        (&first["stream"], &first["offset"], &first["text"]),
        (&"stdout".into(), &0.into(), &"one\n".into())
    );
    gate.write_line("go");
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let _ = run.wait().expect(3);
    let rest: Vec<Value> = rest.lines().map(parse).collect();
    assert_eq!(rest.len(), 2);
    assert_eq!(rest[0]["text"], "two\n");
    let last = &rest[1];
    assert_eq!(
        (&last["id"], &last["status"], &last["exit_code"]),
        (&first["id"], &"failed".into(), &3.into())
    );
}

#[test]
fn events_begin_at_the_last_or_at_a_time_and_are_filtered() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    ran(&ctl, "fine", "true", 0);
    ran(&ctl, "broken", "exit 3", 3);
    let kinds = |options: &[&str]| {
        let lines = ctl.json_lines([&["events"], options].concat());
        let shown = lines.iter().map(|event| {
            let (number, kind) = (&event["number"], event["kind"].as_str().unwrap());
            format!("{number} {kind}")
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(kinds(&[]).len(), 6);
    assert_eq!(kinds(&["-n", "2"]), ["2 started", "2 finished"]);
    assert_eq!(kinds(&["-n", "0"]), [""; 0]);
    assert_eq!(kinds(&["--filter", "status=failed"]), ["2 finished"]);
    assert_eq!(kinds(&["--filter", "name=fine", "-n", "1"]), ["1 finished"]);
    assert_eq!(kinds(&["--since", "1h"]).len(), 6);
    assert_eq!(kinds(&["--since", &now()]), [""; 0]);
    let _ = ctl.run(["events", "-n", "1", "--since", "1h"]).expect(2);
    let _ = ctl.run(["events", "--filter", "status=running"]).expect(2);
}
