//! `top` at a terminal and without one.
//!
//! A screen is drawn cell by cell: what has not changed is skipped, and so are blanks on an empty screen. So the tests
//! wait for words.

use std::process::Command;

use escher_tests::{
    Ctl, DEADLINE, Daemon, Fifo, Home, Keeper, RunningProgram, Terminal, parent_of,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::Termios;
use nix::unistd::Pid;

/// What begins and ends the screen of a program (xterm's control sequences).
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

/// `top` at a terminal that is its controlling terminal.
struct Top {
    terminal: Terminal,
    program: RunningProgram,
    before: Termios,
}

impl Top {
    /// Starts it on a screen of this size, and waits until the screen is drawn. `variables`: in its environment.
    fn start(ctl: &Ctl, size: (u16, u16), variables: &[(&str, &str)]) -> Self {
        let terminal = Terminal::open();
        terminal.set_size(size.0, size.1);
        let before = terminal.settings();
        // Without events, nothing would be asked for an hour.
        let top = ctl.command(["top", "--interval", "1h"]);
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "env", "--default-signal=INT,QUIT,TERM,HUP,TSTP"])
            .arg(top.get_program())
            .args(top.get_args());
        for (name, value) in top.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .stdin(terminal.for_program())
            .stdout(terminal.for_program())
            .stderr(terminal.for_program());
        let program = RunningProgram::spawn_unpiped(command, DEADLINE);
        let mut top = Top {
            terminal,
            program,
            before,
        };
        top.terminal.wait_for(ENTERED);
        top
    }

    /// Waits for its end. It has to have restored the terminal.
    fn expect_end(mut self, code: i32) {
        self.terminal.wait_for(LEFT);
        let _ = self.program.wait().expect(code);
        assert_eq!(self.terminal.settings(), self.before);
        // The cursor is shown, and nothing else is left behind.
        assert_eq!(self.terminal.read_to_end(), "\x1b[?25h");
    }
}

/// Runs a shell script that is called `name`, and returns the fifo that ends it.
fn start(ctl: &Ctl, home: &Home, name: &str, script: &str) -> Fifo {
    let gate = home.fifo(&format!("gate-{name}"));
    let script = format!("{script}; read -r code < {}; exit $code", gate.name());
    ctl.line(["submit", "--name", name, "--shell", &script]);
    gate
}

#[test]
fn the_screen_shows_what_runs_and_its_output_until_q_is_pressed() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = start(&ctl, daemon.home(), "steady", "echo made-output");
    let mut top = Top::start(&ctl, (100, 30), &[]);
    top.terminal.wait_for("steady");
    top.terminal.wait_for("running");
    top.terminal.wait_for("made-output");
    top.terminal.press("?");
    top.terminal.wait_for("pause");
    // Leaves the help, and not `top`.
    top.terminal.press("q");
    top.terminal.wait_for("steady");
    top.terminal.press("q");
    top.expect_end(0);
    gate.write_line("0");
}

#[test]
fn events_change_the_screen_at_once() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let first = start(&ctl, daemon.home(), "first", "true");
    let mut top = Top::start(&ctl, (100, 30), &[]);
    top.terminal.wait_for("first");
    let second = start(&ctl, daemon.home(), "second", "true");
    top.terminal.wait_for("second");
    // It is selected, so its end is shown.
    first.write_line("3");
    top.terminal.wait_for("failed");
    second.write_line("0");
    top.program.signal(Signal::SIGINT);
    top.expect_end(-2);
}

#[test]
fn a_cancel_is_confirmed_first() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    start(&ctl, daemon.home(), "job", "true");
    let mut top = Top::start(&ctl, (60, 20), &[]);
    top.terminal.wait_for("running");
    top.terminal.press("c");
    top.terminal.wait_for("y/n:");
    top.terminal.press("n");
    top.terminal.wait_for("cancelled");
    assert_eq!(ctl.inspect("job")["status"], "running");
    top.terminal.press("k");
    top.terminal.wait_for("y/n:");
    top.terminal.press("y");
    ctl.wait("1", 128 + 15);
    top.terminal.wait_for("cancelled");
    top.terminal.press("\x03");
    top.expect_end(0);
}

