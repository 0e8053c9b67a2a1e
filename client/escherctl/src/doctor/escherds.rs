//! Which of two escherds is used, and why.

use std::io;
use std::path::Path;

use escher_client::{Client, ConnectError, Diagnostic, EscherdSocket, SocketChoice, SocketOrigin};

use crate::escherds::describe;
use crate::socket_access::why_denied;

/// Lists the system's escherd and the user's own where there are both. `connected`: what has become of the
/// attempt to connect.
pub(super) fn check(
    sockets: &SocketChoice,
    connected: Result<&Client, &ConnectError>,
) -> Option<Diagnostic> {
    let both = [EscherdSocket::system(), EscherdSocket::user()];
    if !both.iter().all(|socket| may_exist(socket.path())) {
        return None;
    }
    let used = match connected {
        Ok(client) => client.socket(),
        Err(error) => sockets
            .alternative()
            .filter(|own| own.path() == error.path())
            .unwrap_or(sockets.preferred()),
    };
    let passed_over = connected.ok().and_then(Client::passed_over);
    let message = format!(
        "there are {} and {}; escherctl uses {}, since {}",
        describe(&both[0]),
        describe(&both[1]),
        used.path().display(),
        reason(sockets, used, passed_over)
    );
    let advice = "choose one with --system or --user";
    Some(Diagnostic::note("escherds", message).advise(advice))
}

fn reason(
    sockets: &SocketChoice,
    used: &EscherdSocket,
    passed_over: Option<&ConnectError>,
) -> String {
    if let Some(error) = passed_over {
        return match why_denied(error.path()) {
            Some(reason) => format!("{error}: {}", reason.message),
            None => error.to_string(),
        };
    }
    let reason = match used.origin() {
        SocketOrigin::Program => "--socket names it",
        SocketOrigin::Environment => "ESCHER_SOCKET names it",
        SocketOrigin::User if sockets.alternative().is_some() => "the system's cannot be used",
        SocketOrigin::User => "--user chooses it",
        SocketOrigin::System if sockets.alternative().is_none() => "--system chooses it",
        SocketOrigin::System => "the system's is preferred",
    };
    reason.to_owned()
}

/// Whether there is a file, or this user may not know.
fn may_exist(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}
