//! Signals to escherctl, and pipes that close.

use std::io::Read;
use std::process::{Command, Stdio};

use escher_tests::{
    Ctl, DEADLINE, Daemon, Fifo, FinishedProgram, RunningProgram, child_program, is_unlocked,
};
use nix::sys::signal::Signal;

/// Starts escherctl with signals that end it, even if the tests run under nohup(1) or in the background of a script:
/// ignored signals are inherited, and escherctl leaves an ignored SIGHUP ignored.
fn start<const N: usize>(ctl: &Ctl, arguments: [&str; N]) -> RunningProgram {
    let escherctl = ctl.command(arguments);
    let mut command = Command::new("env");
    command
        .arg("--default-signal=INT,TERM,HUP")
        .arg(escherctl.get_program())
        .args(escherctl.get_args())
        .stdin(Stdio::null());
    for (name, value) in escherctl.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(escherctl.get_current_dir().expect("the home's"));
    RunningProgram::spawn(command, DEADLINE)
}

/// Starts `run` of a shell script, and waits until it writes `ready` to the fifo.
fn run_until_ready(ctl: &Ctl, ready: &Fifo, script: &str) -> RunningProgram {
    let run = start(ctl, ["run", "--name", "it", "sh", "-c", script]);
    assert_eq!(ready.read_line(), "ready");
    run
}

/// Sends a signal to `run`, and returns how it ended.
fn run_with_signal(signal: Signal) -> FinishedProgram {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo ready > {}; exec sleep 600", ready.name());
    let run = run_until_ready(&daemon.ctl(), &ready, &script);
    run.signal(signal);
    let ended = run.wait();
    assert_eq!(daemon.ctl().inspect("it")["status"], "cancelled");
    ended
}

#[test]
fn the_first_ctrl_c_cancels() {
    let ended = run_with_signal(Signal::SIGINT).expect(143);
    assert!(ended.err().contains("cancelled"), "{ended:?}");
}

#[test]
fn sigterm_and_sighup_cancel_too() {
    let _ = run_with_signal(Signal::SIGTERM).expect(143);
    let _ = run_with_signal(Signal::SIGHUP).expect(143);
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
    run.signal(Signal::SIGINT);
    let ended = run.wait().expect(143);
    assert_eq!(ended.out(), "last words\n");
    assert!(ended.err().starts_with("and more\n"), "{ended:?}");
}

/// The grace period is an hour, so only the second Ctrl-C can end this.
#[test]
fn the_second_ctrl_c_kills() {
    let daemon = Daemon::with_config("[execution]\nmax_kill_grace = \"1h\"\n");
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "trap 'echo term > {0}' TERM; echo ready > {0}; while :; do sleep 1; done",
        answers.name()
    );
    let ctl = daemon.ctl();
    let arguments = [
        "run",
        "--kill-after",
        "1h",
        "--name",
        "it",
        "sh",
        "-c",
        &script,
    ];
    let run = start(&ctl, arguments);
    assert_eq!(answers.read_line(), "ready");
    run.signal(Signal::SIGINT);
    assert_eq!(answers.read_line(), "term");
    run.signal(Signal::SIGINT);
    let _ = run.wait().expect(137);
    assert_eq!(ctl.inspect("it")["status"], "cancelled");
}

#[test]
fn a_cancelled_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let mut command = daemon.ctl().command(["run", "--kill-after", "300ms", "--"]);
    command
        .arg(child_program())
        .arg("ignore-sigterm")
        .arg(&lock);
    let mut run = RunningProgram::spawn_unread(command, DEADLINE);
    let mut said = [0; 6];
    run.stdout().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"ready\n");
    run.signal(Signal::SIGINT);
    let _ = run.wait().expect(137);
    assert!(is_unlocked(&lock));
}

#[test]
fn ctrl_c_withdraws_a_pending_command() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let ready = daemon.home().fifo("ready");
    let script = format!("echo ready > {}; exec sleep 600", ready.name());
    let running = run_until_ready(&daemon.ctl(), &ready, &script);
    let waiting = daemon
        .ctl()
        .start(["run", "--name", "waiting", "touch", "never"]);
    escher_tests::in_runtime(async {
        let client = escher_tests::connect(&daemon).await;
        // Once it is submitted, escherctl handles signals.
        let all = escher_client::EventsRequest {
            after: None,
            follow: true,
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
    let _ = waiting.wait().expect(143);
    assert!(!daemon.home().work().join("never").exists());
    running.signal(Signal::SIGTERM);
    let _ = running.wait().expect(143);
}

#[test]
fn a_closed_stdout_ends_run_and_cancels_the_command() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let script = format!("exec 9> {}; flock 9; exec yes", lock.display());
    let command = daemon
        .ctl()
        .command(["run", "--name", "it", "sh", "-c", &script]);
    let mut run = RunningProgram::spawn_unread(command, DEADLINE);
    let mut stdout = run.stdout();
    stdout.read_exact(&mut [0; 100_000]).unwrap();
    drop(stdout);
    let ended = run.wait();
    assert!(
        [141, -13].contains(&ended.code),
        "as any program at a closed pipe: {ended:?}"
    );
    daemon.ctl().wait("it", 143);
    assert_eq!(daemon.ctl().inspect("it")["status"], "cancelled");
    assert!(is_unlocked(&lock));
}

#[test]
fn a_closed_stdout_ends_logs_and_not_the_command() {
    let daemon = Daemon::start();
    let id = daemon.ctl().submit(["yes"]).to_string();
    let mut follow =
        RunningProgram::spawn_unread(daemon.ctl().command(["logs", "-f", &id]), DEADLINE);
    let mut stdout = follow.stdout();
    stdout.read_exact(&mut [0; 100_000]).unwrap();
    drop(stdout);
    let ended = follow.wait();
    assert!([141, -13].contains(&ended.code), "{ended:?}");
    assert_eq!(daemon.ctl().inspect(&id)["status"], "running");
    let _ = daemon.ctl().run(["cancel", &id]).expect(0);
}

#[test]
fn ctrl_c_detaches_attach_from_the_command() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo here; echo ready > {}; exec sleep 600", ready.name());
    let id = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    assert_eq!(ready.read_line(), "ready");
    let mut attach = RunningProgram::spawn_unread(daemon.ctl().command(["attach", &id]), DEADLINE);
    // Once it passes on output, it handles signals.
    attach.stdout().read_exact(&mut [0; 5]).unwrap();
    attach.signal(Signal::SIGINT);
    let ended = attach.wait();
    assert!(!ended.stderr.is_empty(), "with a message: {ended:?}");
    assert_eq!(daemon.ctl().inspect(&id)["status"], "running");
    let _ = daemon.ctl().run(["cancel", &id]).expect(0);
    daemon.ctl().wait(&id, 143);
}
