//! Standard inputs that end too early, and that several clients feed one after the other.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use escher_tests::{Ctl, DEADLINE, Daemon, Fifo, RunningProgram};

/// Runs escherctl with this standard input.
fn with_stdin<const N: usize>(ctl: &Ctl, arguments: [&str; N], stdin: File) -> RunningProgram {
    let mut command = ctl.command(arguments);
    command.stdin(stdin);
    RunningProgram::spawn(command, DEADLINE)
}

/// Two inputs that cannot be read: EISDIR and EBADF.
fn unreadable(daemon: &Daemon) -> [(File, &'static str); 2] {
    let work = daemon.home().work();
    let for_writing = File::create(work.join("for-writing")).unwrap();
    [
        (File::open(&work).unwrap(), "Is a directory"),
        (for_writing, "Bad file descriptor"),
    ]
}

/// The error was taken for the end of the input, and the command succeeded on half of it.
#[test]
fn an_input_that_cannot_be_read_cancels_the_command() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    for (number, (stdin, error)) in (1..).zip(unreadable(&daemon)) {
        let ended = with_stdin(&ctl, ["run", "-i", "cat"], stdin)
            .wait()
            .expect(143);
        let notice = format!("escherctl: cannot read standard input: {error}");
        assert!(ended.err().starts_with(&notice), "{ended:?}");
        let reason = "cancelled: its standard input was lost (SIGTERM)";
        assert!(ended.err().contains(reason), "{ended:?}");
        let record = ctl.inspect(number);
        assert_eq!(record["status"], "cancelled");
        assert_eq!(record["cancelled_by"], "stdin-lost");
    }
}

#[test]
fn an_input_that_cannot_be_read_may_count_as_its_end() {
    let daemon = Daemon::start();
    for (stdin, error) in unreadable(&daemon) {
        let arguments = ["run", "-i", "--stdin-lost", "eof", "cat"];
        let ended = with_stdin(&daemon.ctl(), arguments, stdin).wait().expect(0);
        assert!(ended.err().contains(error), "{ended:?}");
    }
}

/// Starts `run -i` of a command that writes the first line to the fifo and reads the rest, and kills escherctl once the
/// line has arrived.
fn kill_the_feeder(daemon: &Daemon, options: &[&str]) {
    let answers = daemon.home().fifo("answers");
    let script = format!("read -r line; echo \"$line\" > {}; cat", answers.name());
    let words = [options, &["sh", "-c", &script]].concat();
    let mut command = daemon.ctl().command(words);
    command.stdin(Stdio::piped());
    let mut run = RunningProgram::spawn(command, DEADLINE);
    let mut stdin = run.stdin();
    stdin.write_all(b"first\n").unwrap();
    assert_eq!(answers.read_line(), "first");
    run.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = run.wait().expect(-9);
}

/// Its input stayed open for ever.
#[test]
fn a_command_whose_feeder_was_killed_is_cancelled_after_the_reconnect_time() {
    let daemon = Daemon::start();
    kill_the_feeder(&daemon, &["--reconnect", "100ms", "run", "-i"]);
    daemon.ctl().wait("1", 143);
    assert_eq!(daemon.ctl().inspect("1")["cancelled_by"], "stdin-lost");
}

#[test]
fn the_input_of_a_killed_feeder_may_end_after_the_reconnect_time() {
    let daemon = Daemon::start();
    let options = ["--reconnect", "100ms", "run", "-i", "--stdin-lost", "eof"];
    kill_the_feeder(&daemon, &options);
    daemon.ctl().wait("1", 0);
}

#[test]
fn another_client_goes_on_with_the_input_of_a_killed_feeder() {
    let daemon = Daemon::start();
    kill_the_feeder(&daemon, &["--reconnect", "1h", "run", "-i"]);
    let attached = daemon
        .ctl()
        .run_with_input("the rest\n", ["attach", "-i", "1"])
        .expect(0);
    assert_eq!(attached.out(), "the rest\n");
}

/// Submits a command with an input that copies it and reports each line to the fifo.
fn submit_copy(daemon: &Daemon) -> Fifo {
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "while read -r line; do echo \"$line\"; echo \"$line\" > {}; done; exit 3",
        answers.name()
    );
    let _ = daemon.ctl().line(["submit", "-i", "sh", "-c", &script]);
    answers
}

