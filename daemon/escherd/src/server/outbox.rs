//! Sending frames to a client.

use std::sync::Mutex;

use bytes::BytesMut;
use escher_protocol::frame::FrameCodec;
use escher_protocol::message::Item;
use escher_protocol::output::MAX_CHUNK_BYTES;
use escher_protocol::{ApiError, ClientFrame, ErrorCode, RequestId, ServerFrame};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc};

use super::memory::{Charge, UserMemory};

/// Initial and largest window of a stream, in payload bytes.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Maximum number of frames that wait to be written. With more, senders wait.
const MAX_WAITING_FRAMES: usize = 4;

/// Memory of a stream that goes on: what was read for its next items and not sent yet.
pub(super) const STREAM_BYTES: usize = MAX_CHUNK_BYTES + 64 * 1024;

/// Frames are joined for one write up to about this many bytes.
const JOINED_WRITE_BYTES: usize = 64 * 1024;

/// Sends frames to a client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    frames: mpsc::Sender<OutgoingFrame>,
}

/// An encoded frame. Its memory is charged until it is written.
#[derive(Debug)]
pub(super) struct OutgoingFrame {
    bytes: BytesMut,
    charge: Charge,
}

/// The error that the client has disconnected.
#[derive(Debug)]
pub(super) struct Disconnected;

impl Outbox {
    pub(super) fn new() -> (Self, mpsc::Receiver<OutgoingFrame>) {
        let (frames, waiting) = mpsc::channel(MAX_WAITING_FRAMES);
        (Outbox { frames }, waiting)
    }

    /// Sends a frame, whose memory is charged to `memory`, and returns the length of its payload in
    /// bytes. A frame that is too long is replaced by an error for the same request.
    pub(super) async fn send(
        &self,
        frame: &ServerFrame,
        memory: &mut Charge,
    ) -> Result<usize, Disconnected> {
        let permit = self.frames.reserve().await.map_err(|_| Disconnected)?;
        let (encoded, length) = match encode(frame) {
            Ok(encoded) => encoded,
            Err(error) => {
                let error = ApiError::new(ErrorCode::INTERNAL, error.to_string());
                encode(&error_in_place_of(frame, error)).map_err(|_| Disconnected)?
            }
        };
        permit.send(OutgoingFrame {
            charge: memory.split(encoded.len()),
            bytes: encoded,
        });
        Ok(length)
    }
}

fn encode(frame: &impl Serialize) -> Result<(BytesMut, usize), escher_protocol::frame::FrameError> {
    let mut buffer = BytesMut::new();
    let codec = FrameCodec::<ClientFrame>::established();
    let length = codec.encode_frame(frame, &mut buffer)?;
    Ok((buffer, length))
}

/// Returns the frame that ends the request of `frame` with an error.
fn error_in_place_of(frame: &ServerFrame, error: ApiError) -> ServerFrame {
    match frame {
        ServerFrame::Reply { id, .. } => ServerFrame::Reply {
            id: *id,
            result: Err(error),
        },
        ServerFrame::Item { id, .. } | ServerFrame::End { id, .. } => ServerFrame::End {
            id: *id,
            result: Err(error),
        },
    }
}

/// Writes frames until all senders are dropped or the client has disconnected.
pub(super) async fn write_frames(
    mut stream: OwnedWriteHalf,
    mut waiting: mpsc::Receiver<OutgoingFrame>,
) {
    while let Some(mut frame) = waiting.recv().await {
        let mut charges = vec![frame.charge];
        while frame.bytes.len() < JOINED_WRITE_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            frame.bytes.unsplit(next.bytes);
            charges.push(next.charge);
        }
        if stream.write_all(&frame.bytes).await.is_err() {
            return; // Senders notice the closed channel.
        }
    }
}

/// The window of a stream: how many bytes it may still send. See [`ClientFrame::Grant`].
#[derive(Debug)]
pub(super) struct Window {
    bytes_left: Mutex<i64>,
    granted: Notify,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            bytes_left: Mutex::new(i64::from(STREAM_WINDOW_BYTES)),
            granted: Notify::new(),
        }
    }
}

impl Window {
    /// Adds to the window, up to its initial size.
    pub(super) fn grant(&self, bytes: u32) {
        self.change(|left| (left + i64::from(bytes)).min(i64::from(STREAM_WINDOW_BYTES)));
        self.granted.notify_one();
    }

    fn spend(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.change(|left| left.saturating_sub(bytes));
    }

    /// Changes the number of bytes that are left, and returns the new one.
    fn change(&self, change: impl FnOnce(i64) -> i64) -> i64 {
        let left = self.bytes_left.lock();
        let mut left = left.unwrap_or_else(std::sync::PoisonError::into_inner);
        *left = change(*left);
        *left
    }

    /// Waits until the stream may send.
    async fn wait_until_open(&self) {
        while self.change(|left| left) <= 0 {
            // A stream has one sender, for which an earlier notification is stored.
            self.granted.notified().await;
        }
    }
}

/// Sends the items of one stream.
pub(super) struct ItemSender<'a> {
    pub(super) id: RequestId,
    pub(super) outbox: &'a Outbox,
    pub(super) window: &'a Window,
    pub(super) memory: &'a UserMemory,
    /// The memory of what was read and not sent yet.
    pub(super) charge: Charge,
}

impl ItemSender<'_> {
    /// Waits until the window allows an item. If the caller has to read it into memory, then waits
    /// for room, too.
    pub(super) async fn wait_until_sendable(&mut self, must_read: bool) {
        self.window.wait_until_open().await;
        if must_read {
            // Given back first: a stream that waits for room keeps nobody from having it.
            self.charge = self.memory.nothing();
            self.charge = self.memory.charge(STREAM_BYTES).await;
        }
    }

    /// Sends an item, once the window allows it.
    pub(super) async fn send(&mut self, item: Item) -> Result<(), Disconnected> {
        self.window.wait_until_open().await;
        let id = self.id;
        let frame = ServerFrame::Item { id, item };
        let length = self.outbox.send(&frame, &mut self.charge).await?;
        self.window.spend(length);
        Ok(())
    }
}
