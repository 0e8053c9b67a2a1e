//! The elements of one stream, and leave to send more as they are taken.

use std::task::{Context, Poll};

use escher_protocol::Item;

use super::Ticket;
use super::routes::{Delivery, Feed};
use crate::error::Error;

/// A stream as it arrives.
#[derive(Debug)]
pub(crate) struct Inbox {
    feed: Feed,
    /// `None` once the stream is over.
    ticket: Option<Ticket>,
    /// Payload bytes taken out and not granted back yet.
    taken: u32,
}

impl Inbox {
    pub(super) fn new(feed: Feed, ticket: Ticket) -> Self {
        Inbox {
            feed,
            ticket: Some(ticket),
            taken: 0,
        }
    }

    /// The next element; `None` at the end, and for ever after it or after an error.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Item, Error>>> {
        let Some(ticket) = &self.ticket else {
            return Poll::Ready(None);
        };
        let end = match self.feed.queue.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Delivery::Item(item, length))) => {
                self.take(length);
                return Poll::Ready(Some(Ok(item)));
            }
            Poll::Ready(Some(Delivery::End(Ok(())))) => None,
            Poll::Ready(Some(Delivery::End(Err(error)))) => Some(Err(error.into())),
            Poll::Ready(None) => Some(Err(ticket.connection_end())),
        };
        self.ticket = None;
        Poll::Ready(end)
    }

    /// Grants back in batches of a quarter of the window: few enough frames, and early enough that
    /// escherd need not stop.
    fn take(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.taken = self.taken.saturating_add(length);
        if self.taken >= self.feed.window / 4
            && let Some(ticket) = &self.ticket
        {
            self.feed.credit.add(self.taken);
            ticket.grant(self.taken);
            self.taken = 0;
        }
    }
}
