//! Forwards escherctl's standard input to a command.
//!
//! A thread reads, because reading from a terminal or a pipe may block forever. It is abandoned
//! when the command ends before its input does.

use std::io;
use std::thread;

use escher_client::StdinWriter;
use escher_client::protocol::message::MAX_STDIN_BYTES;
use tokio::sync::mpsc;

use super::unbuffered::{duplicate, read};
use crate::failure::Failure;

/// Capacity of the queue between the thread and the connection, in pieces of 64 KiB.
const QUEUE_CAPACITY: usize = 4;

/// Forwards standard input to `writer` until either ends.
pub(crate) fn forward(writer: StdinWriter) -> Result<(), Failure> {
    let cannot_read = |error| Failure::system("cannot read standard input", error);
    let mut input = duplicate(io::stdin()).map_err(cannot_read)?;
    let (queue, pieces) = mpsc::channel::<Vec<u8>>(QUEUE_CAPACITY);
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            let mut buffer = vec![0; MAX_STDIN_BYTES];
            // A read error counts as the end of the input.
            while let Ok(length @ 1..) = read(&mut input, &mut buffer) {
                if queue.blocking_send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        })
        .map_err(cannot_read)?;
    tokio::spawn(write_pieces(writer, pieces));
    Ok(())
}

async fn write_pieces(mut writer: StdinWriter, mut pieces: mpsc::Receiver<Vec<u8>>) {
    while let Some(piece) = pieces.recv().await {
        // Either the command has closed its input, which is no failure, or the connection is lost,
        // which is reported by the request that waits for the command's end.
        if writer.write(&piece).await.is_err() {
            return;
        }
    }
    let _ = writer.finish().await;
}
