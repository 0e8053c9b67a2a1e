//! What is at a socket of escherd.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use escher_client::{Diagnostic, EscherdSocket, SocketOrigin};

use crate::escherds::describe;
use crate::socket_access::{SocketPermissions, closed_directory, group_name};

const CHECK: &str = "socket";

/// Checks the socket, and returns its permissions if it exists.
pub(super) fn check(socket: &EscherdSocket) -> (Diagnostic, Option<SocketPermissions>) {
    let path = socket.path();
    let shown = describe(socket);
    match path.metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => {
            let message = format!("{shown}: {}", describe_permissions(&metadata));
            let permissions = SocketPermissions::from(&metadata);
            (Diagnostic::ok(CHECK, message), Some(permissions))
        }
        Ok(_) => {
            let diagnostic = Diagnostic::failure(CHECK, format!("{shown}: not a socket"))
                .advise("specify escherd's socket with --socket or ESCHER_SOCKET");
            (diagnostic, None)
        }
        Err(error) => {
            let diagnostic = Diagnostic::failure(CHECK, format!("{shown}: {error}"))
                .advise(advise_on_missing(socket, &error));
            (diagnostic, None)
        }
    }
}

fn advise_on_missing(socket: &EscherdSocket, error: &io::Error) -> String {
    match (error.kind(), socket.origin()) {
        (io::ErrorKind::PermissionDenied, _) => {
            let parent = socket.path().parent().unwrap_or(Path::new("/"));
            let directory = closed_directory(socket.path()).unwrap_or(parent);
            format!(
                "let users search the directory: `chmod +x {}`",
                directory.display()
            )
        }
        (_, SocketOrigin::Program | SocketOrigin::Environment) => {
            "start the escherd that listens there, or specify another socket".to_owned()
        }
        (_, SocketOrigin::System) => {
            "run `systemctl enable --now escherd.socket`, or `escherd` as root".to_owned()
        }
        (_, SocketOrigin::User) => {
            "run `systemctl --user enable --now escherd.socket`, or `escherd --user`".to_owned()
        }
    }
}

fn describe_permissions(metadata: &Metadata) -> String {
    let mode = metadata.mode() & 0o7777;
    format!("mode {mode:04o}, group {}", group_name(metadata.gid()))
}
