//! Taking connections, within limits.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_launcher::os::peer_credentials::{self, PeerCredentials};
use escher_protocol::{ApiError, ErrorCode};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::{Figures, Service, session, until_closing};
use crate::config::ConnectionLimits;
use crate::host::fd_budget::ROOT_RESERVE;

/// Pause after an accept(2) that failed although a descriptor was there: it would fail again at once, and
/// nothing tells when it would not.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that there are.
#[derive(Debug, Default)]
struct Tally {
    open: Mutex<Open>,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_user: HashMap<u32, usize>,
}

/// A place in the tally, given back when dropped.
struct Place {
    tally: Arc<Tally>,
    uid: u32,
}

/// Takes connections until `closing` says so; then lets each session finish what it is answering.
pub async fn serve(
    listener: UnixListener,
    service: Arc<Service>,
    mut closing: watch::Receiver<bool>,
) {
    let tally = Arc::new(Tally {
        open: Mutex::default(),
        figures: service.figures.clone(),
    });
    let mut sessions = JoinSet::new();
    let closed = closing.clone();
    let mut spare = spare();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
            () = until_closing(&mut closing) => break,
        };
        match accepted {
            Ok((stream, _)) => match enter(&stream, &tally, service.connection_limits()) {
                Ok((place, credentials)) => {
                    let (service, closing) = (service.clone(), closed.clone());
                    sessions.spawn(async move {
                        let _place = place;
                        session::run(stream, credentials, service, closing).await;
                    });
                }
                Err(error) => warn!(%error, "a connection was refused"),
            },
            Err(error) if is_for_want_of_descriptors(&error) && spare.is_some() => {
                // The one that was kept for this: it takes a connection on, to tell it why that is all.
                drop(spare.take());
                if let Ok((stream, _)) = listener.accept().await {
                    tally.figures.refused();
                    let refused = session::refuse_at_once(&stream, overloaded());
                    warn!(
                        ?refused,
                        "a connection was refused: escherd has no descriptors left"
                    );
                }
                spare = self::spare();
            }
            Err(error) => {
                warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                spare = spare.or_else(self::spare);
            }
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

/// A descriptor for nothing, to be given up when there are no others.
fn spare() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

fn is_for_want_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    matches!(
        errno,
        Some(nix::errno::Errno::EMFILE | nix::errno::Errno::ENFILE)
    )
}

fn overloaded() -> ApiError {
    let message = "escherd has no descriptors left for another connection";
    ApiError::new(ErrorCode::OVERLOADED, message).with_hint("try again later")
}

/// A place for a new connection. One for which there is none is told why, and closed.
fn enter(
    stream: &UnixStream,
    tally: &Arc<Tally>,
    limits: ConnectionLimits,
) -> io::Result<(Place, PeerCredentials)> {
    let credentials = peer_credentials::credentials(stream)?;
    match Tally::enter(tally, limits, credentials.uid) {
        Ok(place) => Ok((place, credentials)),
        Err(error) => {
            tally.figures.refused();
            session::refuse_at_once(stream, error.clone())?;
            Err(io::Error::other(error))
        }
    }
}

impl Tally {
    fn enter(tally: &Arc<Tally>, limits: ConnectionLimits, uid: u32) -> Result<Place, ApiError> {
        let ConnectionLimits {
            max_connections,
            max_connections_per_user,
        } = limits;
        let mut open = tally
            .open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let of_user = open.by_user.get(&uid).copied().unwrap_or(0);
        let (room, allowed) = match uid {
            0 => (max_connections + ROOT_RESERVE, usize::MAX),
            _ => (max_connections, max_connections_per_user),
        };
        let full = |who: &str, limit: usize| {
            let message = format!("{who} {limit} connections already, as many as may be");
            Err(ApiError::new(ErrorCode::TOO_MANY_CONNECTIONS, message))
        };
        if of_user >= allowed {
            return full("you have", allowed);
        }
        if open.all >= room {
            return full("there are", room);
        }
        open.all += 1;
        open.by_user.insert(uid, of_user + 1);
        tally.figures.opened();
        Ok(Place {
            tally: tally.clone(),
            uid,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.tally.open.lock();
        let mut open = open.unwrap_or_else(std::sync::PoisonError::into_inner);
        open.all -= 1;
        self.tally.figures.closed();
        if let Some(count) = open.by_user.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.by_user.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_hold_and_root_has_a_reserve() {
        let tally = Arc::new(Tally::default());
        let limits = ConnectionLimits {
            max_connections: 3,
            max_connections_per_user: 2,
        };
        let enter = |uid| Tally::enter(&tally, limits, uid);
        let first = enter(1000).unwrap();
        let _second = enter(1000).unwrap();
        assert!(enter(1000).is_err(), "over the user's limit");
        let _third = enter(1001).unwrap();
        assert!(enter(1002).is_err(), "over the limit of all");
        let reserve: Vec<Place> = (0..ROOT_RESERVE).map(|_| enter(0).unwrap()).collect();
        assert!(enter(0).is_err(), "the reserve has an end");
        drop((first, reserve));
        assert!(enter(1002).is_ok());
    }
}
