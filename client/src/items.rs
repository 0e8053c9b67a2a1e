//! Streams of records, output and events.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use escher_protocol::message::Event;
use escher_protocol::{ExecutionRecord, Item, OutputChunk};

use crate::connection::Inbox;
use crate::error::{Error, Violation};

/// Executions, newest first.
pub type Executions = Items<ExecutionRecord>;
/// Pieces of a command's output, in the order of arrival.
pub type Output = Items<OutputChunk>;
/// Events, in the order in which they happened.
pub type Events = Items<Event>;

/// A stream of `T` from escherd.
///
/// It holds at most the connection's window of elements that nobody has taken; escherd then waits with
/// the next one, and everything else on the connection goes on. Dropping it ends it on both sides.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is read"]
pub struct Items<T> {
    inbox: Inbox,
    element: PhantomData<fn() -> T>,
}

impl<T> From<Inbox> for Items<T> {
    fn from(inbox: Inbox) -> Self {
        Items {
            inbox,
            element: PhantomData,
        }
    }
}

impl<T: Element> Items<T> {
    /// The next element; `None` at the end. An error is the last that a stream gives.
    ///
    /// Cancel safe: an element is given to whoever awaits it to the end, or to the next call.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        self.inbox.poll_next(cx).map(|next| {
            next.map(|item| {
                let item = item?;
                let got = kind(&item);
                T::from_item(item).ok_or(Error::Protocol(Violation::WrongAnswer {
                    wanted: T::WANTED,
                    got,
                }))
            })
        })
    }
}

impl<T: Element> futures_core::Stream for Items<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

pub(crate) fn kind(item: &Item) -> &'static str {
    match item {
        Item::Execution(_) => "an execution",
        Item::Output(_) => "output",
        Item::Event(_) => "an event",
    }
}

use sealed::Element;

mod sealed {
    use super::{Event, ExecutionRecord, Item, OutputChunk};

    /// What streams are made of.
    pub trait Element: Sized {
        const WANTED: &'static str;
        fn from_item(item: Item) -> Option<Self>;
    }

    impl Element for ExecutionRecord {
        const WANTED: &'static str = "executions";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Execution(record) => Some(*record),
                _ => None,
            }
        }
    }

    impl Element for OutputChunk {
        const WANTED: &'static str = "output";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Output(chunk) => Some(chunk),
                _ => None,
            }
        }
    }

    impl Element for Event {
        const WANTED: &'static str = "events";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Event(event) => Some(event),
                _ => None,
            }
        }
    }
}
