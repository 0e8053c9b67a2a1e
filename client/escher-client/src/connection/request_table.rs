//! The table of requests in flight, which routes each received frame to its request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use escher_protocol::{ApiError, ErrorCode, Item, RequestId, Response, ServerFrame};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ProtocolViolation};

/// Where the response to a request is delivered.
#[derive(Debug)]
pub(super) enum ResponseSender {
    /// The request is answered by one value.
    Single(oneshot::Sender<Result<Response, Error>>),
    /// The request is answered by a stream.
    Stream {
        sender: mpsc::UnboundedSender<StreamMessage>,
        window_left: WindowLeft,
    },
}

/// A message of a stream.
#[derive(Debug)]
pub(super) enum StreamMessage {
    /// An item, and the length of its payload in bytes.
    Item(Item, usize),
    /// The end of the stream.
    End(Result<(), ApiError>),
}

/// The receiving side of [`ResponseSender::Stream`].
#[derive(Debug)]
pub(super) struct StreamReceiver {
    pub(super) messages: mpsc::UnboundedReceiver<StreamMessage>,
    pub(super) window_left: WindowLeft,
    pub(super) window: u32,
}

/// What is left of the flow control window of a stream: the payload bytes that escherd may still send.
///
/// It bounds the stream's queue. escherd may send an item while it is above zero, so the last item can
/// make it negative.
#[derive(Debug, Clone)]
pub(super) struct WindowLeft(Arc<AtomicI64>);

impl WindowLeft {
    /// Adds `bytes`, which are granted to escherd.
    pub(super) fn add(&self, bytes: u32) {
        self.0.fetch_add(i64::from(bytes), Ordering::AcqRel);
    }

    /// Subtracts `bytes`, which escherd has sent. Returns whether it was allowed to send them.
    fn subtract(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.0.fetch_sub(bytes, Ordering::AcqRel) > 0
    }
}

/// The requests in flight on one connection.
#[derive(Debug)]
pub(super) struct RequestTable {
    state: Mutex<TableState>,
    stream_window: u32,
    has_response: AtomicBool,
}

#[derive(Debug, Default)]
struct TableState {
    last_id: u64,
    in_flight: HashMap<RequestId, ResponseSender>,
    /// Why the connection ended, once it has.
    close_reason: Option<Error>,
}

impl RequestTable {
    /// Creates a table for streams with a flow control window of `stream_window` bytes.
    pub(super) fn new(stream_window: u32) -> Self {
        RequestTable {
            state: Mutex::default(),
            stream_window,
            has_response: AtomicBool::new(false),
        }
    }

    /// Creates both ends of a stream, with a whole window left.
    pub(super) fn stream_channel(&self) -> (ResponseSender, StreamReceiver) {
        let window_left = WindowLeft(Arc::new(AtomicI64::new(self.stream_window.into())));
        let (sender, messages) = mpsc::unbounded_channel();
        let receiver = StreamReceiver {
            messages,
            window_left: window_left.clone(),
            window: self.stream_window,
        };
        (
            ResponseSender::Stream {
                sender,
                window_left,
            },
            receiver,
        )
    }

    /// Adds a request, and returns its new id.
    pub(super) fn insert(&self, response: ResponseSender) -> Result<RequestId, Error> {
        let mut state = self.lock();
        if let Some(reason) = &state.close_reason {
            return Err(reason.clone());
        }
        state.last_id += 1;
        let id = RequestId(state.last_id);
        state.in_flight.insert(id, response);
        Ok(id)
    }

    /// Removes a request. Returns whether it was still in flight.
    pub(super) fn remove(&self, id: RequestId) -> bool {
        self.lock().in_flight.remove(&id).is_some()
    }

    /// Delivers a frame whose payload has `length` bytes.
    ///
    /// A frame for an unknown request is dropped: it was sent before escherd learned that the request
    /// was abandoned.
    pub(super) fn deliver(
        &self,
        frame: ServerFrame,
        length: usize,
    ) -> Result<(), ProtocolViolation> {
        if !is_shutdown_notice(&frame) {
            self.has_response.store(true, Ordering::Release);
        }
        let mut state = self.lock();
        match frame {
            ServerFrame::Item { id, item } => match state.in_flight.get(&id) {
                Some(ResponseSender::Stream {
                    sender,
                    window_left,
                }) => {
                    if !window_left.subtract(length) {
                        let window = self.stream_window;
                        return Err(ProtocolViolation::WindowExceeded { length, window });
                    }
                    // Fails only if the receiver was dropped, which is about to abandon the request.
                    let _ = sender.send(StreamMessage::Item(item, length));
                    Ok(())
                }
                Some(ResponseSender::Single(_)) => Err(ProtocolViolation::UnexpectedResponse {
                    expected: "one value",
                    received: "an item of a stream",
                }),
                None => Ok(()),
            },
            ServerFrame::Reply { id, result } => match (state.in_flight.remove(&id), result) {
                (Some(ResponseSender::Single(sender)), result) => {
                    let _ = sender.send(result.map_err(Error::Api));
                    Ok(())
                }
                // An error ends a request of either kind, as `Reply` or as `End`.
                (Some(ResponseSender::Stream { sender, .. }), Err(error)) => {
                    let _ = sender.send(StreamMessage::End(Err(error)));
                    Ok(())
                }
                (Some(ResponseSender::Stream { .. }), Ok(_)) => {
                    Err(ProtocolViolation::UnexpectedResponse {
                        expected: "a stream",
                        received: "one value",
                    })
                }
                (None, _) => Ok(()),
            },
            ServerFrame::End { id, result } => match (state.in_flight.remove(&id), result) {
                (Some(ResponseSender::Stream { sender, .. }), result) => {
                    let _ = sender.send(StreamMessage::End(result));
                    Ok(())
                }
                (Some(ResponseSender::Single(sender)), Err(error)) => {
                    let _ = sender.send(Err(error.into()));
                    Ok(())
                }
                (Some(ResponseSender::Single(_)), Ok(())) => {
                    Err(ProtocolViolation::UnexpectedResponse {
                        expected: "one value",
                        received: "the end of a stream",
                    })
                }
                (None, _) => Ok(()),
            },
        }
    }

    /// Whether any frame was received other than notices that escherd shuts down.
    pub(super) fn has_response(&self) -> bool {
        self.has_response.load(Ordering::Acquire)
    }

    /// Ends all requests, including later ones, with `reason`.
    pub(super) fn close(&self, reason: Error) {
        let mut state = self.lock();
        state.close_reason = Some(reason);
        state.in_flight.clear();
    }

    /// Returns why the connection ended.
    pub(super) fn close_reason(&self) -> Error {
        let reason = self.lock().close_reason.clone();
        reason.unwrap_or_else(Error::connection_aborted)
    }

    fn lock(&self) -> MutexGuard<'_, TableState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_shutdown_notice(frame: &ServerFrame) -> bool {
    let error = match frame {
        ServerFrame::Reply { result, .. } => result.as_ref().err(),
        ServerFrame::End { result, .. } => result.as_ref().err(),
        ServerFrame::Item { .. } => None,
    };
    error.is_some_and(|error| error.code == ErrorCode::SHUTTING_DOWN)
}
