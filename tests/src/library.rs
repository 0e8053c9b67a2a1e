//! The client library, in tests.

use std::future::Future;

use escher_client::{
    Client, Command, EventKind, EventsRequest, ExecutionId, ExecutionRequest, LogStream,
    OutputChunk, OutputStream,
};

use crate::{Daemon, LONG_DEADLINE};

/// Runs a test's future on a runtime of one thread. Panics after [`LONG_DEADLINE`].
pub fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(LONG_DEADLINE, future).await })
        .expect("the test ends in time")
}

/// Connects to escherd.
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

/// The next item of a command's output, which must be there and no gap.
pub async fn next_chunk(output: &mut LogStream) -> OutputChunk {
    let item = output.next().await.expect("more output").unwrap();
    item.into_chunk().expect("no gap")
}

/// Waits until an execution has started or is finished.
pub async fn wait_started(client: &Client, id: ExecutionId) {
    let all = EventsRequest {
        follow: true,
        ..EventsRequest::default()
    };
    let mut events = client.events(all).await.unwrap();
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let has_started = matches!(event.kind, EventKind::Started | EventKind::Finished(_));
        if event.id == id && has_started {
            return;
        }
    }
    panic!("the events ended");
}

/// Reads a stream of output to its end. Returns both outputs and the offset of the end. Every chunk has to
/// follow the one before it.
pub async fn collect(mut output: LogStream, mut offset: u64) -> (Vec<u8>, Vec<u8>, u64) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.next().await {
        let chunk = chunk.unwrap().into_chunk().unwrap();
        assert_eq!(chunk.offset, offset, "a gap or a repeat");
        offset += chunk.data.len() as u64;
        match chunk.stream {
            OutputStream::Stdout => stdout.extend_from_slice(&chunk.data),
            OutputStream::Stderr => stderr.extend_from_slice(&chunk.data),
        }
    }
    (stdout, stderr, offset)
}
