//! The client library, in tests.

use std::future::Future;
use std::time::Duration;

use escher_client::{
    Client, Command, EventKind, EventsRequest, ExecutionId, ExecutionRequest, LogStream,
    OutputStream,
};

use crate::{DEADLINE, Daemon};

/// Runs a test's future on a runtime of one thread. Panics if it takes longer than the deadline.
pub fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    in_runtime_within(DEADLINE, future)
}

/// The same with another deadline.
pub fn in_runtime_within<T>(deadline: Duration, future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(deadline, future).await })
        .expect("the test takes too long")
}

/// A connection.
pub async fn connect(daemon: &Daemon) -> Client {
    Client::connect(daemon.home().socket())
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()))
}

/// A request for a program with arguments.
#[must_use]
pub fn exec<S: AsRef<[u8]>>(argv: impl IntoIterator<Item = S>) -> ExecutionRequest {
    ExecutionRequest {
        command: Command::Exec {
            argv: argv.into_iter().map(|word| word.as_ref().into()).collect(),
        },
        ..ExecutionRequest::default()
    }
}

/// A request for a shell.
#[must_use]
pub fn shell(text: &str) -> ExecutionRequest {
    ExecutionRequest {
        command: Command::Shell {
            text: text.into(),
            shell: None,
        },
        ..ExecutionRequest::default()
    }
}

/// Waits until an execution has started or is over.
pub async fn wait_started(client: &Client, id: ExecutionId) {
    let all = EventsRequest {
        after: None,
        follow: true,
    };
    let mut events = client.events(all).await.unwrap();
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let over = matches!(event.kind, EventKind::Started | EventKind::Finished(_));
        if event.id == id && over {
            return;
        }
    }
    panic!("the events ended");
}

/// What a stream of output brings: both outputs, and the offset at which it ended. Every chunk has to
/// follow the one before.
pub async fn collect(mut output: LogStream, mut offset: u64) -> (Vec<u8>, Vec<u8>, u64) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.next().await {
        let chunk = chunk.unwrap();
        assert_eq!(chunk.offset, offset, "a gap or a repeat");
        offset += chunk.data.len() as u64;
        match chunk.stream {
            OutputStream::Stdout => stdout.extend_from_slice(&chunk.data),
            OutputStream::Stderr => stderr.extend_from_slice(&chunk.data),
        }
    }
    (stdout, stderr, offset)
}
