//! Whether escherd answers, and what it finds by checking itself.

use std::path::Path;
use std::time::{Duration, Instant};

use escher_client::{Client, ConnectError, Connector, Diagnostic, SocketChoice};
use nix::unistd::geteuid;

use crate::escherds::systemctl_option;
use crate::failure::Failure;
use crate::time;

const CHECK: &str = "connection";

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long escherd may take to check itself: disks may be slow.
const SELF_CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns what to do about an escherd that does not answer.
fn advice_if_it_hangs(socket: &Path) -> String {
    let option = systemctl_option(socket);
    format!(
        "escherd is stopped or hangs: see `systemctl{option} status escherd`, then run \
         `systemctl{option} restart escherd`, which commands survive"
    )
}

/// Connects, and says how long that took.
pub(super) async fn check(sockets: &SocketChoice) -> Result<(Client, Diagnostic), ConnectError> {
    let start = Instant::now();
    let connector = Connector::to(sockets.clone())
        .client_name(concat!("escherctl ", env!("CARGO_PKG_VERSION")))
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .reconnect_timeout(Duration::ZERO);
    let client = connector.connect().await?;
    let daemon = client.welcome().daemon;
    let elapsed = start.elapsed().as_millis().max(1);
    let diagnostic = Diagnostic::ok(CHECK, format!("{daemon} answered in {elapsed} ms"));
    Ok((client, diagnostic))
}

/// Says why there is no connection.
pub(super) fn failure(error: ConnectError) -> Diagnostic {
    let hangs = matches!(error, ConnectError::Timeout { .. });
    let advice = advice_if_it_hangs(error.path());
    let details = Failure::connect(error).details();
    let diagnostic = Diagnostic::failure(CHECK, details.message);
    match details.hint {
        _ if hangs => diagnostic.advise(advice),
        Some(hint) => diagnostic.advise(hint),
        None => diagnostic,
    }
}

/// Has escherd check itself.
pub(super) async fn check_escherd(client: &Client) -> Vec<Diagnostic> {
    let check = "examination";
    let socket = client.socket().path();
    let requests = async { (client.diagnose().await, client.info().await) };
    let Ok((examined, info)) = tokio::time::timeout(SELF_CHECK_TIMEOUT, requests).await else {
        let timeout = time::duration(SELF_CHECK_TIMEOUT);
        let message = format!("escherd did not finish checking itself within {timeout}");
        return vec![Diagnostic::failure(check, message).advise(advice_if_it_hangs(socket))];
    };
    let mut diagnostics = match examined {
        Ok(diagnostics) => diagnostics,
        Err(error) => {
            let option = systemctl_option(socket);
            return vec![
                Diagnostic::failure(check, error.to_string())
                    .advise(format!("see `journalctl{option} -u escherd`")),
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
