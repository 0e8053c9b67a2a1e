//! A command's output to escherctl's own, byte for byte.
//!
//! A thread of its own writes, because standard output may block for as long as its reader pleases, and
//! signals must still be heard. What waits for it is bounded to a few chunks; everything behind these
//! waits in the log.

use std::io;
use std::thread;

use escher_client::{Error, LogStream, OutputChunk, OutputStream};
use tokio::sync::{mpsc, oneshot};

use super::descriptor::{direct, write_all};
use super::failure::Failure;

/// Chunks (of at most 256 KiB) between the connection and the writing thread.
const CHUNKS_WAITING: usize = 8;

/// Why the output did not come through.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// escherctl's own output cannot be written.
    Write(io::Error),
    /// The command's output cannot be read.
    Read(Error),
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Write(error) => Failure::write(error),
            RelayError::Read(error) => error.into(),
        }
    }
}

/// Passes on all of `output`, each chunk as `shape` makes it. Returns when the last byte is written.
pub(crate) async fn relay(
    mut output: LogStream,
    mut shape: impl AsyncFnMut(OutputChunk) -> Result<Piece, Error>,
) -> Result<(), RelayError> {
    let mut sink = Sink::start().map_err(RelayError::Write)?;
    loop {
        let chunk = tokio::select! {
            // A closed pipe is noticed at once, not when the command writes again.
            failed = &mut sink.end => return Err(RelayError::Write(sunk(failed))),
            chunk = output.next() => chunk,
        };
        let Some(chunk) = chunk else {
            return sink.finish().await.map_err(RelayError::Write);
        };
        let piece = shape(chunk.map_err(RelayError::Read)?)
            .await
            .map_err(RelayError::Read)?;
        if sink.queue.send(piece).await.is_err() {
            return sink.finish().await.map_err(RelayError::Write);
        }
    }
}

/// The output as it is.
pub(crate) async fn as_it_is(chunk: OutputChunk) -> Result<Piece, Error> {
    Ok(Piece {
        stream: chunk.stream,
        bytes: chunk.data.into_vec(),
    })
}

/// Bytes for one of escherctl's outputs.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) stream: OutputStream,
    pub(crate) bytes: Vec<u8>,
}

/// The writing thread, seen from outside.
struct Sink {
    queue: mpsc::Sender<Piece>,
    end: oneshot::Receiver<io::Result<()>>,
}

impl Sink {
    fn start() -> io::Result<Self> {
        let mut stdout = direct(io::stdout())?;
        let mut stderr = direct(io::stderr())?;
        let (queue, mut pieces) = mpsc::channel::<Piece>(CHUNKS_WAITING);
        let (ended, end) = oneshot::channel();
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                let mut write = || {
                    while let Some(piece) = pieces.blocking_recv() {
                        let file = match piece.stream {
                            OutputStream::Stdout => &mut stdout,
                            OutputStream::Stderr => &mut stderr,
                        };
                        write_all(file, &piece.bytes)?;
                    }
                    Ok(())
                };
                // Nobody listens any more when escherctl is being left in a hurry.
                let _ = ended.send(write());
            })?;
        Ok(Sink { queue, end })
    }

    /// Waits until everything is written.
    async fn finish(self) -> io::Result<()> {
        drop(self.queue);
        self.end.await.unwrap_or_else(|_| Err(vanished()))
    }
}

fn sunk(end: Result<io::Result<()>, oneshot::error::RecvError>) -> io::Error {
    match end {
        Ok(Err(error)) => error,
        // It ends without an error only once the queue is closed.
        Ok(Ok(())) | Err(_) => vanished(),
    }
}

fn vanished() -> io::Error {
    io::Error::other("the thread that writes is gone")
}
