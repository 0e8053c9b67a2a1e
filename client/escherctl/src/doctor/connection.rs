//! Whether escherd answers, and what it finds by checking itself.

use std::time::{Duration, Instant};

use escher_client::{Client, ConnectError, Connector, Diagnostic};
use nix::unistd::geteuid;

use crate::failure::Failure;
use crate::socket_choice::SocketChoice;
use crate::time;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long escherd may take to check itself: disks may be slow.
const SELF_CHECK_TIMEOUT: Duration = Duration::from_secs(20);

const HANGS: &str = "escherd is stopped or hangs: see `systemctl status escherd`, then run \
                     `systemctl restart escherd`, which commands survive";

/// Connects, and says how long that took or why it failed.
pub(super) async fn check(choice: &SocketChoice) -> Result<(Client, Diagnostic), Diagnostic> {
    let check = "connection";
    let start = Instant::now();
    let connector = Connector::new(choice.path())
        .client_name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .reconnect_timeout(Duration::ZERO);
    match connector.connect().await {
        Ok(client) => {
            let daemon = client.welcome().daemon.clone();
            let elapsed = start.elapsed().as_millis().max(1);
            let diagnostic = Diagnostic::ok(check, format!("{daemon} answered in {elapsed} ms"));
            Ok((client, diagnostic))
        }
        Err(error) => {
            let hangs = matches!(error, ConnectError::Timeout { .. });
            let details = Failure::connect(error, choice).details();
            let diagnostic = Diagnostic::failure(check, details.message);
            Err(match details.hint {
                _ if hangs => diagnostic.advise(HANGS),
                Some(hint) => diagnostic.advise(hint),
                None => diagnostic,
            })
        }
    }
}

/// Has escherd check itself.
pub(super) async fn check_escherd(client: &Client) -> Vec<Diagnostic> {
    let check = "examination";
    let requests = async { (client.diagnose().await, client.info().await) };
    let Ok((examined, info)) = tokio::time::timeout(SELF_CHECK_TIMEOUT, requests).await else {
        let timeout = time::duration(SELF_CHECK_TIMEOUT);
        let message = format!("escherd did not finish checking itself within {timeout}");
        return vec![Diagnostic::failure(check, message).advise(HANGS)];
    };
    let mut diagnostics = match examined {
        Ok(diagnostics) => diagnostics,
        Err(error) => {
            return vec![
                Diagnostic::failure(check, error.to_string()).advise("see `journalctl -u escherd`"),
            ];
        }
    };
    let own = geteuid().as_raw();
    if own != 0 && info.is_ok_and(|info| info.uid != own) {
        let message = "details from files that you may not read are omitted";
        diagnostics.push(
            Diagnostic::note("privileges", message)
                .advise("run `sudo escherctl doctor` to see them"),
        );
    }
    diagnostics
}
