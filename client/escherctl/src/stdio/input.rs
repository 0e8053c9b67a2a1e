//! Feeds a command from escherctl's standard input.
//!
//! A thread reads, because reading from a terminal or a pipe may block forever. It is abandoned
//! when the command ends before its input does.

use std::io;
use std::thread;

use escher_client::protocol::message::MAX_STDIN_BYTES;
use escher_client::{Error, StdinWriter};
use tokio::sync::mpsc;

use super::unbuffered::{duplicate, read};
use crate::failure::Failure;

/// Capacity of the queue between the thread and the connection, in pieces of 64 KiB.
const QUEUE_CAPACITY: usize = 4;

/// Why a command did not get all of the input.
#[derive(Debug)]
pub(crate) enum FeedError {
    /// escherctl's own input cannot be read to its end.
    Read(io::Error),
    /// The command takes no more, or escherd is unavailable.
    Write(Error),
}

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Read(error) => Failure::system("cannot read standard input", error),
            FeedError::Write(error) => error.into(),
        }
    }
}

/// Passes standard input on to `writer`, up to its end, which is not passed on.
pub(crate) async fn feed(writer: &mut StdinWriter) -> Result<(), FeedError> {
    let mut pieces = start_reading().map_err(FeedError::Read)?;
    while let Some(piece) = pieces.recv().await {
        let piece = piece.map_err(FeedError::Read)?;
        writer.write(&piece).await.map_err(FeedError::Write)?;
    }
    Ok(())
}

/// Starts the thread. A read error is the last of the pieces.
pub(crate) fn start_reading() -> io::Result<mpsc::Receiver<io::Result<Vec<u8>>>> {
    let mut input = duplicate(io::stdin())?;
    let (queue, pieces) = mpsc::channel(QUEUE_CAPACITY);
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            let mut buffer = vec![0; MAX_STDIN_BYTES];
            loop {
                let piece = match read(&mut input, &mut buffer) {
                    Ok(0) => return,
                    Ok(length) => Ok(buffer[..length].to_vec()),
                    Err(error) => Err(error),
                };
                let is_last = piece.is_err();
                if queue.blocking_send(piece).is_err() || is_last {
                    return;
                }
            }
        })?;
    Ok(pieces)
}