#[test]
fn input_is_sent_later_and_bit_by_bit() {
    let daemon = Daemon::start();
    let answers = submit_copy(&daemon);
    let ctl = daemon.ctl();
    for line in ["one", "two"] {
        let _ = ctl
            .run_with_input(format!("{line}\n"), ["send", "1"])
            .expect(0);
        assert_eq!(answers.read_line(), line);
    }
    let sent = ctl.run_with_input("three\n", ["--json", "send", "--end", "1"]);
    let sent = sent.expect(0).json_lines();
    assert_eq!(
        (&sent[0]["target"], &sent[0]["stdin_bytes"]),
        (&"1".into(), &14.into())
    );
    ctl.wait("1", 3);
    assert_eq!(ctl.run(["logs", "1"]).expect(0).out(), "one\ntwo\nthree\n");
    let late = ctl.run_with_input("late", ["send", "1"]).expect(1);
    assert!(late.err().contains("is closed"), "{late:?}");
}

/// The next client came before escherd had noticed that the one before had gone.
#[test]
fn one_client_after_the_other_feeds_a_command() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let _ = ctl.line(["submit", "-i", "cat"]);
    let mut expected = String::new();
    for round in 0..20 {
        let line = format!("line {round}\n");
        let _ = ctl.run_with_input(&line, ["send", "1"]).expect(0);
        expected.push_str(&line);
    }
    let _ = ctl.run_with_input("", ["send", "--end", "1"]).expect(0);
    ctl.wait("1", 0);
    assert_eq!(ctl.run(["logs", "1"]).expect(0).out(), expected);
}

/// Bytes of two clients were mixed, or bytes of one of them were lost.
#[test]
fn only_one_client_at_a_time_feeds_a_command() {
    let daemon = Daemon::start();
    let answers = submit_copy(&daemon);
    let ctl = daemon.ctl();
    let mut command = ctl.command(["send", "--end", "1"]);
    command.stdin(Stdio::piped());
    let mut first = RunningProgram::spawn(command, DEADLINE);
    let mut stdin = first.stdin();
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(answers.read_line(), "one");
    for arguments in [["send", "--end", "1"], ["attach", "-i", "1"]] {
        let refused = ctl.run_with_input("two\n", arguments);
        assert!([1, 125].contains(&refused.code), "{refused:?}");
        assert!(
            refused.err().contains("another client feeds"),
            "{refused:?}"
        );
    }
    stdin.write_all(b"three\n").unwrap();
    drop(stdin);
    let _ = first.wait().expect(0);
    ctl.wait("1", 3);
    assert_eq!(ctl.run(["logs", "1"]).expect(0).out(), "one\nthree\n");
}

#[test]
fn an_input_that_cannot_be_sent_to_its_end_stays_open() {
    let daemon = Daemon::start();
    let _ = submit_copy(&daemon);
    let ctl = daemon.ctl();
    for (stdin, error) in unreadable(&daemon) {
        let failed = with_stdin(&ctl, ["send", "--end", "1"], stdin)
            .wait()
            .expect(1);
        assert!(failed.err().contains(error), "{failed:?}");
    }
    assert_eq!(ctl.inspect("1")["status"], "running");
    let _ = ctl.run_with_input("", ["send", "--end", "1"]).expect(0);
    ctl.wait("1", 3);
}

#[test]
fn a_command_without_an_input_takes_none() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!("read -r line < {}", gate.name());
    let _ = daemon.ctl().submit(["sh", "-c", &script]);
    for (arguments, code) in [(&["send", "1"][..], 1), (&["attach", "-i", "1"], 125)] {
        let refused = daemon.ctl().run_with_input("x", arguments).expect(code);
        assert!(refused.err().contains("is closed"), "{refused:?}");
    }
    gate.write_line("go");
    daemon.ctl().wait("1", 0);
}

/// The hold of the input goes on over the next connection.
#[test]
fn a_feeder_keeps_its_command_over_a_crash_of_escherd() {
    let mut first = Daemon::builder().leave_commands().start();
    let answers = first.home().fifo("answers");
    let script = format!("read -r line; echo \"$line\" > {}; cat", answers.name());
    let mut command = first.ctl().command(["run", "-i", "sh", "-c", &script]);
    command.stdin(Stdio::piped());
    let mut run = RunningProgram::spawn(command, DEADLINE);
    let mut stdin = run.stdin();
    stdin.write_all(b"first\n").unwrap();
    assert_eq!(answers.read_line(), "first");
    first.kill();
    let second = Daemon::builder().home(first.home()).start();
    stdin.write_all(b"rest\n").unwrap();
    drop(stdin);
    let ended = run.wait().expect(0);
    assert_eq!(ended.out(), "rest\n");
    drop((second, first));
}
