//! Writes the standard input of a command.

use std::collections::VecDeque;
use std::sync::Arc;

use escher_protocol::message::MAX_STDIN_BYTES;
use escher_protocol::{Blob, ErrorCode, Request, Target};

use crate::client::Client;
use crate::connection::{Connection, PendingResponse};
use crate::error::Error;
use crate::response::{accepted_offset, done};
use crate::stream::HeldStream;

/// How many pieces may be in flight: enough to hide the round trip, and few enough to notice soon
/// that a command does not read. Each is kept until it is acknowledged, so this bounds memory, too.
const MAX_PIECES_IN_FLIGHT: usize = 4;

/// # Standard input
/// Only executions that were submitted with [`StdinMode::Stream`](crate::StdinMode::Stream) take input.
impl Client {
    /// Returns a writer for a command's standard input, which starts at its first byte.
    ///
    /// Nothing is sent before the first [`StdinWriter::write`].
    pub fn stdin(&self, target: impl Into<Target>) -> StdinWriter {
        StdinWriter {
            client: self.clone(),
            target: target.into(),
            is_resolved: false,
            offset: 0,
            connection: None,
            in_flight: VecDeque::with_capacity(MAX_PIECES_IN_FLIGHT),
        }
    }

    /// Holds a command's standard input: no other client can hold it until the value is dropped. If the
    /// request says so, an input that nobody holds is lost after a time
    /// ([`ExecutionRequest::stdin_lost`](crate::ExecutionRequest::stdin_lost)).
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status); `stdin-closed` if the input is over, `stdin-held`
    /// if another client holds it.
    ///
    /// # Cancellation
    /// If the future is dropped, the input is not held.
    pub async fn hold_stdin(&self, target: impl Into<Target>) -> Result<StdinHold, Error> {
        let target = self.resolve(target.into()).await?;
        let request = Request::HoldStdin(target.clone());
        let mut stream = HeldStream::open(self.transport(), request).await?;
        match stream.next().await {
            Some(held) => Ok(StdinHold {
                offset: held?.0,
                client: self.clone(),
                target,
                stream,
            }),
            None => Err(Error::unexpected_response("an offset", "an end")),
        }
    }

    /// Says that the rest of a command's standard input cannot be had. Then the execution is cancelled, or
    /// its input ends, as its [request](crate::ExecutionRequest::stdin_lost) says.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status).
    ///
    /// # Cancellation
    /// If the future is dropped, the input may or may not be lost.
    pub async fn lose_stdin(&self, target: impl Into<Target>) -> Result<(), Error> {
        let target = self.resolve(target.into()).await?;
        done(self.call(Request::LoseStdin(target)).await?, "a loss")
    }

    /// Writes one piece of at most 64 KiB of a command's standard input, and waits until the command's
    /// shim has it.
    ///
    /// `offset` is the position of `data`, counted from the first byte of the input; bytes that have
    /// arrived before are skipped. `end` closes the input after `data`. Returns the number of bytes
    /// that have arrived in total. [`stdin`](Client::stdin) does this for an input of any length.
    ///
    /// # Errors
    /// The same as [`get_status`](Client::get_status); `stdin-closed` and `not-running` if the command
    /// takes no more input, `stdin-offset` if `offset` leaves a gap.
    ///
    /// # Cancellation
    /// If the future is dropped, the piece may or may not have been written. Writing it again is safe.
    pub async fn write_stdin(
        &self,
        target: impl Into<Target>,
        offset: u64,
        data: impl Into<Blob>,
        end: bool,
    ) -> Result<u64, Error> {
        let request = Request::WriteStdin {
            target: self.resolve(target.into()).await?,
            offset,
            data: data.into(),
            end,
        };
        accepted_offset(self.call(request).await?)
    }
}

/// A standard input that this client holds. Made by [`Client::hold_stdin`].
///
/// The hold continues on the next connection when one is lost, while [`over`](StdinHold::over) is awaited.
#[derive(Debug)]
pub struct StdinHold {
    client: Client,
    target: Target,
    stream: HeldStream,
    offset: u64,
}

impl StdinHold {
    /// Returns a writer that continues the input where it was when the hold began.
    pub fn writer(&self) -> StdinWriter {
        StdinWriter {
            offset: self.offset,
            ..self.client.stdin(self.target.clone())
        }
    }

