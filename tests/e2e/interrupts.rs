//! Signals to escherctl.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use escher_client::protocol::{
    Request, Response, ServerFrame, SignalAnswer, SignalRecipients, SignalSerial,
};
use escher_tests::{
    Ctl, DEADLINE, Daemon, Fifo, FinishedProgram, RawPeer, RunningProgram, child_program,
    is_unlocked,
};
use nix::sys::signal::{Signal, killpg};
use serde_json::Value;

/// Starts escherctl with signals that end it, even if the tests run under nohup(1) or in the background of a script:
/// ignored signals are inherited, and escherctl leaves them ignored.
fn start<const N: usize>(ctl: &Ctl, arguments: [&str; N]) -> RunningProgram {
    let mut command = with_env(ctl, &["--default-signal=INT,QUIT,TERM,HUP"], arguments);
    command.stdin(Stdio::null());
    RunningProgram::spawn(command, DEADLINE)
}

/// The command that runs escherctl by env(1) with these options.
pub(crate) fn with_env<const N: usize>(
    ctl: &Ctl,
    options: &[&str],
    arguments: [&str; N],
) -> Command {
    let escherctl = ctl.command(arguments);
    let mut command = Command::new("env");
    command
        .args(options)
        .arg(escherctl.get_program())
        .args(escherctl.get_args());
    for (name, value) in escherctl.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(escherctl.get_current_dir().expect("the home's"));
    command
}

/// Starts `run` of a shell script, and waits until it writes `ready` to the fifo.
fn run_until_ready(ctl: &Ctl, ready: &Fifo, script: &str) -> RunningProgram {
    let run = start(ctl, ["run", "--name", "it", "sh", "-c", script]);
    assert_eq!(ready.read_line(), "ready");
    run
}

/// Sends a signal to `run` of a program that catches none. Returns how `run` ended, and the record of the command.
fn run_with_signal(signal: Signal) -> (FinishedProgram, Value) {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo ready > {}; exec sleep 600", ready.name());
    let run = run_until_ready(&daemon.ctl(), &ready, &script);
    run.signal(signal);
    let ended = run.wait();
    (ended, daemon.ctl().inspect("it"))
}

/// The signals in a record: each with its number, and how often it was sent.
fn sent_signals(record: &Value) -> Vec<(i64, u64)> {
    let signals = record["signals"].as_array().unwrap().iter();
    signals
        .map(|sent| {
            assert_eq!(sent["by"], record["submitted_by"]);
            let number = sent["signal"].as_i64().unwrap();
            (number, sent["times"].as_u64().unwrap())
        })
        .collect()
}

/// The arguments of a `run` of a script, with a grace period that no test reaches.
fn with_long_grace(script: &str) -> [&str; 8] {
    [
        "run",
        "--kill-after",
        "1h",
        "--name",
        "it",
        "sh",
        "-c",
        script,
    ]
}

#[test]
fn the_first_ctrl_c_reaches_the_command_and_run_dies_of_it_as_the_command() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let number = signal as i32;
        let (ended, record) = run_with_signal(signal);
        let ended = ended.expect(-number);
        assert_eq!(ended.err(), "");
        assert_eq!(record["status"], "failed", "{record}");
        assert_eq!(record["signal"], number);
        assert_eq!(sent_signals(&record), [(number.into(), 1)]);
    }
}

#[test]
fn sigterm_cancels_and_run_dies_of_it() {
    let (ended, record) = run_with_signal(Signal::SIGTERM);
    let ended = ended.expect(-15);
    assert!(ended.err().contains("cancelled"), "{ended:?}");
    assert_eq!(record["status"], "cancelled", "{record}");
}

