//! Feeding a command's standard input.

use std::collections::VecDeque;
use std::sync::Arc;

use escher_protocol::message::MAX_STDIN_BYTES;
use escher_protocol::{Blob, Request, Target};

use crate::client::{Client, accepted_offset};
use crate::connection::{Connection, PendingReply};
use crate::error::Error;

/// Pieces under way at once: enough to hide the way there and back, few enough to feel a command that
/// does not read. They are kept until they are acknowledged, so this bounds memory, too.
const PIECES_IN_FLIGHT: usize = 4;

/// Writes one command's standard input from the front, keeping track of the offset.
///
/// Without [`finish`](StdinWriter::finish) the input stays open. When a call fails, or its future is
/// dropped, [`offset`](StdinWriter::offset) tells how much was handed over. When the connection is lost,
/// what was not acknowledged is sent again over the next one; escherd passes over what it has.
#[derive(Debug)]
pub struct StdinWriter {
    client: Client,
    target: Target,
    /// Whether `target` means the same execution for ever.
    pinned: bool,
    offset: u64,
    /// The one that the pieces in flight were sent over; `None` before the first.
    connection: Option<Arc<Connection>>,
    in_flight: VecDeque<Piece>,
}

/// A piece that was handed over and is not acknowledged.
#[derive(Debug)]
struct Piece {
    offset: u64,
    data: Blob,
    end: bool,
    /// `None` while it is to be sent again.
    pending: Option<PendingReply>,
}

impl StdinWriter {
    pub(crate) fn new(client: Client, target: Target, offset: u64) -> Self {
        StdinWriter {
            client,
            target,
            pinned: false,
            offset,
            connection: None,
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
    /// [`Error::Api`] with `stdin-closed` or `not-running` when the command takes no more. After a lost
    /// connection it may have taken what was handed over before, too.
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
        if !self.pinned {
            self.target = self.client.pin(self.target.clone()).await?;
            self.pinned = true;
        }
        let mut piece = Piece {
            offset: self.offset,
            data: piece.into(),
            end,
            pending: None,
        };
        let length = piece.data.len() as u64;
        loop {
            // Those before it first: a gap would be refused.
            let connection = self.resend().await?;
            match send(&connection, &self.target, &mut piece).await {
                Ok(()) => {
                    self.offset += length;
                    self.in_flight.push_back(piece);
                    return Ok(());
                }
                Err(error) if error.is_loss() => self.lost(&connection, error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until at most so many pieces are not acknowledged.
    async fn settle(&mut self, most: usize) -> Result<(), Error> {
        while self.in_flight.len() > most {
            let connection = self.resend().await?;
            let Some(pending) = self.in_flight.front_mut().and_then(|p| p.pending.as_mut()) else {
                continue;
            };
            match pending.response().await {
                Err(error) if error.is_loss() => self.lost(&connection, error).await?,
                response => {
                    self.in_flight.pop_front();
                    accepted_offset(response?)?;
                }
            }
        }
        Ok(())
    }

    /// Sends what is to be sent again; the connection over which everything is under way then.
    async fn resend(&mut self) -> Result<Arc<Connection>, Error> {
        loop {
            let connection = match &self.connection {
                Some(connection) => Arc::clone(connection),
                None => self.client.session().connection().await?,
            };
            self.connection = Some(Arc::clone(&connection));
            let mut waiting = self.in_flight.iter_mut().filter(|p| p.pending.is_none());
            let sent = async {
                for piece in &mut waiting {
                    send(&connection, &self.target, piece).await?;
                }
                Ok(())
            };
            match sent.await {
                Ok(()) => return Ok(connection),
                Err(error) if Error::is_loss(&error) => self.lost(&connection, error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Has everything sent again over the connection that follows the lost one.
    async fn lost(&mut self, lost: &Arc<Connection>, why: Error) -> Result<(), Error> {
        let next = self.client.session().after(lost, why).await?;
        for piece in &mut self.in_flight {
            piece.pending = None;
        }
        self.connection = Some(next);
        Ok(())
    }
}

async fn send(
    connection: &Arc<Connection>,
    target: &Target,
    piece: &mut Piece,
) -> Result<(), Error> {
    let request = Request::WriteStdin {
        target: target.clone(),
        offset: piece.offset,
        data: piece.data.clone(),
        end: piece.end,
    };
    piece.pending = Some(connection.call(request).await?);
    Ok(())
}
