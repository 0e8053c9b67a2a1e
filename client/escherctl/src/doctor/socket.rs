//! Which socket is used and why, and what is there.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use escher_client::Diagnostic;

use super::access::{Place, group_name};
use crate::socket::{Origin, SocketChoice};

const CHECK: &str = "socket";

/// The diagnostic, and the socket if there is one.
pub(super) fn examine(choice: &SocketChoice) -> (Vec<Diagnostic>, Option<Place>) {
    let path = choice.path();
    let shown = format!("{}, {}", path.display(), why(choice));
    match path.metadata() {
        Ok(found) if found.file_type().is_socket() => {
            let place = Place::of(&found);
            let diagnostic = Diagnostic::ok(CHECK, format!("{shown}: {}", describe(&found)));
            (vec![diagnostic], Some(place))
        }
        Ok(_) => {
            let diagnostic = Diagnostic::failure(CHECK, format!("{shown}, is no socket"));
            (
                vec![diagnostic.advise("name escherd's socket with --socket or ESCHER_SOCKET")],
                None,
            )
        }
        Err(error) => (vec![absent(choice, &shown, &error)], None),
    }
}

fn absent(choice: &SocketChoice, shown: &str, error: &io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::failure(CHECK, format!("{shown}: {error}"));
    diagnostic.advise(match (error.kind(), choice.origin()) {
        (io::ErrorKind::PermissionDenied, _) => {
            "the directory is closed to you: `chmod 0755` of the runtime directory lets users reach the socket in it"
        }
        (_, Origin::Option | Origin::Variable) => {
            "start the escherd that listens there, or name another socket"
        }
        (_, Origin::System) => "`systemctl enable --now escherd.socket`, or as root `escherd`",
        (_, Origin::User) => {
            "`systemctl enable --now escherd.socket` for the host, or `escherd --user` for yourself"
        }
    })
}

/// Why it is this one.
fn why(choice: &SocketChoice) -> &'static str {
    match choice.origin() {
        Origin::Option => "by --socket",
        Origin::Variable => "by ESCHER_SOCKET",
        Origin::System => "the system's",
        Origin::User => "your own, for there is none of the system's",
    }
}

fn describe(found: &Metadata) -> String {
    let mode = found.mode() & 0o7777;
    format!("mode {mode:04o}, group {}", group_name(found.gid()))
}
