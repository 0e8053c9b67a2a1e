//! Streams of records, output and events.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use escher_protocol::message::Event;
use escher_protocol::{ExecutionRecord, Item, OutputChunk, Request};

use crate::cursor::Cursor;
use crate::error::{Error, Violation};
use crate::session::{Opened, Session};

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
///
/// When the connection is lost, the stream goes on over the next one where it stood: no element is lost
/// and none comes twice. That happens while it is read.
#[must_use = "a stream does nothing unless it is read"]
pub struct Items<T> {
    session: Arc<Session>,
    cursor: Cursor,
    state: State,
    element: PhantomData<fn() -> T>,
}

enum State {
    /// Elements come.
    Open {
        opened: Opened,
        /// Whether another connection has begun the stream.
        resumed: bool,
    },
    /// The connection was lost; it will be this one.
    Reopening(Pin<Box<dyn Future<Output = Result<Opened, Error>> + Send + Sync>>),
    /// There is no more.
    Over,
}

impl<T: Element> Items<T> {
    /// The stream that answers `request`.
    pub(crate) async fn open(session: &Arc<Session>, request: Request) -> Result<Self, Error> {
        let opened = session.stream(request.clone()).await?;
        Ok(Items {
            session: Arc::clone(session),
            cursor: Cursor::new(request),
            state: State::Open {
                opened,
                resumed: false,
            },
            element: PhantomData,
        })
    }

    /// The next element; `None` at the end. An error is the last that a stream gives.
    ///
    /// Cancel safe: an element is given to whoever awaits it to the end, or to the next call.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        loop {
            let end = match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Reopening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(opened) => {
                        self.state = State::Open {
                            opened,
                            resumed: true,
                        };
                        continue;
                    }
                    Err(error) => Some(Err(error)),
                },
                // It was asked for without the limit: what is behind that was not asked for at first.
                State::Open { resumed: true, .. } if self.cursor.is_complete() => None,
                State::Open { opened, .. } => match ready!(opened.inbox.poll_next(cx)) {
                    Some(Ok(item)) => {
                        let got = kind(&item);
                        match T::from_item(item).map(T::understood) {
                            Some(Ok(element)) if element.pass(&mut self.cursor) => {
                                return Poll::Ready(Some(Ok(element)));
                            }
                            Some(Ok(_)) => continue,
                            Some(Err(error)) => Some(Err(error)),
                            None => Some(Err(Error::Protocol(Violation::WrongAnswer {
                                wanted: T::WANTED,
                                got,
                            }))),
                        }
                    }
                    Some(Err(error)) if error.is_loss() => {
                        if self.cursor.is_complete() {
                            None
                        } else {
                            let lost = Arc::clone(&opened.connection);
                            let session = Arc::clone(&self.session);
                            let request = self.cursor.request().clone();
                            self.state = State::Reopening(Box::pin(async move {
                                session.reopen(&lost, error, request).await
                            }));
                            continue;
                        }
                    }
                    Some(Err(error)) => Some(Err(error)),
                    None => None,
                },
            };
            self.state = State::Over;
            return Poll::Ready(end);
        }
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Open { .. } => "open",
            State::Reopening(_) => "reopening",
            State::Over => "over",
        };
        f.debug_struct("Items")
            .field("cursor", &self.cursor)
            .field("state", &state)
            .finish_non_exhaustive()
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
        Item::Omitted(_) => "an omission",
    }
}

pub(crate) use sealed::Element;

mod sealed {
    use super::{Cursor, Error, Event, ExecutionRecord, Item, OutputChunk};

    /// What streams are made of.
    pub trait Element: Sized {
        const WANTED: &'static str;
        fn from_item(item: Item) -> Option<Self>;
        /// Refuses an element with a part that must be understood and is not.
        fn understood(self) -> Result<Self, Error> {
            Ok(self)
        }
        /// Moves `cursor` on behind this; whether it had not been given out yet.
        fn pass(&self, cursor: &mut Cursor) -> bool;
    }

    impl Element for ExecutionRecord {
        const WANTED: &'static str = "executions";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Execution(record) => Some(*record),
                _ => None,
            }
        }
        fn understood(self) -> Result<Self, Error> {
            crate::client::understood(self)
        }
        fn pass(&self, cursor: &mut Cursor) -> bool {
            cursor.pass_execution(self)
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
        fn pass(&self, cursor: &mut Cursor) -> bool {
            cursor.pass_output(self);
            true
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
        fn pass(&self, cursor: &mut Cursor) -> bool {
            cursor.pass_event(self);
            true
        }
    }
}
