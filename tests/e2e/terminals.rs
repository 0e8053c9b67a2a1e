//! `run` at a terminal.

use std::io::Write;
use std::process::{Command, Stdio};

use escher_tests::{Ctl, DEADLINE, Daemon, RunningProgram, Terminal};
use nix::sys::signal::{Signal, kill};

use crate::interrupts::with_env;

const SIGNALS: &str = "--default-signal=INT,QUIT,TERM,HUP";

/// Starts escherctl at the terminal, to run a shell script, and waits until that has shown `ready`: then escherctl knows
/// that its command is accepted.
fn start_at<const N: usize>(
    ctl: &Ctl,
    terminal: &mut Terminal,
    arguments: [&str; N],
) -> RunningProgram {
    let mut command = with_env(ctl, &[SIGNALS], arguments);
    command
        .stdin(Stdio::null())
        .stdout(terminal.for_program())
        .stderr(terminal.for_program());
    let run = RunningProgram::spawn_unpiped(command, DEADLINE);
    terminal.wait_for("ready\r\n");
    run
}

fn daemon() -> Daemon {
    Daemon::with_config("[execution]\nmax_kill_grace = \"1h\"\n")
}

#[test]
fn after_each_signal_the_terminal_shows_what_the_next_will_do() {
    let daemon = daemon();
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "trap 'echo int > {0}' INT; trap 'echo quit > {0}' QUIT; trap 'echo term > {0}' TERM; \
         exec 2> /dev/null; echo ready; while :; do sleep 1; done",
        answers.name()
    );
    let mut terminal = Terminal::open();
    let arguments = ["run", "--kill-after", "1h", "sh", "-c", &script];
    let run = start_at(&daemon.ctl(), &mut terminal, arguments);
    for (signal, shown, got) in [
        (
            Signal::SIGQUIT,
            "escherctl: sent SIGQUIT to the command; Ctrl-C interrupts it\r\n",
            "quit",
        ),
        (
            Signal::SIGINT,
            "escherctl: sent SIGINT to the command; Ctrl-C again cancels it\r\n",
            "int",
        ),
        (
            Signal::SIGINT,
            "escherctl: cancelling the command; Ctrl-C again kills it\r\n",
            "term",
        ),
    ] {
        run.signal(signal);
        assert_eq!(terminal.wait_for(shown), "");
        assert_eq!(answers.read_line(), got);
    }
    run.signal(Signal::SIGINT);
    let shown = "escherctl: killing the command; Ctrl-C again leaves it running\r\n";
    assert_eq!(terminal.wait_for(shown), "");
    let _ = run.wait().expect(137);
}

/// An escherd that is stopped, and one that is gone.
#[test]
fn the_next_signal_leaves_once_escherd_has_not_answered_for_two_seconds() {
    let daemon = daemon();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "trap '' INT; echo ready; read -r line < {}; exit 5",
        gate.name()
    );
    let mut terminal = Terminal::open();
    let run = start_at(&daemon.ctl(), &mut terminal, ["run", "sh", "-c", &script]);
    kill(daemon.pid(), Signal::SIGSTOP).unwrap();
    run.signal(Signal::SIGINT);
    terminal.wait_for("sent SIGINT to the command");
    terminal.wait_for("escherctl: escherd does not answer; Ctrl-C leaves the command running\r\n");
    run.signal(Signal::SIGTERM);
    terminal.wait_for("escherctl: the command goes on; its number is 1\r\n");
    let _ = run.wait().expect(-15);
    kill(daemon.pid(), Signal::SIGCONT).unwrap();
    gate.write_line("go");
    daemon.ctl().wait("1", 5);
}