    /// Waits until the input is over: it was ended, or the command has closed it.
    ///
    /// # Errors
    /// [`Error::Api`] with `stdin-held` if another client has held it while the connection was lost;
    /// [`Error::Disconnected`] and [`Error::DaemonUnavailable`].
    ///
    /// # Cancellation
    /// Cancel safe.
    pub async fn over(&mut self) -> Result<(), Error> {
        loop {
            match self.stream.next().await {
                // On another connection.
                Some(Ok(_)) => {}
                Some(Err(Error::Api(error))) if error.code == ErrorCode::STDIN_CLOSED => {
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }
}

/// Writes a command's standard input. Made by [`Client::stdin`] and [`StdinHold::writer`].
///
/// The input stays open until [`finish`](StdinWriter::finish); dropping the writer does not close it.
/// When the connection is lost, unacknowledged data is sent again on the next one, and escherd skips
/// what it has.
#[derive(Debug)]
pub struct StdinWriter {
    client: Client,
    target: Target,
    /// Whether `target` is an id, which always means the same execution.
    is_resolved: bool,
    offset: u64,
    /// The connection that the pieces in flight were sent on; `None` before the first.
    connection: Option<Arc<Connection>>,
    in_flight: VecDeque<Piece>,
}

/// A piece of input that is not acknowledged.
#[derive(Debug)]
struct Piece {
    offset: u64,
    data: Blob,
    end: bool,
    /// `None` if it has to be sent again.
    response: Option<PendingResponse>,
}

impl StdinWriter {
    /// Returns the length of the input so far in bytes.
    ///
    /// After an error or a dropped future it tells how much of the data was taken over. All of it is
    /// acknowledged only after [`finish`](StdinWriter::finish).
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Sends all of `data`. Waits while the command is several pieces of 64 KiB behind.
    ///
    /// # Errors
    /// [`Error::Api`] with `stdin-closed` or `not-running` if the command takes no more input. The
    /// error may concern data of an earlier call, which returns before its data is acknowledged.
    ///
    /// # Cancellation
    /// If the future is dropped, a part of `data` may have been sent. Continue from
    /// [`offset`](StdinWriter::offset).
    pub async fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        for piece in data.chunks(MAX_STDIN_BYTES) {
            self.wait_for_capacity(MAX_PIECES_IN_FLIGHT - 1).await?;
            self.send_piece(piece, false).await?;
        }
        Ok(())
    }

    /// Waits until everything that was written is acknowledged.
    ///
    /// # Errors
    /// The same as [`write`](StdinWriter::write).
    ///
    /// # Cancellation
    /// Dropping the future has no effect.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.wait_for_capacity(0).await
    }

    /// Closes the input, and waits until all of it is acknowledged. Returns its length in bytes.
    ///
    /// # Errors
    /// The same as [`write`](StdinWriter::write).
    ///
    /// # Cancellation
    /// If the future is dropped, the input may or may not be closed.
    pub async fn finish(mut self) -> Result<u64, Error> {
        self.send_piece(&[], true).await?;
        self.wait_for_capacity(0).await?;
        Ok(self.offset)
    }

    async fn send_piece(&mut self, data: &[u8], end: bool) -> Result<(), Error> {
        if !self.is_resolved {
            self.target = self.client.resolve(self.target.clone()).await?;
            self.is_resolved = true;
        }
        let mut piece = Piece {
            offset: self.offset,
            data: data.into(),
            end,
            response: None,
        };
        let length = piece.data.len() as u64;
        loop {
            // Earlier pieces first: escherd refuses a gap.
            let connection = self.resend().await?;
            match send(&connection, &self.target, &mut piece).await {
                Ok(()) => {
                    self.offset += length;
                    self.in_flight.push_back(piece);
                    return Ok(());
                }
                Err(error) if error.is_connection_loss() => {
                    self.switch_connection(&connection, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until at most `max_in_flight` pieces are not acknowledged.
    async fn wait_for_capacity(&mut self, max_in_flight: usize) -> Result<(), Error> {
        while self.in_flight.len() > max_in_flight {
            let connection = self.resend().await?;
            let Some(response) = self.in_flight.front_mut().and_then(|p| p.response.as_mut())
            else {
                continue;
            };
            match response.receive().await {
                Err(error) if error.is_connection_loss() => {
                    self.switch_connection(&connection, error).await?;
                }
                response => {
                    self.in_flight.pop_front();
                    accepted_offset(response?)?;
                }
            }
        }
        Ok(())
    }

    /// Sends the pieces that have to be sent again. Returns the connection that all are in flight on.
    async fn resend(&mut self) -> Result<Arc<Connection>, Error> {
        loop {
            let connection = match &self.connection {
                Some(connection) => Arc::clone(connection),
                None => self.client.transport().current_connection().await?,
            };
            self.connection = Some(Arc::clone(&connection));
            let mut unsent = self.in_flight.iter_mut().filter(|p| p.response.is_none());
            let sent = async {
                for piece in &mut unsent {
                    send(&connection, &self.target, piece).await?;
                }
                Ok(())
            };
            match sent.await {
                Ok(()) => return Ok(connection),
                Err(error) if Error::is_connection_loss(&error) => {
                    self.switch_connection(&connection, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the next connection, and marks all pieces to be sent again on it.
    async fn switch_connection(
        &mut self,
        lost: &Arc<Connection>,
        cause: Error,
    ) -> Result<(), Error> {
        let next = self.client.transport().next_connection(lost, cause).await?;
        for piece in &mut self.in_flight {
            piece.response = None;
        }
        self.connection = Some(next);
        Ok(())
    }
}

async fn send(connection: &Connection, target: &Target, piece: &mut Piece) -> Result<(), Error> {
    let request = Request::WriteStdin {
        target: target.clone(),
        offset: piece.offset,
        data: piece.data.clone(),
        end: piece.end,
    };
    piece.response = Some(connection.call(request).await?);
    Ok(())
}
