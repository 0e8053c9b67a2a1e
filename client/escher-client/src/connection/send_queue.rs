//! The queue of encoded frames that wait to be written to the socket.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use escher_protocol::blob::MAX_LIST_ITEMS;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::{ClientFrame, RequestId, ServerFrame};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::error::Error;

/// The largest buffer that is reused for the next batch. A larger one is freed.
const MAX_REUSED_BYTES: usize = 256 * 1024;

/// Encoded frames in the order in which they were pushed. Pushing never waits.
#[derive(Debug)]
pub(super) struct SendQueue {
    batch: Mutex<WriteBatch>,
    filled: Notify,
    codec: FrameCodec<ServerFrame>,
    max_frame_bytes: usize,
}

/// Frames that are written together.
#[derive(Debug, Default)]
pub(super) struct WriteBatch {
    pub(super) bytes: BytesMut,
    /// The permits of abandoned requests. They are released when the `Abandon` frames are written, so
    /// that a loop that starts and drops requests waits for the socket instead of filling this queue.
    permits: Vec<OwnedSemaphorePermit>,
}

impl SendQueue {
    pub(super) fn new(max_frame_bytes: usize) -> Self {
        SendQueue {
            batch: Mutex::default(),
            filled: Notify::new(),
            codec: FrameCodec::established(),
            max_frame_bytes,
        }
    }

    /// Appends a frame. On error, which means that it or a list in it is too long, nothing is appended.
    pub(super) fn push(&self, frame: &ClientFrame) -> Result<(), Error> {
        self.append(frame, &mut self.lock())
    }

    /// Appends an `Abandon` frame for request `id`, and holds `permit` until it is written.
    pub(super) fn push_abandon(&self, id: RequestId, permit: Option<OwnedSemaphorePermit>) {
        let mut batch = self.lock();
        if self
            .append(&ClientFrame::Abandon { id }, &mut batch)
            .is_ok()
        {
            batch.permits.extend(permit);
        }
    }

    fn append(&self, frame: &ClientFrame, batch: &mut WriteBatch) -> Result<(), Error> {
        // escherd could not tell which request it was, and would end the connection for all.
        if let ClientFrame::Request { body, .. } = frame {
            let (length, limit) = (body.longest_list(), MAX_LIST_ITEMS);
            if length > limit {
                return Err(Error::ListTooLong { length, limit });
            }
        }
        let previous_length = batch.bytes.len();
        let limit = frame.max_payload_bytes().min(self.max_frame_bytes);
        let too_large = match self.codec.encode_frame(frame, &mut batch.bytes) {
            Ok(length) if length <= limit => None,
            Ok(length) => Some((length, limit)),
            Err(FrameError::TooLarge { length, limit }) => Some((length, limit)),
            // The protocol's own types always encode; only the size is left as a reason.
            Err(_) => Some((usize::MAX, limit)),
        };
        if let Some((length, limit)) = too_large {
            batch.bytes.truncate(previous_length);
            return Err(Error::RequestTooLarge { length, limit });
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until the queue is not empty, and takes everything in it.
    pub(super) async fn next_batch(&self) -> WriteBatch {
        loop {
            {
                let mut batch = self.lock();
                if !batch.bytes.is_empty() {
                    return std::mem::take(&mut *batch);
                }
            }
            self.filled.notified().await;
        }
    }

    /// Releases the permits of a written batch, and keeps its buffer for the next one.
    pub(super) fn recycle(&self, mut written: WriteBatch) {
        written.permits.clear();
        written.bytes.clear();
        let mut batch = self.lock();
        if batch.bytes.is_empty() && written.bytes.capacity() <= MAX_REUSED_BYTES {
            batch.bytes = written.bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, WriteBatch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
