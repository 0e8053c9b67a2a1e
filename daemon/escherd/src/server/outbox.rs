//! Frames on their way to one client.

use std::sync::Mutex;

use bytes::BytesMut;
use escher_protocol::frame::FrameCodec;
use escher_protocol::message::Item;
use escher_protocol::{ApiError, ClientFrame, ErrorCode, RequestId, ServerFrame};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc};

/// Payload bytes of a stream that the client has not granted back.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Frames that wait to be written. Who has more waits until there is room, holding one frame.
const MAX_WAITING_FRAMES: usize = 4;

/// Small frames are written together up to this many bytes.
const WRITE_TOGETHER_BYTES: usize = 64 * 1024;

/// The way to one client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    frames: mpsc::Sender<BytesMut>,
}

/// The client is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Outbox {
    pub(super) fn new() -> (Self, mpsc::Receiver<BytesMut>) {
        let (frames, waiting) = mpsc::channel(MAX_WAITING_FRAMES);
        (Outbox { frames }, waiting)
    }

    /// Sends a frame and returns the length of its payload. One that does not fit becomes an error to
    /// the same request.
    pub(super) async fn send(&self, frame: &ServerFrame) -> Result<usize, Gone> {
        let place = self.frames.reserve().await.map_err(|_| Gone)?;
        let (encoded, length) = match encode(frame) {
            Ok(encoded) => encoded,
            Err(error) => {
                let error = ApiError::new(ErrorCode::INTERNAL, error.to_string());
                encode(&failure(frame, error)).map_err(|_| Gone)?
            }
        };
        place.send(encoded);
        Ok(length)
    }
}

fn encode(
    message: &impl Serialize,
) -> Result<(BytesMut, usize), escher_protocol::frame::FrameError> {
    let mut buffer = BytesMut::new();
    let codec = FrameCodec::<ClientFrame>::established();
    let length = codec.encode_frame(message, &mut buffer)?;
    Ok((buffer, length))
}

fn failure(frame: &ServerFrame, error: ApiError) -> ServerFrame {
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

/// Writes frames until there are no more senders or the client is gone.
pub(super) async fn write_frames(
    mut stream: OwnedWriteHalf,
    mut waiting: mpsc::Receiver<BytesMut>,
) {
    while let Some(mut frames) = waiting.recv().await {
        while frames.len() < WRITE_TOGETHER_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            frames.unsplit(next);
        }
        if stream.write_all(&frames).await.is_err() {
            return; // Senders notice by the closed channel.
        }
    }
}

/// What a stream may still send. See [`ClientFrame::Grant`].
#[derive(Debug)]
pub(super) struct Window {
    left: Mutex<i64>,
    granted: Notify,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            left: Mutex::new(i64::from(STREAM_WINDOW_BYTES)),
            granted: Notify::new(),
        }
    }
}

impl Window {
    /// The client has made room. Never for more than the whole window.
    pub(super) fn grant(&self, bytes: u32) {
        self.change(|left| (left + i64::from(bytes)).min(i64::from(STREAM_WINDOW_BYTES)));
        self.granted.notify_one();
    }

    fn spend(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.change(|left| left.saturating_sub(bytes));
    }

    fn change(&self, change: impl FnOnce(i64) -> i64) -> i64 {
        let left = self.left.lock();
        let mut left = left.unwrap_or_else(std::sync::PoisonError::into_inner);
        *left = change(*left);
        *left
    }

    /// Waits until there is something left.
    async fn open(&self) {
        while self.change(|left| left) <= 0 {
            // One stream has one sender, and a grant that comes first is kept for it.
            self.granted.notified().await;
        }
    }
}

/// The items of one stream.
pub(super) struct Items<'a> {
    pub(super) id: RequestId,
    pub(super) outbox: &'a Outbox,
    pub(super) window: &'a Window,
}

impl Items<'_> {
    /// Waits until the client wants more, so that what is to be sent need not be held meanwhile.
    pub(super) async fn ready(&self) {
        self.window.open().await;
    }

    /// Sends one, once the client wants it.
    pub(super) async fn send(&self, item: Item) -> Result<(), Gone> {
        self.window.open().await;
        let id = self.id;
        let length = self.outbox.send(&ServerFrame::Item { id, item }).await?;
        self.window.spend(length);
        Ok(())
    }
}
