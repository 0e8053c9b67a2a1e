//! escherctl, run by the test.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{Daemon, Peer};

/// escherctl with these arguments, connecting to `daemon`.
pub(crate) fn escherctl(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_escherctl"));
    command.arg("--socket").arg(daemon.path()).args(arguments);
    with_pipes(&mut command);
    command
}

/// Gives `command` an empty input and pipes to read its outputs from.
pub(crate) fn with_pipes(command: &mut Command) {
    command
        .env_remove("ESCHER_RECONNECT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
}

/// Runs escherctl against a daemon that does what `play` says.
pub(crate) async fn run_against(
    daemon: &Daemon,
    arguments: &[&str],
    play: impl AsyncFnOnce(Peer),
) -> Output {
    let escherctl = escherctl(daemon, arguments).spawn().unwrap();
    let (output, ()) = tokio::join!(escherctl.wait_with_output(), async {
        play(daemon.welcomed().await).await;
    });
    output.unwrap()
}

/// An output whose reader has closed it. Not a pipe: a process that another test is starting may
/// hold a copy of its other end for a moment.
pub(crate) fn closed_output() -> Stdio {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.shutdown(Shutdown::Both).unwrap();
    OwnedFd::from(theirs).into()
}

pub(crate) fn send_signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