#[test]
fn what_escherd_refuses_is_shown() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = start(&ctl, daemon.home(), "job", "true");
    let mut top = Top::start(&ctl, (100, 30), &[]);
    top.terminal.wait_for("running");
    // There are no cgroups.
    top.terminal.press("p");
    top.terminal.wait_for("cgroup");
    top.terminal.press("q");
    top.expect_end(0);
    gate.write_line("0");
}

#[test]
fn an_escherd_that_is_killed_is_waited_for() {
    let mut first = Daemon::builder().leave_commands().start();
    let gate = start(&first.ctl(), first.home(), "job", "echo begun");
    let mut top = Top::start(&first.ctl(), (100, 30), &[]);
    top.terminal.wait_for("begun");
    first.kill();
    top.terminal.wait_for("unavailable");
    let second = Daemon::builder().home(first.home()).start();
    let afterwards = start(&second.ctl(), second.home(), "afterwards", "true");
    top.terminal.wait_for("afterwards");
    gate.write_line("7");
    top.terminal.wait_for("failed");
    top.terminal.press("q");
    top.expect_end(0);
    afterwards.write_line("0");
    drop((second, first));
}

/// The terminal was restored, and the message came before that, on a screen that was gone.
#[test]
fn an_escherd_that_does_not_come_back_ends_it_with_a_message_on_the_restored_terminal() {
    let mut daemon = Daemon::start();
    let reconnect = [("ESCHER_RECONNECT", "100ms")];
    let mut top = Top::start(&daemon.ctl(), (100, 30), &reconnect);
    top.terminal.wait_for("pending");
    daemon.kill();
    top.terminal.wait_for(LEFT);
    top.terminal.wait_for("escherctl: ");
    let _ = top.program.wait().expect(1);
    assert_eq!(top.terminal.settings(), top.before);
}

#[test]
fn a_signal_that_ends_it_restores_the_terminal() {
    let daemon = Daemon::start();
    for signal in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP] {
        let mut top = Top::start(&daemon.ctl(), (80, 24), &[]);
        top.terminal.wait_for("pending");
        top.program.signal(signal);
        top.expect_end(-(signal as i32));
    }
}

/// A terminal that is gone gives an error however often it is read, which a library for keys did for ever.
#[test]
fn it_ends_with_its_terminal() {
    let daemon = Daemon::start();
    let mut top = Top::start(&daemon.ctl(), (80, 24), &[]);
    top.terminal.wait_for("pending");
    top.terminal.hang_up();
    let ended = top.program.wait();
    // Whether SIGHUP comes first, or the error of read(2).
    assert!(matches!(ended.code, -1 | 129), "{ended:?}");
}

#[test]
fn it_is_suspended_and_continued_as_a_job() {
    let daemon = Daemon::start();
    let mut top = Top::start(&daemon.ctl(), (80, 24), &[]);
    top.terminal.wait_for("pending");
    top.terminal.press("\x1a");
    top.terminal.wait_for(LEFT);
    top.program.wait_until_stopped();
    assert_eq!(top.terminal.settings(), top.before);
    top.program.signal(Signal::SIGCONT);
    top.terminal.wait_for(ENTERED);
    top.terminal.wait_for("pending");
    top.terminal.press("q");
    top.expect_end(0);
}

#[test]
fn a_screen_that_is_resized_is_drawn_again_with_the_columns_that_fit() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = start(&ctl, daemon.home(), "job", "true");
    let mut top = Top::start(&ctl, (100, 30), &[]);
    top.terminal.wait_for("running");
    // Draws everything again.
    top.terminal.press("\x0c");
    let drawn = top.terminal.wait_for("COMMAND");
    assert!(drawn.contains("NAME") && drawn.contains("TASKS"), "{drawn}");
    top.terminal.set_size(60, 20);
    let drawn = top.terminal.wait_for("COMMAND");
    assert!(
        drawn.contains("NUMBER") && !drawn.contains("NAME"),
        "{drawn}"
    );
    top.terminal.press("q");
    top.expect_end(0);
    gate.write_line("0");
}

