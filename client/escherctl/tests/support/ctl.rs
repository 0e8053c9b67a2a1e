//! escherctl, run by the test.

use std::process::{Output, Stdio};

use tokio::process::Command;

use escher_tests::fake_daemon::{FakeDaemon, ServerConnection};

/// escherctl against a daemon that does what `play` says.
pub(crate) async fn played(
    daemon: &FakeDaemon,
    words: &[&str],
    play: impl AsyncFnOnce(ServerConnection),
) -> Output {
    let escherctl = Command::new(env!("CARGO_BIN_EXE_escherctl"))
        .arg("--socket")
        .arg(daemon.path())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (ended, ()) = tokio::join!(escherctl.wait_with_output(), async {
        play(daemon.accept().await).await;
    });
    ended.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
