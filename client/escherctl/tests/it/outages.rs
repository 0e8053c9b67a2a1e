//! escherctl while escherd is unavailable, and after it has reconnected.

use escher_client::protocol::{Item, Request, Response, SignalAnswer};
use escher_client::{CancelAnswer, OutputStart, OutputStream};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::support::answers::{accept_run, accept_submission, attached, exited, submitted};
use crate::support::escherctl::{escherctl, send_signal};
use crate::support::{FakeDaemon, output, record};

/// A running escherctl, whose standard error is read line by line.
struct Running {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(daemon: &FakeDaemon, arguments: &[&str]) -> Self {
        let mut child = escherctl(daemon, arguments).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, stderr }
    }

    async fn line(&mut self) -> String {
        self.stderr.next_line().await.unwrap().unwrap_or_default()
    }

    /// Waits for its end. Returns its exit status, its standard output, and the remaining lines of
    /// its standard error.
    async fn end(mut self) -> (Option<i32>, String, Vec<String>) {
        let mut stdout = String::new();
        let mut reader = self.child.stdout.take().unwrap();
        reader.read_to_string(&mut stdout).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            lines.push(line);
        }
        let status = self.child.wait().await.unwrap();
        (status.code(), stdout, lines)
    }
}

const UNAVAILABLE: &str = "escherctl: escherd is unavailable; waiting up to 1m for it";
const RECONNECTED: &str = "escherctl: reconnected to escherd";

#[tokio::test]
async fn run_continues_after_an_outage() {
    let mut daemon = FakeDaemon::start();
    let mut run = Running::start(&daemon, &["run", "x"]);
    let mut peer = daemon.accept().await;
    let requests = accept_run(&mut peer).await;
    let piece = output(OutputStream::Stdout, 0, 5);
    peer.item(requests.output, piece).await;
    daemon.stop();
    drop(peer);
    assert_eq!(run.line().await, UNAVAILABLE);

    daemon.restart();
    let mut peer = daemon.accept().await;
    let requests = attached(&mut peer).await;
    assert_eq!(requests.start, OutputStart::Offset(5));
    assert_eq!(run.line().await, RECONNECTED);
    let piece = output(OutputStream::Stdout, 5, 2);
    peer.item(requests.output, piece).await;
    peer.end(requests.output, Ok(())).await;
    peer.reply(requests.end, Ok(exited(7))).await;
    assert_eq!(run.end().await, (Some(7), "xxxxxxx".to_owned(), vec![]));
}

#[tokio::test]
async fn outages_are_not_reported_with_quiet_or_json() {
    for arguments in [&["-q", "wait", "1"][..], &["--json", "wait", "1"]] {
        let mut daemon = FakeDaemon::start();
        let wait = Running::start(&daemon, arguments);
        let mut peer = daemon.accept().await;
        peer.request().await;
        daemon.stop();
        drop(peer);
        daemon.restart();
        let mut peer = daemon.accept().await;
        let (id, _) = peer.request().await;
        peer.reply(id, Ok(exited(3))).await;
        let (status, _, stderr) = wait.end().await;
        assert_eq!((status, stderr), (Some(3), vec![]));
    }
}

#[tokio::test]
async fn an_unacknowledged_submission_is_repeated_with_the_same_key() {
    for arguments in [&["submit", "x"][..], &["submit", "--key", "k", "x"]] {
        let daemon = FakeDaemon::start();
        let submit = Running::start(&daemon, arguments);
        let mut peer = daemon.accept().await;
        let (_, first) = peer.request().await;
        drop(peer);
        let mut peer = daemon.accept().await;
        let (id, second) = peer.request().await;
        assert_eq!(first, second);
        match second {
            Request::Submit(request) => {
                let key = request.key.unwrap();
                assert!(arguments.contains(&&*key) || key.len() == 36, "{key}");
            }
            other => panic!("{other:?}"),
        }
        peer.reply(id, Ok(submitted())).await;
        let (status, stdout, _) = submit.end().await;
        assert_eq!((status, stdout), (Some(0), format!("{}\n", record(1).id)));
    }
}

/// With a signal that never makes `run` leave, however long the outage takes.
#[tokio::test]
async fn a_signal_during_an_outage_reaches_the_command_after_it() {
    let mut daemon = FakeDaemon::start();
    let mut run = Running::start(&daemon, &["run", "x"]);
    let mut peer = daemon.accept().await;
    accept_run(&mut peer).await;
    daemon.stop();
    drop(peer);
    assert_eq!(run.line().await, UNAVAILABLE);
    send_signal(&run.child, Signal::SIGUSR1);
    daemon.restart();
    let mut peer = daemon.accept().await;
    let (mut output, mut end, mut signalled) = (None, None, false);
    while output.is_none() || end.is_none() || !signalled {
        match peer.next_request().await {
            (id, Request::ReadOutput(_)) => output = Some(id),
            (id, Request::Wait(_)) => end = Some(id),
            (id, Request::Signal { signal: 10, .. }) => {
                peer.reply(id, Ok(Response::Signal(SignalAnswer::Sent)))
                    .await;
                signalled = true;
            }
            other => panic!("{other:?}"),
        }
    }
    peer.end(output.unwrap(), Ok(())).await;
    peer.reply(end.unwrap(), Ok(exited(3))).await;
    assert_eq!(run.end().await.0, Some(3));
}

