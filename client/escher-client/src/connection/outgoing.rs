//! Frames that wait to be written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use escher_protocol::frame::{FrameCodec, FrameError};
use escher_protocol::{ClientFrame, RequestId, ServerFrame};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::error::Error;

/// Kept for the next batch at most; a larger buffer is given back to the allocator.
const KEPT_BYTES: usize = 256 * 1024;

/// Frames encoded one behind the other, in the order in which they were pushed. Pushing never waits.
#[derive(Debug)]
pub(super) struct Outgoing {
    batch: Mutex<Batch>,
    filled: Notify,
    codec: FrameCodec<ServerFrame>,
    limit: usize,
}

/// What is written in one go.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: BytesMut,
    /// Of abandoned requests. Held until the abandonment is written, so that requests made and dropped
    /// in a loop wait for the socket instead of piling up here.
    permits: Vec<OwnedSemaphorePermit>,
}

impl Outgoing {
    /// For frames with a payload of `limit` bytes at most.
    pub(super) fn new(limit: usize) -> Self {
        Outgoing {
            batch: Mutex::default(),
            filled: Notify::new(),
            codec: FrameCodec::established(),
            limit,
        }
    }

    /// Appends a frame, or nothing if it is too large.
    pub(super) fn push(&self, frame: &ClientFrame) -> Result<(), Error> {
        self.append(frame, &mut self.lock())
    }

    /// Appends that nobody waits for `id` any more, and keeps `permit` until that is written.
    pub(super) fn push_abandon(&self, id: RequestId, permit: Option<OwnedSemaphorePermit>) {
        let mut batch = self.lock();
        if self
            .append(&ClientFrame::Abandon { id }, &mut batch)
            .is_ok()
        {
            batch.permits.extend(permit);
        }
    }

    fn append(&self, frame: &ClientFrame, batch: &mut Batch) -> Result<(), Error> {
        let before = batch.bytes.len();
        let limit = self.limit;
        let too_large = match self.codec.encode_frame(frame, &mut batch.bytes) {
            Ok(length) if length <= limit => None,
            Ok(length) => Some((length, limit)),
            Err(FrameError::TooLarge { length, limit }) => Some((length, limit)),
            // The protocol's own types always encode; what is left is not having the room.
            Err(_) => Some((usize::MAX, limit)),
        };
        if let Some((length, limit)) = too_large {
            batch.bytes.truncate(before);
            return Err(Error::RequestTooLarge { length, limit });
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until there is something, and takes all of it.
    pub(super) async fn take(&self) -> Batch {
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

    /// Ends with a batch that is written, and keeps its memory for another.
    pub(super) fn recycle(&self, mut written: Batch) {
        written.permits.clear();
        written.bytes.clear();
        let mut batch = self.lock();
        if batch.bytes.is_empty() && written.bytes.capacity() <= KEPT_BYTES {
            batch.bytes = written.bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
