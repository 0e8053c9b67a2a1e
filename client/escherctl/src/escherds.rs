//! What the escherds of a host are called in messages, and how to reach their service managers.

use std::path::Path;

use escher_client::{EscherdSocket, SocketOrigin};

/// Returns the path of a socket and whose it is, or who has named it.
pub(crate) fn describe(socket: &EscherdSocket) -> String {
    let origin = match socket.origin() {
        SocketOrigin::Program => "from --socket",
        SocketOrigin::Environment => "from ESCHER_SOCKET",
        SocketOrigin::System => "the system's",
        SocketOrigin::User => "your own",
    };
    format!("{} ({origin})", socket.path().display())
}

/// Returns what systemd's programs take to reach the service manager of the escherd at `socket`: ` --user`
/// or nothing.
pub(crate) fn systemctl_option(socket: &Path) -> &'static str {
    if socket == EscherdSocket::user().path() {
        " --user"
    } else {
        ""
    }
}
