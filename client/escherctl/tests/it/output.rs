//! What escherctl prints arrives whole, whatever its output is.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use escher_client::protocol::{Request, Response};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::support::FakeDaemon;
use crate::support::escherctl::escherctl;

/// Lines of an answer that does not fit into a pipe, which has 64 KiB (pipe(7)).
const LINES: usize = 20_000;

/// Node and ssh give pipes that do not block to programs that they start.
#[tokio::test]
async fn output_to_a_pipe_that_does_not_block_arrives_whole() {
    let daemon = FakeDaemon::start();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut command = escherctl(&daemon, &["metrics"]);
    let child = command.stdout(writer).spawn().unwrap();
    // Its copy of the other end is closed with it.
    drop(command);
    let mut peer = daemon.accept().await;
    let (id, request) = peer.request().await;
    assert_eq!(request, Request::Metrics);
    let answer = "escher_lines 1\n".repeat(LINES);
    peer.reply(id, Ok(Response::Metrics(answer.as_str().into())))
        .await;
    let printed = tokio::task::spawn_blocking(move || read_to_end(reader));
    let (printed, ended) = tokio::join!(printed, child.wait_with_output());
    let ended = ended.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        printed.unwrap() == answer,
        "not all of it, or not unchanged"
    );
}

fn read_to_end(pipe: OwnedFd) -> String {
    let mut text = String::new();
    File::from(pipe).read_to_string(&mut text).unwrap();
    text
}