#[test]
fn colours_can_be_turned_off() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = start(&ctl, daemon.home(), "job", "true");
    for (variables, is_coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut top = Top::start(&ctl, (100, 30), variables);
        top.terminal.wait_for("job");
        let drawn = top.terminal.wait_for("running");
        assert_eq!(drawn.contains("\x1b[38;5;"), is_coloured, "{drawn:?}");
        top.terminal.press("q");
        top.expect_end(0);
    }
    gate.write_line("0");
}

#[test]
fn without_a_terminal_one_table_or_one_object_for_each_execution_is_printed() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let ctl = daemon.ctl();
    let gate = start(&ctl, daemon.home(), "job", "true");
    let waiting = ctl.submit(["true"]);
    for arguments in [&["top"][..], &["top", "--once"]] {
        let printed = ctl.run(arguments).expect(0);
        let lines: Vec<&str> = printed.out().lines().collect();
        assert_eq!(lines.len(), 3, "{printed:?}");
        for (line, words) in lines.iter().zip([
            ["NUMBER", "NAME", "STATUS"],
            ["2", "-", "pending"],
            ["1", "job", "running"],
        ]) {
            let found: Vec<&str> = line.split_whitespace().take(3).collect();
            assert_eq!(found, words, "{printed:?}");
        }
    }
    let objects = ctl.json_lines(["top"]);
    let shown: Vec<_> = objects
        .iter()
        .map(|object| (object["number"].clone(), object["status"].clone()))
        .collect();
    assert_eq!(
        shown,
        [(2.into(), "pending".into()), (1.into(), "running".into())]
    );
    let _ = ctl.run(["top", "--interval", "99ms"]).expect(2);
    gate.write_line("0");
    ctl.wait(waiting, 0);
}

/// One that hangs kept the figures of all others away.
#[test]
fn a_command_whose_shim_does_not_answer_is_shown_without_figures() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gates = ["silent", "other"].map(|name| start(&ctl, daemon.home(), name, "true"));
    let pid = ctl.inspect("silent")["pid"].as_i64().unwrap();
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let shim = parent_of(pid).expect("its shim");
    kill(shim, Signal::SIGSTOP).unwrap();
    let objects = ctl.json_lines(["top"]);
    kill(shim, Signal::SIGCONT).unwrap();
    for object in objects {
        let is_measured = object["usage_now"].is_object();
        assert_eq!(is_measured, object["name"] == "other", "{object}");
    }
    for gate in gates {
        gate.write_line("0");
    }
}

/// How many shims escherd asks at once.
const ASKED_AT_ONCE: u64 = 64;

#[test]
fn more_commands_than_are_asked_at_once_are_all_measured() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    for _ in 0..=ASKED_AT_ONCE {
        ctl.submit(["sleep", "600"]);
    }
    let objects = ctl.json_lines(["top"]);
    let measured = objects
        .iter()
        .filter(|object| object["usage_now"].is_object());
    let numbers: Vec<u64> = measured
        .map(|object| object["number"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (1..=ASKED_AT_ONCE + 1).rev().collect();
    assert_eq!(numbers, expected);
}

#[test]
fn what_is_used_is_shown_and_a_key_pauses_and_resumes() {
    let Some(keeper) = Keeper::start_or_skip("what top shows of a cgroup") else {
        return;
    };
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    let gate = start(&ctl, daemon.home(), "job", "true");
    let objects = ctl.json_lines(["top"]);
    assert!(
        objects[0]["usage_now"]["cpu_user_ms"].is_u64(),
        "{objects:?}"
    );
    let table = ctl.run(["top"]).expect(0);
    let row = table.out().lines().nth(1).unwrap();
    let cpu = row.split_whitespace().nth(3).unwrap();
    assert!(cpu.parse::<f64>().is_ok(), "{table:?}");
    let mut top = Top::start(&ctl, (100, 30), &[]);
    top.terminal.wait_for("running");
    for (message, is_paused, state) in [("paused", true, "paused"), ("resumed", false, "running")] {
        top.terminal.press("p");
        top.terminal.wait_for(message);
        assert_eq!(ctl.inspect("job")["paused"], is_paused);
        // The table says so as well, now or once it is drawn again. The next key depends on that.
        top.terminal.press("\x0c");
        top.terminal.wait_for(state);
    }
    top.terminal.press("q");
    top.expect_end(0);
    gate.write_line("0");
    ctl.wait("job", 0);
}
