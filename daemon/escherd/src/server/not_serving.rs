//! Refusing clients while escherd cannot serve them.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::time::Duration;

use escher_protocol::ApiError;
use tokio::net::UnixListener;
use tokio::time::sleep;

use super::connection::encode_refusal;
use crate::host::systemd::ActivatedSockets;

/// What readers of metrics are answered.
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n";

/// Tells the clients that wait at `sockets`, and those that connect within `wait`, that they are
/// refused, and why.
pub(crate) async fn refuse_clients(sockets: ActivatedSockets, error: ApiError, wait: Duration) {
    let ActivatedSockets { clients, metrics } = sockets;
    let refusal = encode_refusal(error).unwrap_or_default();
    // When this fails, nothing better can be done for clients than to close their connections.
    let _ = tokio::join!(
        answer_all(clients, &refusal, wait),
        answer_all(metrics, UNAVAILABLE, wait)
    );
}

async fn answer_all(
    listener: Option<StdListener>,
    refusal: &[u8],
    wait: Duration,
) -> io::Result<()> {
    let Some(listener) = listener else {
        return Ok(());
    };
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => refuse(stream, refusal),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    if wait.is_zero() {
        return Ok(());
    }
    let listener = UnixListener::from_std(listener)?;
    let mut end = std::pin::pin!(sleep(wait));
    loop {
        tokio::select! {
            accepted = listener.accept() => refuse(accepted?.0.into_std()?, refusal),
            () = &mut end => return Ok(()),
        }
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

    #[tokio::test]
    async fn those_who_wait_are_told_and_nobody_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets(directory.path());
        let clients: Vec<_> = (0..5)
            .map(|_| ask(&directory.path().join("clients")))
            .collect();
        let reader = ask(&directory.path().join("metrics"));
        refuse_clients(sockets, error(), Duration::ZERO).await;
        for answer in clients {
            assert_eq!(answer(), *encode_refusal(error()).unwrap());
        }
        assert_eq!(reader(), UNAVAILABLE);
    }

    #[tokio::test]
    async fn those_who_come_in_time_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = sockets(directory.path());
        let refusing = tokio::spawn(refuse_clients(sockets, error(), Duration::MAX / 4));
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
        refuse_clients(sockets(directory.path()), error(), WAIT).await;
        assert!(start.elapsed() >= WAIT);
    }
}
