//! Receives the items of one stream, and lets escherd send more as they are consumed.

use std::task::{Context, Poll};

use escher_protocol::Item;

use super::in_flight::InFlightRequest;
use super::request_table::{StreamMessage, StreamReceiver};
use crate::error::Error;

/// The items of the stream that answers a request.
#[derive(Debug)]
pub(crate) struct ItemReceiver {
    receiver: StreamReceiver,
    /// `None` once the stream has ended.
    request: Option<InFlightRequest>,
    /// Payload bytes that were consumed and not granted back yet.
    consumed: u32,
}

impl ItemReceiver {
    pub(super) fn new(receiver: StreamReceiver, request: InFlightRequest) -> Self {
        ItemReceiver {
            receiver,
            request: Some(request),
            consumed: 0,
        }
    }

    /// Polls for the next item. Returns `None` at the end of the stream, and after an error.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Item, Error>>> {
        let Some(request) = &self.request else {
            return Poll::Ready(None);
        };
        let end = match self.receiver.messages.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(StreamMessage::Item(item, length))) => {
                self.consume(length);
                return Poll::Ready(Some(Ok(item)));
            }
            Poll::Ready(Some(StreamMessage::End(Ok(())))) => None,
            Poll::Ready(Some(StreamMessage::End(Err(error)))) => Some(Err(error.into())),
            Poll::Ready(None) => Some(Err(request.close_reason())),
        };
        self.request = None;
        Poll::Ready(end)
    }

    /// Grants consumed bytes back in batches of a quarter of the window: large enough to need few
    /// frames, and early enough that escherd does not have to stop sending.
    fn consume(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.consumed = self.consumed.saturating_add(length);
        if self.consumed >= self.receiver.window / 4
            && let Some(request) = &self.request
        {
            self.receiver.window_left.add(self.consumed);
            request.grant(self.consumed);
            self.consumed = 0;
        }
    }
}
