//! The connection of the moment, and how to get the next one when it is lost.
//!
//! [`Connection`] knows nothing of there being others. Whoever asks for something holds the one that he
//! asked on, and when that is lost he comes here for the next ([`Session::after`]). One attempt to reach
//! escherd serves all who wait; it is a task of its own, so that none of them has to be polled for the
//! others to get on.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use escher_protocol::handshake::Welcome;
use escher_protocol::{Request, Response};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::connection::{Connection, Inbox};
use crate::connector::Connector;
use crate::error::Error;
use crate::reconnect::{RETRY_PAUSE, reconnect};

/// A conversation with escherd that may take several connections.
#[derive(Debug)]
pub(crate) struct Session {
    connector: Connector,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Arc<Connection>,
    past: Past,
    attempt: Option<Attempt>,
}

/// What came before the connection of the moment was lost, if it is.
#[derive(Debug, Clone, Copy)]
enum Past {
    /// Nothing worth knowing.
    Sound,
    /// An outage that began then, which the connection of the moment has ended.
    Outage(Instant),
    /// An outage that began then, whose end was waited for in vain. The connection is a lost one.
    GivenUp(Instant),
}

type News = Option<Result<Arc<Connection>, Error>>;

/// A task that tries to reach escherd. Dropping it ends it.
#[derive(Debug)]
struct Attempt {
    news: watch::Receiver<News>,
    task: AbortHandle,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A stream, and the connection that it comes over.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) inbox: Inbox,
    pub(crate) connection: Arc<Connection>,
}

impl Session {
    /// Begins with `connection`, which `connector` has made.
    pub(crate) fn new(connector: Connector, connection: Arc<Connection>) -> Arc<Self> {
        Arc::new(Session {
            connector,
            state: Mutex::new(State {
                connection,
                past: Past::Sound,
                attempt: None,
            }),
        })
    }

    /// The terms of the newest connection.
    pub(crate) fn welcome(&self) -> Welcome {
        self.lock().connection.welcome().clone()
    }

    /// Whether a lost connection is followed by another.
    pub(crate) fn reconnects(&self) -> bool {
        !self.connector.patience().is_zero()
    }

    /// Sends a request that is answered by one value, again after each loss if it may be repeated.
    pub(crate) async fn call(self: &Arc<Self>, request: Request) -> Result<Response, Error> {
        self.call_noting_repeats(request).await.0
    }

    /// As [`Session::call`], with whether it was sent more than once.
    pub(crate) async fn call_noting_repeats(
        self: &Arc<Self>,
        request: Request,
    ) -> (Result<Response, Error>, bool) {
        let (mut sent, mut repeated) = (false, false);
        let answer = async {
            let mut connection = self.connection().await?;
            loop {
                let lost = match connection.call(request.clone()).await {
                    Ok(mut pending) => {
                        repeated = sent;
                        sent = true;
                        match pending.response().await {
                            Err(error) if error.is_loss() && !is_repeatable(&request) => {
                                return Err(in_doubt(error));
                            }
                            Err(error) if error.is_loss() => error,
                            answer => return answer,
                        }
                    }
                    Err(error) if error.is_loss() => error,
                    Err(error) => return Err(error),
                };
                connection = self.after(&connection, lost).await?;
            }
        };
        let answer = answer.await;
        (answer, repeated)
    }

    /// Sends a request that is answered by a stream.
    pub(crate) async fn stream(self: &Arc<Self>, request: Request) -> Result<Opened, Error> {
        let connection = self.connection().await?;
        self.stream_over(connection, request).await
    }

    /// Sends a request that goes on with a stream whose connection was lost.
    pub(crate) async fn reopen(
        self: &Arc<Self>,
        lost: &Arc<Connection>,
        why: Error,
        request: Request,
    ) -> Result<Opened, Error> {
        let connection = self.after(lost, why).await?;
        self.stream_over(connection, request).await
    }