#[test]
fn ctrl_c_leaves_a_run_that_has_waited_two_seconds_for_an_escherd_that_is_gone() {
    let mut first = Daemon::builder().leave_commands().start();
    let gate = first.home().fifo("gate");
    let script = format!("echo ready; read -r line < {}; exit 5", gate.name());
    let mut terminal = Terminal::open();
    let run = start_at(&first.ctl(), &mut terminal, ["run", "sh", "-c", &script]);
    first.kill();
    terminal.wait_for("escherctl: escherd does not answer; Ctrl-C leaves the command running\r\n");
    run.signal(Signal::SIGINT);
    terminal.wait_for("escherctl: the command goes on; its number is 1\r\n");
    let _ = run.wait().expect(-2);
    let second = Daemon::builder().home(first.home()).start();
    gate.write_line("go");
    second.ctl().wait("1", 5);
    drop((second, first));
}

#[test]
fn nothing_is_shown_with_quiet() {
    let daemon = daemon();
    let mut terminal = Terminal::open();
    let script = "echo ready; exec sleep 600";
    let run = start_at(
        &daemon.ctl(),
        &mut terminal,
        ["-q", "run", "sh", "-c", script],
    );
    run.signal(Signal::SIGINT);
    let _ = run.wait().expect(-2);
    // What comes next is the first that is shown.
    let mut end = Command::new("echo");
    end.arg("end").stdout(terminal.for_program());
    assert!(end.status().unwrap().success());
    assert_eq!(terminal.wait_for("end"), "");
}

/// The closed terminal has cancelled the command, although `run` ignored SIGHUP: write(2) gives EIO.
#[test]
fn a_closed_terminal_leaves_the_command() {
    let daemon = daemon();
    let (answers, gate) = (daemon.home().fifo("answers"), daemon.home().fifo("gate"));
    let script = format!(
        "echo ready > {0}; echo more; read -r line < {1}; echo again; read -r line < {1}; exit 5",
        answers.name(),
        gate.name()
    );
    let mut terminal = Terminal::open();
    let arguments = ["run", "sh", "-c", &script];
    let mut command = with_env(&daemon.ctl(), &["--ignore-signal=HUP"], arguments);
    command
        .stdin(Stdio::null())
        .stdout(terminal.for_program())
        .stderr(terminal.for_program());
    let run = RunningProgram::spawn_unpiped(command, DEADLINE);
    assert_eq!(answers.read_line(), "ready");
    // Once it has shown something it knows its terminal.
    terminal.wait_for("more");
    terminal.hang_up();
    gate.write_line("go");
    let _ = run.wait().expect(129);
    assert_eq!(daemon.ctl().inspect("1")["status"], "running");
    gate.write_line("go");
    daemon.ctl().wait("1", 5);
}

/// Runs escherctl at a terminal. Returns what that has shown, with its line ends as in a file.
fn shown_at(daemon: &Daemon, words: &[&str], pager: Option<&str>, code: i32) -> String {
    let terminal = Terminal::open();
    let mut command = daemon.ctl().command(words);
    command
        .stdin(Stdio::null())
        .stdout(terminal.for_program())
        .stderr(terminal.for_program());
    command.env("PAGER", pager.unwrap_or_default());
    let program = RunningProgram::spawn_unpiped(command, DEADLINE);
    let _ = program.wait().expect(code);
    terminal.read_to_end().replace("\r\n", "\n")
}

#[test]
fn the_last_line_of_run_has_its_number_whatever_happened() {
    let daemon = daemon();
    let shown = |words: &[&str], code| shown_at(&daemon, &[&["run"], words].concat(), None, code);
    let completed = shown(&["echo", "hi"], 0);
    assert!(
        completed.starts_with("hi\n[1] completed after "),
        "{completed:?}"
    );
    let failed = shown(&["sh", "-c", "echo no; exit 3"], 3);
    assert!(
        failed.contains("\n[2] exited with status 3 after "),
        "{failed:?}"
    );
    assert!(failed.ends_with("; escherctl logs 2\n"), "{failed:?}");
    let timed_out = shown(&["--timeout", "100ms", "sleep", "600"], 124);
    assert_eq!(timed_out, "[3] timed out after 100ms (SIGTERM)\n");
    let crashed = shown(&["sh", "-c", "kill -SEGV $$"], 139);
    assert!(crashed.starts_with("[4] killed by SIGSEGV"), "{crashed:?}");
    let not_found = shown(&["no-such-program"], 127);
    assert!(not_found.starts_with("[5] "), "{not_found:?}");
    let leaves = "trap '' HUP TERM; sleep 600 & exit 0";
    let left = shown(&["--drain", "100ms", "sh", "-c", leaves], 0);
    assert!(
        left.ends_with("; processes that it left were killed\n"),
        "{left:?}"
    );
    assert_eq!(shown(&["-q", "sh", "-c", "exit 3"], 3), "");
    // In a pipe only what escher has done is said.
    let piped = daemon.ctl().run(["run", "sh", "-c", "exit 3"]).expect(3);
    assert_eq!(piped.err(), "");
}

