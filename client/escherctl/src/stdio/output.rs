//! Passes a command's output on to escherctl's own, byte for byte.
//!
//! A thread writes, because standard output may block for as long as its reader likes, and signals
//! must be handled meanwhile. Its queue is bounded to a few chunks; later output waits in the log. The thread starts with
//! the first output: many commands have none.

use std::future::pending;
use std::io::{self, IsTerminal};
use std::thread;

use escher_client::{Error, LogStream, OutputItem, OutputStream};
use nix::errno::Errno;
use tokio::sync::{mpsc, oneshot};

use super::unbuffered::write_all;
use crate::failure::Failure;

/// Capacity of the queue between the connection and the thread, in chunks of at most 256 KiB.
const QUEUE_CAPACITY: usize = 8;

/// Why output could not be passed on.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// escherctl's own output cannot be written.
    Write(io::Error),
    /// The terminal that was its output does not exist any more.
    TerminalGone,
    /// The command's output cannot be read.
    Read(Error),
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Write(error) => Failure::write(error),
            RelayError::TerminalGone => Failure::TerminalGone,
            RelayError::Read(error) => error.into(),
        }
    }
}

/// Bytes for one of escherctl's outputs.
#[derive(Debug)]
pub(crate) struct OutputPiece {
    pub(crate) stream: OutputStream,
    pub(crate) bytes: Vec<u8>,
}

/// Whether output was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completeness {
    Complete,
    /// The log lacks some of it.
    Incomplete,
}

/// Writes all of `output`, each item as `format` makes it. Returns when the last byte is written.
pub(crate) async fn relay(
    mut output: LogStream,
    mut format: impl AsyncFnMut(OutputItem) -> Result<OutputPiece, Error>,
) -> Result<Completeness, RelayError> {
    let outputs = Outputs::open();
    let mut writer: Option<WriterThread> = None;
    let mut completeness = Completeness::Complete;
    loop {
        let item = tokio::select! {
            // Reports a closed pipe at once, not when the command writes again.
            error = early_end(&mut writer) => return Err(error),
            item = output.next() => item,
        };
        let Some(item) = item else {
            break;
        };
        let item = item.map_err(RelayError::Read)?;
        if matches!(item, OutputItem::Gap(_)) {
            completeness = Completeness::Incomplete;
        }
        let piece = format(item).await.map_err(RelayError::Read)?;
        let thread = match &mut writer {
            Some(thread) => thread,
            None => writer.insert(WriterThread::start(outputs).map_err(RelayError::Write)?),
        };
        if thread.queue.send(piece).await.is_err() {
            break;
        }
    }
    if let Some(thread) = writer {
        thread.finish().await?;
    }
    Ok(completeness)
}

/// A handle to the thread that writes.
struct WriterThread {
    queue: mpsc::Sender<OutputPiece>,
    result: oneshot::Receiver<Result<(), RelayError>>,
}

impl WriterThread {
    fn start(outputs: Outputs) -> io::Result<Self> {
        let (queue, mut pieces) = mpsc::channel::<OutputPiece>(QUEUE_CAPACITY);
        let (result_sender, result) = oneshot::channel();
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                let mut write = || {
                    while let Some(piece) = pieces.blocking_recv() {
                        outputs.write(&piece)?;
                    }
                    Ok(())
                };
                // Nobody receives the result when a signal makes escherctl exit early.
                let _ = result_sender.send(write());
            })?;
        Ok(WriterThread { queue, result })
    }

    /// Waits until everything is written.
    async fn finish(self) -> Result<(), RelayError> {
        drop(self.queue);
        self.result.await.unwrap_or_else(|_| Err(thread_ended()))
    }
}

/// escherctl's own outputs: whether each is a terminal, which cannot be told once that is gone.
#[derive(Clone, Copy)]
struct Outputs {
    is_stdout_terminal: bool,
    is_stderr_terminal: bool,
}

impl Outputs {
    fn open() -> Self {
        Outputs {
            is_stdout_terminal: io::stdout().is_terminal(),
            is_stderr_terminal: io::stderr().is_terminal(),
        }
    }

    fn write(&self, piece: &OutputPiece) -> Result<(), RelayError> {
        let (written, is_terminal) = match piece.stream {
            OutputStream::Stdout => (
                write_all(io::stdout(), &piece.bytes),
                self.is_stdout_terminal,
            ),
            OutputStream::Stderr => (
                write_all(io::stderr(), &piece.bytes),
                self.is_stderr_terminal,
            ),
        };
        written.map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            match errno {
                Errno::EIO | Errno::ENXIO if is_terminal => RelayError::TerminalGone,
                _ => RelayError::Write(error),
            }
        })
    }
}

/// Waits until the thread ends before its queue is closed, if there is one, and returns the error that it has ended with.
async fn early_end(writer: &mut Option<WriterThread>) -> RelayError {
    let result = match writer {
        Some(thread) => (&mut thread.result).await,
        None => pending().await,
    };
    match result {
        Ok(Err(error)) => error,
        // It ends without an error only once the queue is closed.
        Ok(Ok(())) | Err(_) => thread_ended(),
    }
}

fn thread_ended() -> RelayError {
    RelayError::Write(io::Error::other("the writing thread has ended"))
}
