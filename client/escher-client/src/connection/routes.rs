//! Which request an arriving frame belongs to.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use escher_protocol::{ApiError, ErrorCode, Item, RequestId, Response, ServerFrame};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Violation};

/// Where the answer to a request goes.
#[derive(Debug)]
pub(super) enum Route {
    /// To one who waits for a value.
    Reply(oneshot::Sender<Result<Response, Error>>),
    /// To a stream's inbox.
    Stream {
        queue: mpsc::UnboundedSender<Delivery>,
        credit: Credit,
    },
}

/// What a stream receives.
#[derive(Debug)]
pub(super) enum Delivery {
    /// An element, and the length of its payload in bytes.
    Item(Item, usize),
    /// The end.
    End(Result<(), ApiError>),
}

/// The receiving side of [`Route::Stream`].
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) queue: mpsc::UnboundedReceiver<Delivery>,
    pub(super) credit: Credit,
    pub(super) window: u32,
}

/// Payload bytes that a stream may still send. It bounds the stream's queue: escherd may go below zero
/// with one item, and no further.
#[derive(Debug, Clone)]
pub(super) struct Credit(Arc<AtomicI64>);

impl Credit {
    pub(super) fn add(&self, bytes: u32) {
        self.0.fetch_add(i64::from(bytes), Ordering::AcqRel);
    }

    /// Whether there was any.
    fn spend(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.0.fetch_sub(bytes, Ordering::AcqRel) > 0
    }
}

/// The requests in flight.
#[derive(Debug)]
pub(super) struct Routes {
    table: Mutex<Table>,
    window: u32,
    answered: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    open: HashMap<RequestId, Route>,
    end: Option<Error>,
}

impl Routes {
    /// For streams with a window of so many bytes.
    pub(super) fn new(window: u32) -> Self {
        Routes {
            table: Mutex::default(),
            window,
            answered: AtomicBool::new(false),
        }
    }

    /// Both ends of a stream with its whole window before it.
    pub(super) fn stream(&self) -> (Route, Feed) {
        let credit = Credit(Arc::new(AtomicI64::new(self.window.into())));
        let (sender, receiver) = mpsc::unbounded_channel();
        let feed = Feed {
            queue: receiver,
            credit: credit.clone(),
            window: self.window,
        };
        let route = Route::Stream {
            queue: sender,
            credit,
        };
        (route, feed)
    }

    /// Gives a request its id.
    pub(super) fn open(&self, route: Route) -> Result<RequestId, Error> {
        let mut table = self.lock();
        if let Some(end) = &table.end {
            return Err(end.clone());
        }
        table.last += 1;
        let id = RequestId(table.last);
        table.open.insert(id, route);
        Ok(id)
    }

    /// Takes a request out; whether it was still in flight.
    pub(super) fn forget(&self, id: RequestId) -> bool {
        self.lock().open.remove(&id).is_some()
    }

    /// Hands a frame on. One for a request that is not in flight (any more) is dropped: it was under
    /// way when the request was abandoned.
    pub(super) fn deliver(&self, frame: ServerFrame, length: usize) -> Result<(), Violation> {
        if !is_farewell(&frame) {
            self.answered.store(true, Ordering::Release);
        }
        let mut table = self.lock();
        match frame {
            ServerFrame::Item { id, item } => match table.open.get(&id) {
                Some(Route::Stream { queue, credit }) => {
                    if !credit.spend(length) {
                        let window = self.window;
                        return Err(Violation::WindowExceeded { length, window });
                    }
                    // Without a receiver the request is being abandoned at this moment.
                    let _ = queue.send(Delivery::Item(item, length));
                    Ok(())
                }
                Some(Route::Reply(_)) => Err(Violation::WrongAnswer {
                    wanted: "one value",
                    got: "an element of a stream",
                }),
                None => Ok(()),
            },
            ServerFrame::Reply { id, result } => match (table.open.remove(&id), result) {
                (Some(Route::Reply(answer)), result) => {
                    let _ = answer.send(result.map_err(Error::Api));
                    Ok(())
                }
                // A refusal ends a request of either kind, in either form.
                (Some(Route::Stream { queue, .. }), Err(error)) => {
                    let _ = queue.send(Delivery::End(Err(error)));
                    Ok(())
                }
                (Some(Route::Stream { .. }), Ok(_)) => Err(Violation::WrongAnswer {
                    wanted: "a stream",
                    got: "one value",
                }),
                (None, _) => Ok(()),
            },
            ServerFrame::End { id, result } => match (table.open.remove(&id), result) {
                (Some(Route::Stream { queue, .. }), result) => {
                    let _ = queue.send(Delivery::End(result));
                    Ok(())
                }
                (Some(Route::Reply(answer)), Err(error)) => {
                    let _ = answer.send(Err(error.into()));
                    Ok(())
                }
                (Some(Route::Reply(_)), Ok(())) => Err(Violation::WrongAnswer {
                    wanted: "one value",
                    got: "the end of a stream",
                }),
                (None, _) => Ok(()),
            },
        }
    }

    /// Whether anything has come but that escherd is about to stop.
    pub(super) fn answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Ends all requests, now and to come.
    pub(super) fn close(&self, end: Error) {
        let mut table = self.lock();
        table.end = Some(end);
        table.open.clear();
    }

    /// Why the connection is over.
    pub(super) fn end(&self) -> Error {
        self.lock().end.clone().unwrap_or_else(|| {
            // The runtime that worked for the connection was shut down.
            Error::Disconnected(Arc::new(io::ErrorKind::ConnectionAborted.into()))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_farewell(frame: &ServerFrame) -> bool {
    let error = match frame {
        ServerFrame::Reply { result, .. } => result.as_ref().err(),
        ServerFrame::End { result, .. } => result.as_ref().err(),
        ServerFrame::Item { .. } => None,
    };
    error.is_some_and(|error| error.code == ErrorCode::SHUTTING_DOWN)
}