/// The shell's loop went on with the next round.
#[test]
fn ctrl_c_ends_a_loop_of_a_shell() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let ctl = daemon.ctl();
    let command = format!("echo ready > {}; exec sleep 600", ready.name());
    let script = "for round in 1 2; do \"$@\"; done; echo went on";
    let mut shell = with_env(
        &ctl,
        &["--default-signal=INT", "sh", "-c", script, "sh"],
        ["run", "sh", "-c", &command],
    );
    shell.stdin(Stdio::null()).process_group(0);
    let shell = RunningProgram::spawn(shell, DEADLINE);
    assert_eq!(ready.read_line(), "ready");
    // As a terminal does: to shell and escherctl.
    killpg(shell.pid(), Signal::SIGINT).unwrap();
    let ended = shell.wait().expect(-2);
    assert_eq!(ended.out(), "");
}

#[test]
fn the_status_of_a_program_that_catches_ctrl_c_is_its_own() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!(
        "trap 'echo caught; exit 7' INT; sh -c 'echo ready > {}; exec sleep 600'",
        ready.name()
    );
    let run = run_until_ready(&daemon.ctl(), &ready, &script);
    run.signal(Signal::SIGINT);
    let ended = run.wait().expect(7);
    assert_eq!((ended.out(), ended.err()), ("caught\n", ""));
    assert_eq!(daemon.ctl().inspect("it")["status"], "failed");
}

/// The grace period is an hour, so only the third Ctrl-C can end this.
#[test]
fn the_second_ctrl_c_cancels_and_the_third_kills() {
    let daemon = Daemon::with_config("[execution]\nmax_kill_grace = \"1h\"\n");
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "trap 'echo int > {0}' INT; trap 'echo term > {0}' TERM; echo ready > {0}; \
         while :; do sleep 1; done",
        answers.name()
    );
    let ctl = daemon.ctl();
    let run = start(&ctl, with_long_grace(&script));
    assert_eq!(answers.read_line(), "ready");
    run.signal(Signal::SIGINT);
    assert_eq!(answers.read_line(), "int");
    assert_eq!(ctl.inspect("it")["cancelled_by"], Value::Null);
    run.signal(Signal::SIGINT);
    assert_eq!(answers.read_line(), "term");
    run.signal(Signal::SIGINT);
    let _ = run.wait().expect(137);
    let record = ctl.inspect("it");
    assert_eq!(record["status"], "cancelled");
    assert_eq!(sent_signals(&record), [(2, 1)]);
}

/// timeout(1) signals the program, and then its whole process group: `run` killed the command at once.
#[test]
fn a_second_sigterm_leaves_the_command_its_grace_period() {
    let daemon = Daemon::with_config("[execution]\nmax_kill_grace = \"1h\"\n");
    let (answers, gate) = (daemon.home().fifo("answers"), daemon.home().fifo("gate"));
    let script = format!(
        "trap 'echo term > {0}' TERM; trap 'echo int > {0}' INT; echo ready > {0}; \
         while ! read -r line < {1}; do :; done; exit 5",
        answers.name(),
        gate.name()
    );
    let ctl = daemon.ctl();
    let run = start(&ctl, with_long_grace(&script));
    assert_eq!(answers.read_line(), "ready");
    run.signal(Signal::SIGTERM);
    assert_eq!(answers.read_line(), "term");
    run.signal(Signal::SIGTERM);
    // Shows that the command lives on.
    run.signal(Signal::SIGINT);
    assert_eq!(answers.read_line(), "int");
    gate.write_line("go");
    let _ = run.wait().expect(143);
    let record = ctl.inspect("it");
    assert_eq!(
        (&record["status"], &record["exit_code"]),
        (&"cancelled".into(), &5.into())
    );
    assert_eq!(record["ended_by_signal"], 15);
}

#[test]
fn sighup_leaves_the_command() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!("echo here; read -r line < {}; exit 5", gate.name());
    let arguments = ["run", "sh", "-c", &script];
    let command = with_env(&daemon.ctl(), &["--default-signal=HUP"], arguments);
    let mut run = RunningProgram::spawn_unread(command, DEADLINE);
    // Once it passes on output, it knows that its command is accepted.
    run.stdout().read_exact(&mut [0; 5]).unwrap();
    run.signal(Signal::SIGHUP);
    let ended = run.wait().expect(-1);
    assert_eq!(
        ended.err(),
        "escherctl: the command goes on; its number is 1\n"
    );
    assert_eq!(daemon.ctl().inspect("1")["status"], "running");
    gate.write_line("go");
    daemon.ctl().wait("1", 5);
}

