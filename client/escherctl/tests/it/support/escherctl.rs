//! escherctl, run by the test.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::{FakeDaemon, ServerConnection};

/// escherctl with these arguments, connecting to `daemon`.
pub(crate) fn escherctl(daemon: &FakeDaemon, arguments: &[&str]) -> Command {
    // Signals that are ignored here are inherited, and it leaves them ignored.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=INT,QUIT,TERM,HUP,USR1,USR2")
        .arg(env!("CARGO_BIN_EXE_escherctl"))
        .arg("--socket")
        .arg(daemon.path())
        .args(arguments);
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
    daemon: &FakeDaemon,
    arguments: &[&str],
    play: impl AsyncFnOnce(ServerConnection),
) -> Output {
    let escherctl = escherctl(daemon, arguments).spawn().unwrap();
    let (output, ()) = tokio::join!(escherctl.wait_with_output(), async {
        play(daemon.accept().await).await;
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

/// Reads the next line that a program writes to its standard error.
pub(crate) async fn read_notice(child: &mut Child) -> String {
    let stderr = child.stderr.as_mut().unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stderr.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

pub(crate) fn send_signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The signal of which a program died.
pub(crate) fn signal_of(output: &Output) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&output.status)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
