//! escherd without a launcher, as after `systemctl stop escher-launcher`: what waits for a shim can be seen, and can be
//! cancelled at once.

use std::process::Stdio;
use std::sync::Arc;

use escher_tests::{Daemon, DaemonBuilder, Exit, Home, Terminal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupts::with_env;

/// Makes an escherd whose launcher never comes.
fn without_launcher(home: &Arc<Home>) -> DaemonBuilder {
    let socket = home.path().join("no-launcher.sock");
    let config = format!("[daemon]\nlauncher_socket = {socket:?}\n");
    let builder = Daemon::builder().home(home).config(&config);
    builder.leave_commands()
}

/// Submits a command that creates the file `started`. Returns its id.
fn submit(daemon: &Daemon) -> String {
    daemon.ctl().line(["submit", "touch", "started"])
}

fn has_started(home: &Home) -> bool {
    home.work().join("started").exists()
}

#[test]
fn a_cancel_without_a_launcher_ends_the_execution_at_once() {
    let home = Arc::new(Home::new());
    let daemon = without_launcher(&home).start();
    let id = submit(&daemon);
    let ctl = daemon.ctl();
    let _ = ctl.run(["cancel", &id]).expect(0);
    let record = ctl.inspect(&id);
    assert_eq!(record["status"], "cancelled", "{record}");
    assert!(record["waits_for"].is_null(), "{record}");
    ctl.wait(&id, 128 + 15);
    assert_eq!(daemon.stop(), Exit::Code(0));
    let daemon = Daemon::builder().home(&home).start();
    daemon.ctl().wait(&id, 128 + 15);
    // The launcher is there now: what comes later has started.
    let _ = daemon.ctl().run(["run", "true"]).expect(0);
    assert!(!has_started(&home));
}

#[test]
fn what_was_told_as_cancelled_never_starts_after_a_crash() {
    let home = Arc::new(Home::new());
    let mut daemon = without_launcher(&home).start();
    let ids: Vec<String> = (0..8).map(|_| submit(&daemon)).collect();
    let waiting = daemon.ctl().line(["submit", "touch", "waited"]);
    let cancel = std::iter::once("cancel").chain(ids.iter().map(String::as_str));
    let _ = daemon.ctl().run(cancel).expect(0);
    daemon.kill();
    drop(daemon);
    let daemon = Daemon::builder().home(&home).start();
    for id in &ids {
        assert_eq!(daemon.ctl().inspect(id)["status"], "cancelled");
    }
    daemon.ctl().wait(&waiting, 0);
    assert!(home.work().join("waited").exists());
    assert!(!has_started(&home));
}

#[test]
fn a_stop_that_cancels_does_not_wait_for_a_launcher() {
    let home = Arc::new(Home::new());
    let config = format!(
        "[daemon]\nlauncher_socket = {:?}\n",
        home.path().join("none")
    );
    let daemon = Daemon::builder().home(&home).config(&config).start();
    let id = submit(&daemon);
    assert_eq!(daemon.stop(), Exit::Code(0));
    let daemon = Daemon::builder().home(&home).start();
    let record = daemon.ctl().inspect(&id);
    assert_eq!(record["status"], "cancelled", "{record}");
    assert_eq!(record["cancelled_by"], "host", "{record}");
}

#[test]
fn the_status_says_how_many_commands_wait_for_a_launcher() {
    let home = Arc::new(Home::new());
    let daemon = without_launcher(&home).keep_notifications().start();
    let await_status = |status: &str| {
        let expected = format!("STATUS={status}");
        while !daemon.next_notification().contains(&expected) {}
    };
    await_status("no launcher: 0 commands wait; 0 running, 0 finished");
    let first = submit(&daemon);
    await_status("no launcher: 1 command waits; 0 running, 0 finished");
    submit(&daemon);
    await_status("no launcher: 2 commands wait; 0 running, 0 finished");
    let info = daemon.ctl().json(["info"]);
    assert_eq!((&info["pending"], &info["running"]), (&2.into(), &0.into()));
    let record = daemon.ctl().inspect(&first);
    assert_eq!(record["status"], "pending", "{record}");
    assert_eq!(record["waits_for"], "launcher", "{record}");
}

#[test]
fn run_says_on_a_terminal_that_it_waits_for_a_launcher_and_can_be_interrupted() {
    let home = Arc::new(Home::new());
    let daemon = without_launcher(&home).start();
    let mut terminal = Terminal::open();
    // In the background of a script SIGINT is ignored, and stays so.
    let arguments = ["run", "touch", "started"];
    let mut command = with_env(&daemon.ctl(), &["--default-signal=INT"], arguments);
    let mut run = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(terminal.for_program())
        .spawn()
        .unwrap();
    terminal.wait_for("waiting: escherd has no launcher");
    // As a terminal does at Ctrl-C.
    let pid = Pid::from_raw(i32::try_from(run.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    terminal.wait_for("cancelled");
    assert!(!run.wait().unwrap().success());
    assert_eq!(daemon.ctl().inspect("1")["status"], "cancelled");
    assert!(!has_started(&home));
}

#[test]
fn run_says_nothing_of_waiting_where_nobody_watches() {
    let home = Arc::new(Home::new());
    let daemon = without_launcher(&home).start();
    let ctl = daemon.ctl();
    let run_on = |terminal: &Terminal, words: &[&str]| {
        let mut command = ctl.command(words);
        command.stdin(Stdio::null()).stderr(terminal.for_program());
        command.spawn().unwrap()
    };
    let piped = ctl.start(["run", "--key", "piped", "true"]);
    let terminal = Terminal::open();
    let mut quiet = run_on(&terminal, &["-q", "run", "--key", "quiet", "true"]);
    // The key leads to one execution, no matter which request arrives first.
    let [piped_id, quiet_id] =
        ["piped", "quiet"].map(|key| ctl.line(["submit", "--key", key, "true"]));
    // One that does say something has waited no longer.
    let mut loud_terminal = Terminal::open();
    let mut loud = run_on(&loud_terminal, &["run", "--name", "loud", "true"]);
    loud_terminal.wait_for("waiting: escherd has no launcher");
    let _ = ctl.run(["cancel", &piped_id, &quiet_id, "loud"]).expect(0);
    let ended = piped.wait().expect(128 + 15);
    assert!(!ended.err().contains("waiting"), "{ended:?}");
    assert_eq!(quiet.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(loud.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(terminal.read_to_end(), "");
}
