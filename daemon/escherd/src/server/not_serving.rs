//! Refusing clients while escherd cannot serve them.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::time::Duration;

use escher_protocol::ApiError;
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::connection::encode_refusal;
use crate::host::systemd::ActivatedSockets;

/// What readers of metrics are answered.
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n";

/// How clients are refused while escherd cannot serve them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalPeriod {
    /// Those who connect within this time.
    For(Duration),
    /// The same, if somebody waits already. Otherwise nobody is refused.
    IfAwaited(Duration),
}

/// Tells the clients that wait at `sockets`, and those that connect within the period, that they are
/// refused, and why.
pub(crate) async fn refuse_clients(
    sockets: ActivatedSockets,
    error: ApiError,
    period: RefusalPeriod,
) {
    let refusal = encode_refusal(error).unwrap_or_default();
    let ActivatedSockets { clients, metrics } = sockets;
    let were_awaited = [(&clients, &*refusal), (&metrics, UNAVAILABLE)]
        .map(|(listener, refusal)| refuse_waiting(listener.as_ref(), refusal));
    let wait = match period {
        RefusalPeriod::IfAwaited(_) if were_awaited == [false, false] => return,
        RefusalPeriod::For(wait) | RefusalPeriod::IfAwaited(wait) => wait,
    };
    // When one of them fails, nothing better can be done for clients than to close their connections.
    let refusing = async {
        tokio::join!(
            refuse_all(clients, &refusal),
            refuse_all(metrics, UNAVAILABLE)
        )
    };
    let _ = timeout(wait, refusing).await;
}

/// Refuses the clients that wait, and returns whether there was one.
fn refuse_waiting(listener: Option<&StdListener>, refusal: &[u8]) -> bool {
    let Some(listener) = listener.filter(|listener| listener.set_nonblocking(true).is_ok()) else {
        return false;
    };
    let mut was_awaited = false;
    while let Ok((stream, _)) = listener.accept() {
        refuse(stream, refusal);
        was_awaited = true;
    }
    was_awaited
}

/// Refuses every client that connects.
async fn refuse_all(listener: Option<StdListener>, refusal: &[u8]) -> io::Result<()> {
    let Some(listener) = listener else {
        return Ok(());
    };
    let listener = UnixListener::from_std(listener)?;
    loop {
        refuse(listener.accept().await?.0.into_std()?, refusal);
    }
}

/// Sends a refusal. The socket is new, so it takes that without waiting.
fn refuse(mut stream: StdStream, refusal: &[u8]) {
    // The client may be gone already.
    let _ = stream.write_all(refusal);
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::ErrorCode;
    use std::io::Read;

    /// Connects, and returns what arrives until the end.
    fn ask(path: &std::path::Path) -> impl FnOnce() -> Vec<u8> + use<> {
        let mut stream = StdStream::connect(path).unwrap();
        move || {
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        }
    }

    fn error() -> ApiError {
        ApiError::new(ErrorCode::NOT_SERVING, "the reason")
    }

    /// Makes both sockets in a directory.
    fn sockets(directory: &std::path::Path) -> ActivatedSockets {
        let listen = |name| Some(StdListener::bind(directory.join(name)).unwrap());
        ActivatedSockets {
            clients: listen("clients"),
            metrics: listen("metrics"),
        }
    }

    /// A period that no test waits for.
    const LONG: Duration = Duration::from_secs(24 * 60 * 60);

    #[tokio::test]
    async fn those_who_wait_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets(directory.path());
        let clients: Vec<_> = (0..5)
            .map(|_| ask(&directory.path().join("clients")))
            .collect();
        let reader = ask(&directory.path().join("metrics"));
        refuse_clients(sockets, error(), RefusalPeriod::For(Duration::ZERO)).await;
        for answer in clients {
            assert_eq!(answer(), *encode_refusal(error()).unwrap());
        }
        assert_eq!(reader(), UNAVAILABLE);
    }

    #[tokio::test]
    async fn where_nobody_waits_nobody_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets(directory.path());
        refuse_clients(sockets, error(), RefusalPeriod::IfAwaited(LONG)).await;
    }

    #[tokio::test]
    async fn those_who_come_in_time_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets(directory.path());
        let first = ask(&directory.path().join("clients"));
        let period = RefusalPeriod::IfAwaited(LONG);
        let refusing = tokio::spawn(refuse_clients(sockets, error(), period));
        let answer = tokio::task::spawn_blocking(first).await.unwrap();
        assert_eq!(answer, *encode_refusal(error()).unwrap());
        for _ in 0..3 {
            let path = directory.path().join("clients");
            let answer = tokio::task::spawn_blocking(move || ask(&path)());
            assert_eq!(answer.await.unwrap(), *encode_refusal(error()).unwrap());
        }
        assert!(!refusing.is_finished());
        refusing.abort();
    }

    #[tokio::test]
    async fn the_wait_ends_and_not_too_early() {
        const WAIT: Duration = Duration::from_millis(50);
        let directory = tempfile::tempdir().unwrap();
        let start = std::time::Instant::now();
        let period = RefusalPeriod::For(WAIT);
        refuse_clients(sockets(directory.path()), error(), period).await;
        assert!(start.elapsed() >= WAIT);
    }
}