    async fn stream_over(
        self: &Arc<Self>,
        mut connection: Arc<Connection>,
        request: Request,
    ) -> Result<Opened, Error> {
        loop {
            match connection.stream(request.clone()).await {
                Ok(inbox) => return Ok(Opened { inbox, connection }),
                Err(error) if error.is_loss() => {
                    connection = self.after(&connection, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The connection to ask on: that of the moment, or the next one if that is known to be lost.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Error> {
        let news = {
            let state = self.lock();
            match &state.attempt {
                None => return Ok(Arc::clone(&state.connection)),
                Some(attempt) => attempt.news.clone(),
            }
        };
        outcome(news, aborted()).await
    }

    /// The connection that follows `lost`, which ended with `why`. Waits for it as long as escherd is
    /// waited for; where it is not, the error is `why`.
    pub(crate) async fn after(
        self: &Arc<Self>,
        lost: &Arc<Connection>,
        why: Error,
    ) -> Result<Arc<Connection>, Error> {
        if !self.reconnects() {
            return Err(why);
        }
        let news = {
            let mut state = self.lock();
            if !Arc::ptr_eq(&state.connection, lost) {
                return Ok(Arc::clone(&state.connection));
            }
            let attempt = match state.attempt.take() {
                Some(attempt) => attempt,
                None => self.attempt(&state),
            };
            state.attempt.insert(attempt).news.clone()
        };
        outcome(news, why).await
    }

    fn attempt(self: &Arc<Self>, state: &State) -> Attempt {
        let lost = &state.connection;
        let proved = lost.has_answered() || lost.age() >= RETRY_PAUSE;
        let (since, fruitless) = match state.past {
            Past::GivenUp(since) => (since, false),
            // An escherd that takes connections and drops them is not back. Without the pause the two
            // would go round as fast as they can.
            Past::Outage(since) if !proved => (since, true),
            Past::Outage(_) | Past::Sound => (Instant::now(), false),
        };
        let (tell, news) = watch::channel(None);
        // Not an Arc: who waits for nothing must not be kept.
        let session = Arc::downgrade(self);
        let connector = self.connector.clone();
        let task = tokio::spawn(async move {
            let reached = reconnect(&connector, since, fruitless).await;
            if let Some(session) = session.upgrade() {
                session.settle(since, &reached);
                // Whoever asks from now on does not need to be told.
                let _ = tell.send(Some(reached));
            }
        });
        Attempt {
            news,
            task: task.abort_handle(),
        }
    }

    fn settle(&self, since: Instant, reached: &Result<Arc<Connection>, Error>) {
        let mut state = self.lock();
        match reached {
            Ok(connection) => {
                state.connection = Arc::clone(connection);
                state.past = Past::Outage(since);
            }
            Err(_) => state.past = Past::GivenUp(since),
        }
        state.attempt = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes of an attempt; `otherwise` when nothing does.
async fn outcome(
    mut news: watch::Receiver<News>,
    otherwise: Error,
) -> Result<Arc<Connection>, Error> {
    match news.wait_for(Option::is_some).await {
        Ok(news) => news.clone().unwrap_or(Err(otherwise)),
        // The runtime that worked for it was shut down.
        Err(_) => Err(otherwise),
    }
}

/// Who would have answered has ended without a word.
pub(crate) fn aborted() -> Error {
    Error::Disconnected(Arc::new(io::ErrorKind::ConnectionAborted.into()))
}

/// Whether sending it twice is as good as sending it once.
fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::Submit(request) => request.key.is_some(),
        Request::Signal { .. } => false,
        _ => true,
    }
}

/// The loss of a connection over which something was asked that may have been done or not.
fn in_doubt(loss: Error) -> Error {
    match loss {
        Error::Disconnected(source) => Error::Disconnected(Arc::new(io::Error::new(
            source.kind(),
            format!("{source}; whether the request was carried out is not known"),
        ))),
        other => other,
    }
}