#[test]
fn sigusr1_and_sigusr2_reach_the_main_process() {
    let daemon = Daemon::start();
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "trap 'echo one > {0}' USR1; trap 'echo two > {0}; exit 4' USR2; echo ready > {0}; \
         while :; do sleep 0.1; done",
        answers.name()
    );
    let run = run_until_ready(&daemon.ctl(), &answers, &script);
    run.signal(Signal::SIGUSR1);
    assert_eq!(answers.read_line(), "one");
    run.signal(Signal::SIGUSR2);
    assert_eq!(answers.read_line(), "two");
    let _ = run.wait().expect(4);
    let record = daemon.ctl().inspect("it");
    assert_eq!(sent_signals(&record), [(10, 1), (12, 1)]);
}

/// `run &` in a script, and `nohup`: SIGINT and SIGTERM were taken all the same.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let daemon = Daemon::start();
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "trap 'echo usr > {0}; exit 4' USR1; echo ready > {0}; while :; do sleep 0.1; done",
        answers.name()
    );
    let options = ["--ignore-signal=INT,QUIT,TERM,HUP"];
    let arguments = ["run", "--name", "it", "sh", "-c", &script];
    let command = with_env(&daemon.ctl(), &options, arguments);
    let run = RunningProgram::spawn(command, DEADLINE);
    assert_eq!(answers.read_line(), "ready");
    for signal in [
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGHUP,
    ] {
        run.signal(signal);
    }
    run.signal(Signal::SIGUSR1);
    assert_eq!(answers.read_line(), "usr");
    let _ = run.wait().expect(4);
    let record = daemon.ctl().inspect("it");
    assert_eq!(sent_signals(&record), [(10, 1)]);
    assert_eq!(record["cancelled_by"], Value::Null);
}

#[test]
fn ctrl_z_stops_escherctl_alone() {
    let daemon = Daemon::start();
    let (answers, gate) = (daemon.home().fifo("answers"), daemon.home().fifo("gate"));
    let script = format!(
        "echo ready > {0}; read -r line < {1}; echo on > {0}; read -r line < {1}; echo done",
        answers.name(),
        gate.name()
    );
    let arguments = ["run", "sh", "-c", &script];
    let mut command = with_env(&daemon.ctl(), &["--default-signal=TSTP"], arguments);
    // SIGTSTP stops no process group without a parent in another one.
    command.process_group(0);
    let run = RunningProgram::spawn(command, DEADLINE);
    assert_eq!(answers.read_line(), "ready");
    run.signal(Signal::SIGTSTP);
    run.wait_until_stopped();
    gate.write_line("go");
    assert_eq!(answers.read_line(), "on");
    run.signal(Signal::SIGCONT);
    gate.write_line("go");
    let ended = run.wait().expect(0);
    assert_eq!(ended.out(), "done\n");
}

