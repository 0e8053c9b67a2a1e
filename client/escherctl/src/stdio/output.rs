//! Passes a command's output on to escherctl's own, byte for byte, or to a pager.
//!
//! A thread writes, because standard output may block for as long as its reader likes, and signals
//! must be handled meanwhile. Its queue is bounded to a few chunks; later output waits in the log. The thread starts with
//! the first output: many commands have none.

use std::fs::File;
use std::future::{pending, poll_fn};
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
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

/// What is written for the items of a command's output.
pub(crate) trait OutputFormat {
    /// Returns what to write for the next item.
    async fn format(&mut self, item: OutputItem) -> Result<Vec<OutputPiece>, Error>;
    /// Returns what to write at the end.
    fn finish(&mut self) -> Vec<OutputPiece>;
}

/// Whether output was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completeness {
    Complete,
    /// The log lacks some of it.
    Incomplete,
}

/// Writes output to escherctl's own outputs, or to a pager.
pub(crate) struct OutputWriter {
    outputs: Outputs,
    /// `None` before the first output.
    thread: Option<WriterThread>,
}

impl OutputWriter {
    /// Creates the writer of escherctl's own outputs, or of all output to `pager`.
    pub(crate) fn new(pager: Option<File>) -> Self {
        OutputWriter {
            outputs: Outputs::open(pager),
            thread: None,
        }
    }

    /// Writes all of the outputs as they come, each in its format.
    pub(crate) async fn relay<F: OutputFormat>(
        &mut self,
        sources: Vec<(LogStream, F)>,
    ) -> Result<Completeness, RelayError> {
        let mut sources = Sources { sources, next: 0 };
        let mut completeness = Completeness::Complete;
        loop {
            let next = tokio::select! {
                // Reports a closed pipe at once, not when the command writes again.
                error = early_end(&mut self.thread) => return Err(error),
                next = sources.next() => next,
            };
            let Some((index, item)) = next else {
                return Ok(completeness);
            };
            let format = &mut sources.sources[index].1;
            let pieces = match item {
                Some(item) => {
                    let item = item.map_err(RelayError::Read)?;
                    if matches!(item, OutputItem::Gap(_)) {
                        completeness = Completeness::Incomplete;
                    }
                    format.format(item).await.map_err(RelayError::Read)?
                }
                None => {
                    let last = format.finish();
                    drop(sources.sources.remove(index));
                    last
                }
            };
            for piece in pieces {
                self.write(piece).await?;
            }
        }
    }

    /// Writes one piece.
    pub(crate) async fn write(&mut self, piece: OutputPiece) -> Result<(), RelayError> {
        let thread = match &mut self.thread {
            Some(thread) => thread,
            None => {
                let started = WriterThread::start(self.outputs.clone());
                self.thread.insert(started.map_err(RelayError::Write)?)
            }
        };
        if thread.queue.send(piece).await.is_ok() {
            return Ok(());
        }
        Err(early_end(&mut self.thread).await)
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(self) -> Result<(), RelayError> {
        match self.thread {
            Some(thread) => thread.finish().await,
            None => Ok(()),
        }
    }
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

/// Several outputs that are read at once.
struct Sources<F> {
    sources: Vec<(LogStream, F)>,
    /// Which is asked first, so that each has its turn.
    next: usize,
}

impl<F> Sources<F> {
    /// Returns the next item and from which it is, or that this one has ended; `None` once all have.
    async fn next(&mut self) -> Option<(usize, Option<Result<OutputItem, Error>>)> {
        let count = self.sources.len();
        if count == 0 {
            return None;
        }
        let first = self.next;
        let found = poll_fn(|cx| {
            for index in (0..count).map(|turn| (first + turn) % count) {
                // No item is lost with the future: it is cancel safe.
                let next = pin!(self.sources[index].0.next());
                if let Poll::Ready(item) = next.poll(cx) {
                    return Poll::Ready((index, item));
                }
            }
            Poll::Pending
        })
        .await;
        self.next = found.0 + 1;
        Some(found)
    }
}

/// Where output goes.
#[derive(Clone)]
enum Outputs {
    /// escherctl's own: whether each is a terminal, which cannot be told once that is gone.
    Own {
        is_stdout_terminal: bool,
        is_stderr_terminal: bool,
    },
    Pager(Arc<File>),
}

impl Outputs {
    fn open(pager: Option<File>) -> Self {
        match pager {
            Some(pager) => Outputs::Pager(Arc::new(pager)),
            None => Outputs::Own {
                is_stdout_terminal: io::stdout().is_terminal(),
                is_stderr_terminal: io::stderr().is_terminal(),
            },
        }
    }

    fn write(&self, piece: &OutputPiece) -> Result<(), RelayError> {
        let (written, is_terminal) = match (self, piece.stream) {
            (Outputs::Pager(pager), _) => (write_all(&**pager, &piece.bytes), false),
            (
                Outputs::Own {
                    is_stdout_terminal, ..
                },
                OutputStream::Stdout,
            ) => (write_all(io::stdout(), &piece.bytes), *is_stdout_terminal),
            (
                Outputs::Own {
                    is_stderr_terminal, ..
                },
                OutputStream::Stderr,
            ) => (write_all(io::stderr(), &piece.bytes), *is_stderr_terminal),
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