#[test]
fn run_says_at_a_terminal_how_many_are_before_it() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let _ = ctl.submit(["--shell", &format!("read line < {}", gate.name())]);
    let _ = ctl.submit(["true"]);
    let mut terminal = Terminal::open();
    let mut command = ctl.command(["run", "true"]);
    command
        .stdin(Stdio::null())
        .stdout(terminal.for_program())
        .stderr(terminal.for_program());
    let run = RunningProgram::spawn_unpiped(command, DEADLINE);
    terminal.wait_for("[3] waiting: 1 of 1 running, 1 ahead\r\n");
    let waiting = ctl.inspect("3");
    assert_eq!(waiting["queue"]["ahead"], 1, "{waiting}");
    gate.write_line("go");
    terminal.wait_for("[3] completed after ");
    let _ = run.wait().expect(0);
}

#[test]
fn piped_input_that_nobody_reads_is_warned_of_once_if_there_is_some() {
    let daemon = daemon();
    let warning = "escherctl: the piped input is not for the command: `run -i` passes it on\n";
    for (input, options, is_warned) in [
        ("some\n", &["run"][..], true),
        ("", &["run"], false),
        ("some\n", &["run", "-i"], false),
        ("some\n", &["-q", "run"], false),
    ] {
        let terminal = Terminal::open();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(input.as_bytes()).unwrap();
        drop(writer);
        let mut command = daemon.ctl().command([options, &["cat"]].concat());
        command
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(terminal.for_program());
        let run = RunningProgram::spawn_unpiped(command, DEADLINE);
        let _ = run.wait().expect(0);
        let shown = terminal.read_to_end().replace("\r\n", "\n");
        assert_eq!(
            shown.matches(warning).count(),
            usize::from(is_warned),
            "{shown:?}"
        );
    }
}

#[test]
fn logs_at_a_terminal_are_shown_in_a_pager_that_may_be_quit_early() {
    let daemon = daemon();
    let ctl = daemon.ctl();
    let id = ctl.submit(["--shell", "seq 200000"]).to_string();
    ctl.wait(&id, 0);
    let paged = shown_at(
        &daemon,
        &["logs", "-n", "2", &id],
        Some("sed s/^/paged:/"),
        0,
    );
    assert_eq!(paged, "paged:199999\npaged:200000\n");
    let quit = shown_at(&daemon, &["logs", &id], Some("head -n 1"), 0);
    assert_eq!(quit, "1\n");
    let unpaged = ["logs", "-n", "1", "--no-pager", &id];
    assert_eq!(
        shown_at(&daemon, &unpaged, Some("sed s/^/paged:/"), 0),
        "200000\n"
    );
    let followed = ["logs", "-n", "1", "-f", &id];
    assert_eq!(
        shown_at(&daemon, &followed, Some("sed s/^/paged:/"), 0),
        "200000\n"
    );
    let missing = shown_at(&daemon, &["logs", &id], Some("/no/such/pager"), 1);
    assert!(
        missing.contains("cannot start the pager /no/such/pager"),
        "{missing:?}"
    );
    let piped = ctl.run(["logs", "-n", "1", &id]).expect(0);
    assert_eq!(piped.out(), "200000\n");
}
