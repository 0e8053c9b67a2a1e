//! `run` at a terminal.

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