/// A client sends a signal again over the next connection if the answer was lost with the first.
#[test]
fn a_signal_that_is_sent_again_acts_once_also_after_a_crash_of_escherd() {
    let mut first = Daemon::builder().leave_commands().start();
    let answers = first.home().fifo("answers");
    let script = format!(
        "trap 'echo caught > {0}' USR1; trap 'echo last > {0}; exit' USR2; echo ready > {0}; \
         while :; do sleep 0.1; done",
        answers.name()
    );
    let id = first.ctl().submit(["sh", "-c", &script]);
    assert_eq!(answers.read_line(), "ready");
    let serial = SignalSerial::unique();
    let send = |daemon: &Daemon, signal: Signal, serial| {
        let mut peer = RawPeer::connect_and_greet(daemon);
        peer.send(&RawPeer::request_frame(
            1,
            Request::Signal {
                target: id.into(),
                signal: signal as i32,
                recipients: SignalRecipients::MainProcess,
                serial,
            },
        ));
        match peer.receive_frame() {
            Some(ServerFrame::Reply { result, .. }) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let sent = Response::Signal(SignalAnswer::Sent);
    assert_eq!(send(&first, Signal::SIGUSR1, serial), sent);
    assert_eq!(answers.read_line(), "caught");
    assert_eq!(send(&first, Signal::SIGUSR1, serial), sent);
    first.kill();
    let second = Daemon::builder().home(first.home()).start();
    assert_eq!(send(&second, Signal::SIGUSR1, serial), sent);
    assert_eq!(send(&second, Signal::SIGUSR2, SignalSerial::unique()), sent);
    assert_eq!(answers.read_line(), "last");
    second.ctl().wait(id, 0);
    assert_eq!(sent_signals(&second.ctl().inspect(id)), [(10, 1), (12, 1)]);
    drop((second, first));
}

#[test]
fn output_after_a_cancel_still_arrives() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!(
        "trap 'echo last words; echo and more >&2; exit 0' TERM; echo ready > {}; \
         sleep 600 & wait",
        ready.name()
    );
    let run = run_until_ready(&daemon.ctl(), &ready, &script);
    run.signal(Signal::SIGTERM);
    let ended = run.wait().expect(143);
    assert_eq!(ended.out(), "last words\n");
    assert!(ended.err().starts_with("and more\n"), "{ended:?}");
}

#[test]
fn a_cancelled_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let mut command = with_env(
        &daemon.ctl(),
        &["--default-signal=TERM"],
        ["run", "--kill-after", "300ms", "--"],
    );
    command
        .arg(child_program())
        .arg("ignore-sigterm")
        .arg(&lock);
    let mut run = RunningProgram::spawn_unread(command, DEADLINE);
    let mut said = [0; 6];
    run.stdout().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"ready\n");
    run.signal(Signal::SIGTERM);
    let _ = run.wait().expect(137);
    assert!(is_unlocked(&lock));
}

#[test]
fn ctrl_c_withdraws_a_pending_command() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let ready = daemon.home().fifo("ready");
    let script = format!("echo ready > {}; exec sleep 600", ready.name());
    let running = run_until_ready(&daemon.ctl(), &ready, &script);
    let waiting = start(
        &daemon.ctl(),
        ["run", "--name", "waiting", "touch", "never"],
    );
    escher_tests::in_runtime(async {
        let client = escher_tests::connect(&daemon).await;
        // Once it is submitted, escherctl handles signals.
        let all = escher_client::EventsRequest {
            follow: true,
            ..escher_client::EventsRequest::default()
        };
        let mut events = client.events(all).await.unwrap();
        loop {
            let event = events.next().await.unwrap().unwrap();
            if event.name.as_deref() == Some("waiting") {
                break;
            }
        }
    });
    waiting.signal(Signal::SIGINT);
    let _ = waiting.wait().expect(-2);
    assert!(!daemon.home().work().join("never").exists());
    running.signal(Signal::SIGTERM);
    let _ = running.wait().expect(-15);
}

#[test]
fn ctrl_c_detaches_attach_from_the_command() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo here; echo ready > {}; exec sleep 600", ready.name());
    let id = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    assert_eq!(ready.read_line(), "ready");
    let command = with_env(&daemon.ctl(), &["--default-signal=INT"], ["attach", &id]);
    let mut attach = RunningProgram::spawn_unread(command, DEADLINE);
    // Once it passes on output, it handles signals.
    attach.stdout().read_exact(&mut [0; 5]).unwrap();
    attach.signal(Signal::SIGINT);
    let ended = attach.wait().expect(-2);
    assert!(!ended.stderr.is_empty(), "with a message: {ended:?}");
    assert_eq!(daemon.ctl().inspect(&id)["status"], "running");
    let _ = daemon.ctl().run(["cancel", &id]).expect(0);
    daemon.ctl().wait(&id, 143);
}
