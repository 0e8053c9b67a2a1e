//! escherctl's standard input to the command's.
//!
//! A thread reads, because a terminal or a pipe may block for ever; it is left behind when the command
//! ends before its input does.

use std::io;
use std::thread;

use escher_client::StdinWriter;
use escher_client::protocol::message::MAX_STDIN_BYTES;
use tokio::sync::mpsc;

use super::descriptor::{direct, read};
use super::failure::Failure;

/// Pieces of 64 KiB between the reading thread and the connection.
const PIECES_WAITING: usize = 4;

/// Forwards standard input to `writer` until either ends.
pub(crate) fn forward(writer: StdinWriter) -> Result<(), Failure> {
    let cannot_read = |error| Failure::system("cannot read standard input", error);
    let mut input = direct(io::stdin()).map_err(cannot_read)?;
    let (queue, pieces) = mpsc::channel::<Vec<u8>>(PIECES_WAITING);
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            let mut buffer = vec![0; MAX_STDIN_BYTES];
            // An input that cannot be read is at its end.
            while let Ok(length @ 1..) = read(&mut input, &mut buffer) {
                if queue.blocking_send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        })
        .map_err(cannot_read)?;
    tokio::spawn(feed(writer, pieces));
    Ok(())
}

async fn feed(mut writer: StdinWriter, mut pieces: mpsc::Receiver<Vec<u8>>) {
    while let Some(piece) = pieces.recv().await {
        // The command takes no more, which is its own affair; or the connection is gone, which is
        // told where its end is awaited.
        if writer.write(&piece).await.is_err() {
            return;
        }
    }
    let _ = writer.finish().await;
}