#[tokio::test]
async fn a_hangup_leaves_during_an_outage() {
    let mut daemon = FakeDaemon::start();
    let mut run = Running::start(&daemon, &["run", "x"]);
    let mut peer = daemon.accept().await;
    accept_run(&mut peer).await;
    daemon.stop();
    drop(peer);
    assert_eq!(run.line().await, UNAVAILABLE);
    send_signal(&run.child, Signal::SIGHUP);
    let (status, _, stderr) = run.end().await;
    assert_eq!(status, None, "it dies of the signal");
    assert_eq!(stderr, ["escherctl: the command goes on; its number is 1"]);
}

#[tokio::test]
async fn after_the_reconnect_timeout_a_hint_says_that_the_command_keeps_running() {
    for (arguments, status) in [
        (&["run", "x"][..], 125),
        (&["wait", "1"], 125),
        (&["logs", "-f", "1"], 1),
        (&["events", "-f"], 1),
    ] {
        let mut daemon = FakeDaemon::start();
        let arguments = [&["--reconnect", "20ms"], arguments].concat();
        let escherctl = Running::start(&daemon, &arguments);
        let mut peer = daemon.accept().await;
        if arguments.contains(&"run") {
            accept_submission(&mut peer).await;
        }
        peer.request().await;
        daemon.stop();
        drop(peer);
        let (code, _, stderr) = escherctl.end().await;
        let stderr = stderr.join("\n");
        assert_eq!(code, Some(status), "{arguments:?}");
        let has_command = status == 125;
        let keeps_running = stderr.contains("the command keeps running");
        assert_eq!(keeps_running, has_command, "{stderr}");
        assert_eq!(stderr.contains("`escherctl wait "), has_command, "{stderr}");
        assert_eq!(
            stderr.contains("--reconnect TIME"),
            !has_command,
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn an_unacknowledged_submission_hints_at_the_key() {
    let mut daemon = FakeDaemon::start();
    let arguments = ["--reconnect=20ms", "submit", "--key", "k", "x"];
    let submit = Running::start(&daemon, &arguments);
    let mut peer = daemon.accept().await;
    peer.request().await;
    daemon.stop();
    drop(peer);
    let (status, _, stderr) = submit.end().await;
    assert_eq!(status, Some(1));
    assert!(stderr.join("\n").contains("`--key k`"), "{stderr:?}");
}

#[tokio::test]
async fn the_first_connection_is_not_waited_for() {
    let mut daemon = FakeDaemon::start();
    daemon.stop();
    let (status, _, stderr) = Running::start(&daemon, &["info"]).end().await;
    assert_eq!(status, Some(1));
    assert!(stderr[1].contains("systemctl start escherd"), "{stderr:?}");
}

/// `--reconnect 60s` failed at once.
#[tokio::test]
async fn a_reconnect_time_has_the_first_connection_wait_for_escherd() {
    let mut daemon = FakeDaemon::start();
    daemon.stop();
    let mut info = Running::start(&daemon, &["--reconnect", "60s", "cancel", "1"]);
    assert_eq!(info.line().await, UNAVAILABLE);
    daemon.restart();
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    peer.reply(id, Ok(Response::Cancel(CancelAnswer::Ending)))
        .await;
    let (status, _, stderr) = info.end().await;
    assert_eq!((status, stderr), (Some(0), vec![RECONNECTED.to_owned()]));

    daemon.stop();
    for (time, notices) in [("20ms", 0..=1), ("none", 0..=0)] {
        let info = Running::start(&daemon, &["--reconnect", time, "info"]);
        let (status, _, mut stderr) = info.end().await;
        assert_eq!(status, Some(1), "{stderr:?}");
        let failure = stderr.split_off(stderr.len() - 2);
        assert!(failure[0].contains("no escherd listens"), "{failure:?}");
        // None, if a slow machine lets the time pass before the first attempt has failed.
        assert!(notices.contains(&stderr.len()), "{stderr:?}");
    }
}

/// It took 10 s, whatever the time was.
#[tokio::test]
async fn a_reconnect_time_is_also_that_for_an_answer() {
    for (time, waited) in [
        ("none", "2000 ms"),
        ("1s", "2000 ms"),
        ("2001ms", "2001 ms"),
    ] {
        let daemon = FakeDaemon::start();
        // It accepts nothing: the connection waits in the backlog.
        let info = Running::start(&daemon, &["--reconnect", time, "info"]);
        let (status, _, stderr) = info.end().await;
        assert_eq!(status, Some(1));
        let expected = format!("did not answer within {waited}");
        assert!(stderr[0].contains(&expected), "{stderr:?}");
    }
}

#[tokio::test]
async fn a_list_continues_after_an_outage() {
    let daemon = FakeDaemon::start();
    let ps = Running::start(&daemon, &["ps", "-a", "--json"]);
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    peer.item(id, Item::Execution(Box::new(record(3)))).await;
    drop(peer);
    let mut peer = daemon.accept().await;
    let (id, _) = peer.request().await;
    for number in [4, 3, 2] {
        let item = Item::Execution(Box::new(record(number)));
        peer.item(id, item).await;
    }
    peer.end(id, Ok(())).await;
    let (status, stdout, _) = ps.end().await;
    assert_eq!(status, Some(0));
    let numbers: Vec<&str> = stdout
        .lines()
        .map(|line| line.split("\"number\":").nth(1).unwrap())
        .map(|rest| rest.split(',').next().unwrap())
        .collect();
    assert_eq!(numbers, ["3", "2"]);
}
