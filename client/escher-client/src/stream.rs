//! Streams of executions, output and events, which continue over lost connections.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use escher_protocol::message::Event;
use escher_protocol::{ExecutionRecord, ExecutionUsage, Item, OutputItem, Request};

use crate::cursor::Cursor;
use crate::error::Error;
use crate::reconnecting_transport::{OpenStream, ReconnectingTransport};
use crate::response::item_type;

/// A stream of executions, newest first.
pub type ExecutionStream = ResponseStream<ExecutionRecord>;
/// A stream of a command's output, in the order of arrival. It says where output is missing.
pub type LogStream = ResponseStream<OutputItem>;
/// A stream of events, in the order in which they happened.
pub type EventStream = ResponseStream<Event>;
/// A stream of what running executions use, the newest first.
pub type UsageStream = ResponseStream<ExecutionUsage>;
/// The answer to a request to hold a standard input: its offset, on each connection anew.
pub(crate) type HeldStream = ResponseStream<HeldOffset>;

/// A stream of `T` from escherd.
///
/// Read it with [`next`](ResponseStream::next) or as a [`Stream`](futures_core::Stream). It is flow
/// controlled: at most one window ([`SessionLimits::stream_window_bytes`]) of items waits in the
/// client, then escherd stops sending. Other requests on the connection are not held up. Dropping the
/// stream cancels the request.
///
/// When the connection is lost, the stream reconnects while it is read, and continues where it
/// stopped: no item is lost or repeated.
///
/// [`SessionLimits::stream_window_bytes`]:
///     escher_protocol::handshake::SessionLimits::stream_window_bytes
#[must_use = "a stream does nothing unless it is read"]
pub struct ResponseStream<T> {
    transport: Arc<ReconnectingTransport>,
    cursor: Cursor,
    state: State,
    item: PhantomData<fn() -> T>,
}

type OpenFuture = Pin<Box<dyn Future<Output = Result<OpenStream, Error>> + Send + Sync>>;

enum State {
    Open {
        stream: OpenStream,
        /// Whether the stream was resumed on another connection than its first.
        resumed: bool,
    },
    /// The connection was lost, and the stream is being resumed on the next one.
    Resuming(OpenFuture),
    Ended,
}

impl<T: StreamItem> ResponseStream<T> {
    /// Sends `request` and returns the stream that answers it.
    pub(crate) async fn open(
        transport: &Arc<ReconnectingTransport>,
        request: Request,
    ) -> Result<Self, Error> {
        let stream = transport.open_stream(request.clone()).await?;
        Ok(ResponseStream {
            transport: Arc::clone(transport),
            cursor: Cursor::new(request),
            state: State::Open {
                stream,
                resumed: false,
            },
            item: PhantomData,
        })
    }

    /// Waits for the next item. Returns `None` at the end of the stream.
    ///
    /// # Errors
    /// An error ends the stream; the next call returns `None`. [`Error::Api`] is an error that escherd
    /// answered with. [`Error::Disconnected`] and [`Error::DaemonUnavailable`] mean that the connection
    /// was lost and the client did not reconnect.
    ///
    /// # Cancellation
    /// Cancel safe: if the future is dropped, the next call returns the item.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        loop {
            let end = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Resuming(open) => match ready!(open.as_mut().poll(cx)) {
                    Ok(stream) => {
                        self.state = State::Open {
                            stream,
                            resumed: true,
                        };
                        continue;
                    }
                    Err(error) => Some(Err(error)),
                },
                // A resumed list was requested without its limit, so escherd does not end it in time.
                State::Open { resumed: true, .. } if self.cursor.is_complete() => None,
                State::Open { stream, .. } => match ready!(stream.items.poll_next(cx)) {
                    Some(Ok(item)) => {
                        if let Item::EventsAfter { sequence } = item {
                            self.cursor.advance_event(sequence);
                            continue;
                        }
                        let received = item_type(&item);
                        match T::from_item(item).map(T::ensure_understood) {
                            Some(Ok(item)) if item.advance(&mut self.cursor) => {
                                return Poll::Ready(Some(Ok(item)));
                            }
                            Some(Ok(_)) => continue,
                            Some(Err(error)) => Some(Err(error)),
                            None => Some(Err(Error::unexpected_response(T::EXPECTED, received))),
                        }
                    }
                    Some(Err(error)) if error.is_connection_loss() => {
                        if self.cursor.is_complete() {
                            None
                        } else {
                            let lost = Arc::clone(&stream.connection);
                            let transport = Arc::clone(&self.transport);
                            let request = self.cursor.request().clone();
                            self.state = State::Resuming(Box::pin(async move {
                                transport.resume_stream(&lost, error, request).await
                            }));
                            continue;
                        }
                    }
                    Some(Err(error)) => Some(Err(error)),
                    None => None,
                },
            };
            self.state = State::Ended;
            return Poll::Ready(end);
        }
    }
}

