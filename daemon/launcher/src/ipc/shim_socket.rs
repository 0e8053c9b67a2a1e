//! The sockets by which another escherd finds the shims of an earlier one.
//!
//! `<runtime dir>/shims/` holds one listening `SOCK_SEQPACKET` socket for each living shim. Its name says
//! what the shim has been asked for: it is `<uuid>.ready` from the shim's birth, and
//! `<execution id>.<attempt>.claim` from the moment at which the shim takes a command, renamed before it makes
//! the process. So there is a claim for an attempt exactly if a shim has come to the point of starting it. A shim whose execution is
//! over keeps the name until it takes the next. It removes its socket when it ends; that of a shim that was
//! killed stays and refuses connections.
//!
//! A shim listens to nobody while it has an escherd: who connects then waits for the other to be gone. The
//! first packet that it sends is [`FromShim::Adoptable`](crate::ipc::wire::FromShim::Adoptable).

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::str::FromStr;

use escher_protocol::ExecutionId;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use uuid::Uuid;

use crate::ipc::packet::PacketSocket;

/// Name of the directory of the sockets, inside the runtime directory.
pub const DIRECTORY: &str = "shims";

/// The name of a shim's socket. As text ([`fmt::Display`], [`FromStr`]) it is the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketName {
    /// The shim has never had a command. The number is its own and of no execution.
    Ready(Uuid),
    /// The shim has come to the point of starting this attempt, its last.
    Claim {
        /// Which execution.
        id: ExecutionId,
        /// Which attempt to run it, from 1.
        attempt: u32,
    },
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketName::Ready(number) => write!(f, "{}.ready", number.hyphenated()),
            SocketName::Claim { id, attempt } => write!(f, "{id}.{attempt}.claim"),
        }
    }
}

/// The name of a file that is no socket of a shim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a shim's socket (<uuid>.ready or <execution id>.<attempt>.claim)")]
pub struct ParseNameError;

impl FromStr for SocketName {
    type Err = ParseNameError;

    /// Accepts exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let (stem, kind) = text.split_once('.').ok_or(ParseNameError)?;
        let id: ExecutionId = stem.parse().map_err(|_| ParseNameError)?;
        let name = match kind.split_once('.') {
            None if kind == "ready" => SocketName::Ready(Uuid::from_bytes(id.into_bytes())),
            Some((attempt, "claim")) => {
                let attempt = attempt.parse().map_err(|_| ParseNameError)?;
                SocketName::Claim { id, attempt }
            }
            _ => return Err(ParseNameError),
        };
        if name.to_string() == text {
            Ok(name)
        } else {
            Err(ParseNameError)
        }
    }
}

/// The sockets in `directory`, in no order. What bears no name of a socket is passed over; whether a shim
/// lives behind one, [`connect`] tells. While shims come and go some may be missed, but never one that had
/// its name all the while.
///
/// # Errors
/// Those of reading a directory.
pub fn list(directory: impl AsFd) -> io::Result<Vec<SocketName>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(through(directory.as_fd()))? {
        let name = entry?.file_name();
        names.extend(
            name.to_str()
                .and_then(|name| name.parse::<SocketName>().ok()),
        );
    }
    Ok(names)
}

/// Connects to the shim whose socket in `directory` has this name, without waiting. The connection does
/// not block: what would wait fails with [`io::ErrorKind::WouldBlock`].
///
/// That the connection stands says that the shim lives, no more. It takes it up once its earlier escherd is
/// gone and it has a command; if it ends instead, the connection is reset or at its end, and the claim is
/// gone or there is an [exit record](crate::ipc::exit_record).
///
/// # Errors
/// - [`io::ErrorKind::ConnectionRefused`]: the shim is dead.
/// - [`io::ErrorKind::NotFound`]: there is no such socket (any more).
/// - [`io::ErrorKind::WouldBlock`]: the shim lives, but others wait for it already.
/// - Those of socket(2).
pub fn connect(directory: impl AsFd, name: &SocketName) -> io::Result<PacketSocket> {
    // The file itself, even where it is a link (open(2)): what is no socket refuses connections.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, name.to_string().as_str(), flags, Mode::empty())?;
    PacketSocket::connect(Path::new(&through(file.as_fd())))
}

/// A path to what `descriptor` stands for. It is short, whatever the place of the file: the address of a
/// Unix socket has 108 bytes at most (unix(7)).
pub(crate) fn through(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is_one() {
        let id = ExecutionId::generate();
        let claim = |attempt| SocketName::Claim { id, attempt };
        for name in [SocketName::Ready(Uuid::now_v7()), claim(1), claim(23)] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let upper = id.to_string().to_uppercase();
        let others = [
            String::new(),
            id.to_string(),
            format!("{id}."),
            format!("{id}.exit"),
            format!("{id}.claim"),
            format!("{id}.01.claim"),
            format!("{id}.1.claim.new"),
            format!("{id}.1.ready"),
            format!(".{id}.1.claim"),
            format!("{upper}.1.claim"),
            format!("../{id}.1.claim"),
            "1.1.claim".to_owned(),
        ];
        for text in others {
            assert_eq!(text.parse::<SocketName>(), Err(ParseNameError), "{text}");
        }
    }
}
