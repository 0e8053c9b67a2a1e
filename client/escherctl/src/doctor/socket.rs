//! Which socket is used and why, and what is there.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use escher_client::Diagnostic;

use crate::socket_access::{SocketPermissions, closed_directory, group_name};
use crate::socket_choice::{SocketChoice, SocketOrigin};

const CHECK: &str = "socket";

/// Checks the socket, and returns its permissions if it exists.
pub(super) fn check(choice: &SocketChoice) -> (Diagnostic, Option<SocketPermissions>) {
    let path = choice.path();
    let shown = format!("{} ({})", path.display(), describe_origin(choice.origin()));
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
                .advise(advise_on_missing(choice, &error));
            (diagnostic, None)
        }
    }
}

fn advise_on_missing(choice: &SocketChoice, error: &io::Error) -> String {
    match (error.kind(), choice.origin()) {
        (io::ErrorKind::PermissionDenied, _) => {
            let parent = choice.path().parent().unwrap_or(Path::new("/"));
            let directory = closed_directory(choice.path()).unwrap_or(parent);
            format!(
                "let users search the directory: `chmod +x {}`",
                directory.display()
            )
        }
        (_, SocketOrigin::Option | SocketOrigin::Environment) => {
            "start the escherd that listens there, or specify another socket".to_owned()
        }
        (_, SocketOrigin::System) => {
            "run `systemctl enable --now escherd.socket`, or `escherd` as root".to_owned()
        }
        (_, SocketOrigin::User) => {
            "run `systemctl enable --now escherd.socket` for the host, or `escherd --user` for \
             yourself"
                .to_owned()
        }
    }
}

fn describe_origin(origin: SocketOrigin) -> &'static str {
    match origin {
        SocketOrigin::Option => "from --socket",
        SocketOrigin::Environment => "from ESCHER_SOCKET",
        SocketOrigin::System => "the system's socket",
        SocketOrigin::User => "the user's socket; the system's does not exist",
    }
}

fn describe_permissions(metadata: &Metadata) -> String {
    let mode = metadata.mode() & 0o7777;
    format!("mode {mode:04o}, group {}", group_name(metadata.gid()))
}