impl<T> fmt::Debug for ResponseStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Open { .. } => "open",
            State::Resuming(_) => "resuming",
            State::Ended => "ended",
        };
        f.debug_struct("ResponseStream")
            .field("cursor", &self.cursor)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl<T: StreamItem> futures_core::Stream for ResponseStream<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

/// Where the next byte of a held standard input belongs.
#[derive(Debug)]
pub(crate) struct HeldOffset(pub(crate) u64);

pub(crate) use sealed::StreamItem;

mod sealed {
    use escher_protocol::message::Event;
    use escher_protocol::{ExecutionRecord, ExecutionUsage, Item, OutputItem};

    use super::HeldOffset;
    use crate::cursor::Cursor;
    use crate::error::Error;
    use crate::response::ensure_understood;

    /// The item types of streams.
    pub trait StreamItem: Sized {
        /// The name of the type, for errors.
        const EXPECTED: &'static str;
        fn from_item(item: Item) -> Option<Self>;
        /// Refuses an item with an unknown part that must be understood.
        fn ensure_understood(self) -> Result<Self, Error> {
            Ok(self)
        }
        /// Advances `cursor` past this item. Returns whether the item is new to the stream.
        fn advance(&self, cursor: &mut Cursor) -> bool;
    }

    impl StreamItem for ExecutionRecord {
        const EXPECTED: &'static str = "executions";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Execution(record) => Some(*record),
                _ => None,
            }
        }
        fn ensure_understood(self) -> Result<Self, Error> {
            ensure_understood(self)
        }
        fn advance(&self, cursor: &mut Cursor) -> bool {
            cursor.advance_execution(self)
        }
    }

    impl StreamItem for OutputItem {
        const EXPECTED: &'static str = "output";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Output(chunk) => Some(OutputItem::Chunk(chunk)),
                Item::Gap(gap) => Some(OutputItem::Gap(gap)),
                _ => None,
            }
        }
        fn advance(&self, cursor: &mut Cursor) -> bool {
            match self {
                OutputItem::Chunk(chunk) => {
                    cursor.advance_output(chunk);
                    true
                }
                OutputItem::Gap(gap) => cursor.advance_gap(gap),
            }
        }
    }

    impl StreamItem for ExecutionUsage {
        const EXPECTED: &'static str = "usages";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Usage(usage) => Some(usage),
                _ => None,
            }
        }
        fn advance(&self, cursor: &mut Cursor) -> bool {
            cursor.advance_usage(self)
        }
    }

    impl StreamItem for HeldOffset {
        const EXPECTED: &'static str = "an offset";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::StdinHeld { offset } => Some(HeldOffset(offset)),
                _ => None,
            }
        }
        fn advance(&self, _: &mut Cursor) -> bool {
            true
        }
    }

    impl StreamItem for Event {
        const EXPECTED: &'static str = "events";
        fn from_item(item: Item) -> Option<Self> {
            match item {
                Item::Event(event) => Some(event),
                _ => None,
            }
        }
        fn advance(&self, cursor: &mut Cursor) -> bool {
            cursor.advance_event(self.sequence);
            true
        }
    }
}
