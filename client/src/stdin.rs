//! Feeding a command's standard input.

use std::collections::VecDeque;

use escher_protocol::Target;
use escher_protocol::message::MAX_STDIN_BYTES;

use crate::client::{Client, accepted_offset};
use crate::connection::PendingReply;
use crate::error::Error;

/// Pieces under way at once: enough to hide the way there and back, few enough to feel a command that
/// does not read.
const PIECES_IN_FLIGHT: usize = 4;

/// Writes one command's standard input from the front, keeping track of the offset.
///
/// Without [`finish`](StdinWriter::finish) the input stays open. When a call fails, or its future is
/// dropped, [`offset`](StdinWriter::offset) tells how much was handed over.
#[derive(Debug)]
pub struct StdinWriter {
    client: Client,
    target: Target,
    offset: u64,
    in_flight: VecDeque<PendingReply>,
}

impl StdinWriter {
    pub(crate) fn new(client: Client, target: Target, offset: u64) -> Self {
        StdinWriter {
            client,
            target,
            offset,
            in_flight: VecDeque::with_capacity(PIECES_IN_FLIGHT),
        }
    }

    /// Bytes handed over so far, counted from the first byte ever written.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Hands over all of `data`; waits while the command lags behind by a few pieces of 64 KiB.
    ///
    /// # Errors
    /// [`Error::Api`] with `stdin-closed` or `not-running` when the command takes no more.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        for piece in data.chunks(MAX_STDIN_BYTES) {
            self.settle(PIECES_IN_FLIGHT - 1).await?;
            self.start(piece, false).await?;
        }
        Ok(())
    }

    /// Ends the input, and waits until everything has arrived. Returns its length in bytes.
    ///
    /// # Errors
    /// As [`write`](StdinWriter::write).
    pub async fn finish(mut self) -> Result<u64, Error> {
        self.start(&[], true).await?;
        self.settle(0).await?;
        Ok(self.offset)
    }

    async fn start(&mut self, piece: &[u8], end: bool) -> Result<(), Error> {
        let (target, data) = (self.target.clone(), piece.into());
        let pending = self
            .client
            .start_write_stdin(target, self.offset, data, end)
            .await?;
        self.offset += piece.len() as u64;
        self.in_flight.push_back(pending);
        Ok(())
    }

    /// Waits until at most so many pieces are not acknowledged.
    async fn settle(&mut self, most: usize) -> Result<(), Error> {
        while self.in_flight.len() > most
            && let Some(oldest) = self.in_flight.front_mut()
        {
            let response = oldest.response().await;
            self.in_flight.pop_front();
            accepted_offset(response?)?;
        }
        Ok(())
    }
}
