//! Whether escherd answers, and what it says of itself.

use std::time::{Duration, Instant};

use escher_client::{Client, ConnectError, Connector, Diagnostic};
use nix::unistd::geteuid;

use crate::failure::Failure;
use crate::render::time;
use crate::socket::SocketChoice;

/// How long escherd may take to say hello.
const HELLO: Duration = Duration::from_secs(5);

/// How long it may take to examine itself: disks may be slow.
const EXAMINATION: Duration = Duration::from_secs(20);

const HANGS: &str = "it is stopped, or hangs: `systemctl status escherd`, and `systemctl restart escherd`; commands \
                     go on meanwhile";

/// A connection and how soon it was there; else why there is none.
pub(super) async fn connect(choice: &SocketChoice) -> Result<(Client, Diagnostic), Diagnostic> {
    let check = "connection";
    let began = Instant::now();
    let connector = Connector::new(choice.path())
        .client_name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
        .connect_timeout(HELLO)
        .reconnect_timeout(Duration::ZERO);
    match connector.connect().await {
        Ok(client) => {
            let daemon = client.welcome().daemon.clone();
            let took = began.elapsed().as_millis().max(1);
            let diagnostic = Diagnostic::ok(check, format!("{daemon} answered within {took} ms"));
            Ok((client, diagnostic))
        }
        Err(error) => {
            let hangs = matches!(error, ConnectError::Timeout { .. });
            let described = Failure::connect(error, choice).describe();
            let diagnostic = Diagnostic::failure(check, described.message);
            Err(match described.hint {
                _ if hangs => diagnostic.advise(HANGS),
                Some(hint) => diagnostic.advise(hint),
                None => diagnostic,
            })
        }
    }
}

/// What escherd has found.
pub(super) async fn ask(client: &Client) -> Vec<Diagnostic> {
    let check = "examination";
    let asked = async { (client.diagnose().await, client.info().await) };
    let Ok((examined, info)) = tokio::time::timeout(EXAMINATION, asked).await else {
        let within = time::duration(EXAMINATION);
        let message = format!("escherd did not examine itself within {within}");
        return vec![Diagnostic::failure(check, message).advise(HANGS)];
    };
    let mut diagnostics = match examined {
        Ok(diagnostics) => diagnostics,
        Err(error) => {
            return vec![
                Diagnostic::failure(check, error.to_string()).advise("`journalctl -u escherd`"),
            ];
        }
    };
    let own = geteuid().as_raw();
    if own != 0 && info.is_ok_and(|info| info.uid != own) {
        let message = "what is in files that may be closed to you is told to root alone";
        diagnostics.push(
            Diagnostic::note("privileges", message).advise("`sudo escherctl doctor` tells all"),
        );
    }
    diagnostics
}
