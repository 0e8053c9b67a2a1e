//! The sockets by which an escherd finds the shims that an earlier one started.
//!
//! `<runtime dir>/shims/` holds one listening `SOCK_SEQPACKET` socket for each living shim. Its
//! name is `<uuid>.unused` when the shim is forked. When the shim takes a command it renames the
//! socket to `<execution id>.<attempt>.claim`, just before it creates the process. So a claim
//! exists exactly if a shim has begun to start that attempt. The shim keeps the name until it takes
//! its next command, and removes the socket when it ends. The socket of a killed shim stays and
//! refuses connections.
//!
//! A shim whose command has left processes ([`Leftovers::Left`]) takes no further command. Its socket gets
//! a second name (link(2)), `<execution id>.<uid>.left`, before the end of the execution is reported, so that
//! what is left can be found by everybody who knows of the end. The claim is removed once the end is recorded.
//!
//! [`Leftovers::Left`]: escher_protocol::Leftovers::Left
//!
//! While a shim is connected to an escherd it accepts no other connection; the next one waits in
//! the backlog. The first packet on an accepted connection is
//! [`FromShim::Adoptable`](crate::ipc::wire::FromShim::Adoptable).

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;

use escher_protocol::ExecutionId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use uuid::Uuid;

use crate::ipc::packet::PacketSocket;
use crate::os::descriptor_path::descriptor_path;
use crate::sys;

/// Name of the directory of the sockets, inside the runtime directory.
pub const DIRECTORY: &str = "shims";

/// Connections that may wait while a shim's escherd lives. There is one escherd at a time; the
/// others are connections of escherds that have died since.
const BACKLOG: i32 = 8;

/// The name of a shim's socket. As text ([`fmt::Display`], [`FromStr`]) it is the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketName {
    /// The shim has never had a command. The number is random.
    Unused(Uuid),
    /// The shim has begun to start this attempt, its last.
    Claim {
        /// Which execution.
        id: ExecutionId,
        /// Which attempt to run it, from 1.
        attempt: u32,
    },
    /// The shim has what the command of this execution has left.
    Left {
        /// Which execution.
        id: ExecutionId,
        /// Who has submitted it.
        uid: u32,
    },
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketName::Unused(number) => write!(f, "{}.unused", number.hyphenated()),
            SocketName::Claim { id, attempt } => write!(f, "{id}.{attempt}.claim"),
            SocketName::Left { id, uid } => write!(f, "{id}.{uid}.left"),
        }
    }
}

/// A file name that is not the name of a shim's socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the name of a shim's socket (<uuid>.unused, <execution id>.<attempt>.claim or <execution id>.<uid>.left)"
)]
pub struct ParseSocketNameError;

impl FromStr for SocketName {
    type Err = ParseSocketNameError;

    /// Accepts exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ParseSocketNameError> {
        let (stem, suffix) = text.split_once('.').ok_or(ParseSocketNameError)?;
        let id: ExecutionId = stem.parse().map_err(|_| ParseSocketNameError)?;
        let name = match suffix.split_once('.') {
            None if suffix == "unused" => SocketName::Unused(Uuid::from_bytes(id.into_bytes())),
            Some((attempt, "claim")) => {
                let attempt = attempt.parse().map_err(|_| ParseSocketNameError)?;
                SocketName::Claim { id, attempt }
            }
            Some((uid, "left")) => {
                let uid = uid.parse().map_err(|_| ParseSocketNameError)?;
                SocketName::Left { id, uid }
            }
            _ => return Err(ParseSocketNameError),
        };
        if name.to_string() == text {
            Ok(name)
        } else {
            Err(ParseSocketNameError)
        }
    }
}

/// Lists the sockets in `directory`, in no order; other files are skipped. [`connect`] tells
/// whether a shim listens on a socket. A socket that is created, renamed or removed meanwhile may
/// be missing from the list.
///
/// # Errors
/// Those of reading a directory.
pub fn list(directory: impl AsFd) -> io::Result<Vec<SocketName>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(descriptor_path(directory.as_fd()))? {
        let name = entry?.file_name();
        names.extend(
            name.to_str()
                .and_then(|name| name.parse::<SocketName>().ok()),
        );
    }
    Ok(names)
}

/// Counts the executions of this user of which a shim has leftovers.
fn count_left(directory: BorrowedFd<'_>, of: u32) -> io::Result<usize> {
    let is_left = |name: &SocketName| matches!(name, SocketName::Left { uid, .. } if *uid == of);
    Ok(list(directory)?.into_iter().filter(is_left).count())
}

/// Connects to the shim whose socket in `directory` has this name, without waiting. The connection
/// does not block: a call that would wait fails with [`io::ErrorKind::WouldBlock`].
///
/// A connection proves only that the shim lives. The shim accepts it once its earlier escherd has
/// disconnected, if it still has a command then. Otherwise the shim ends, which resets or closes
/// the connection, and the claim is gone or there is an [exit record](crate::ipc::exit_record).
///
/// # Errors
/// - [`io::ErrorKind::ConnectionRefused`]: the shim is dead.
/// - [`io::ErrorKind::NotFound`]: there is no such socket, or not any more.
/// - [`io::ErrorKind::WouldBlock`]: the shim lives, and its backlog is full.
/// - Those of socket(2).
pub fn connect(directory: impl AsFd, name: &SocketName) -> io::Result<PacketSocket> {
    // A symbolic link is opened itself (open(2)); it is no socket, and refuses connections.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, name.to_string().as_str(), flags, Mode::empty())?;
    PacketSocket::connect(Path::new(&descriptor_path(file.as_fd())))
}

/// Removes the file of a socket, if it exists.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: SocketName) {
    let name = name.to_string();
    let _ = unlinkat(directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
}

/// A shim's own socket, on which it accepts the next escherd.
pub(crate) struct ShimListener {
    /// Does not block.
    socket: OwnedFd,
    name: SocketName,
    /// The user as whom escherd runs.
    escherd_uid: u32,
}

impl ShimListener {
    /// Creates a socket in `directory` and listens on it, for an escherd that runs as this user.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2); no file is left behind then.
    pub(crate) fn open(directory: BorrowedFd<'_>, escherd_uid: u32) -> io::Result<Self> {
        let listener = ShimListener {
            socket: socket(
                AddressFamily::Unix,
                SockType::SeqPacket,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                None,
            )?,
            name: SocketName::Unused(Uuid::now_v7()),
            escherd_uid,
        };
        let name = listener.name.to_string();
        let path = format!("{}/{name}", descriptor_path(directory));
        bind(listener.socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
        // Connecting needs write permission (unix(7)). The directory limits who reaches the file.
        let mode = Mode::from_bits_truncate(0o660);
        let listening = fchmodat(directory, name.as_str(), mode, FchmodatFlags::FollowSymlink)
            .and_then(|()| Backlog::new(BACKLOG))
            .and_then(|backlog| listen(&listener.socket, backlog));
        if listening.is_err() {
            listener.remove(directory);
        }
        listening?;
        Ok(listener)
    }

    /// Returns the current name of the socket.
    pub(crate) fn name(&self) -> SocketName {
        self.name
    }

    /// Renames the socket to the claim of an attempt.
    ///
    /// # Errors
    /// Those of renameat(2); the socket keeps its name then.
    pub(crate) fn claim(
        &mut self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        attempt: u32,
    ) -> io::Result<()> {
        let name = SocketName::Claim { id, attempt };
        let (old_name, new_name) = (self.name.to_string(), name.to_string());
        renameat(directory, old_name.as_str(), directory, new_name.as_str())?;
        self.name = name;
        Ok(())
    }

    /// Gives the socket the name of a shim with leftovers as well, unless `most` executions of this user
    /// have left something already. Returns whether it has the name. Of two shims that do this at once, each
    /// counts the other: there are never more.
    ///
    /// # Errors
    /// Those of linkat(2) and of reading a directory; the socket keeps its only name then.
    pub(crate) fn add_left_name(
        &self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        uid: u32,
        most: u32,
    ) -> io::Result<bool> {
        let left = SocketName::Left { id, uid };
        let (name, second_name) = (self.name.to_string(), left.to_string());
        let no_flags = AtFlags::empty();
        linkat(
            directory,
            name.as_str(),
            directory,
            second_name.as_str(),
            no_flags,
        )?;
        let is_allowed = count_left(directory, uid).map(|count| count <= most as usize);
        if !matches!(is_allowed, Ok(true)) {
            remove(directory, left);
        }
        is_allowed
    }

    /// Removes the claim of a socket that has the [name of a shim with leftovers](Self::add_left_name).
    ///
    /// # Errors
    /// Those of unlinkat(2); the socket keeps both names then.
    pub(crate) fn remove_claim(
        &mut self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        uid: u32,
    ) -> io::Result<()> {
        let claim = self.name.to_string();
        unlinkat(directory, claim.as_str(), UnlinkatFlags::NoRemoveDir)?;
        self.name = SocketName::Left { id, uid };
        Ok(())
    }

    /// Removes the socket's file. An accepted connection stays open.
    pub(crate) fn remove(&self, directory: BorrowedFd<'_>) {
        remove(directory, self.name);
    }

    /// Accepts the next connection; `None` when none waits. Peers that are neither root nor
    /// escherd's user are disconnected: the state of a command is none of their business.
    ///
    /// # Errors
    /// Those of accept4(2): no descriptors left. The connection then still waits.
    pub(crate) fn accept(&self) -> io::Result<Option<PacketSocket>> {
        loop {
            let socket = match sys::accept(self.socket.as_fd()) {
                Ok(socket) => socket,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(None),
                    Some(Errno::EINTR | Errno::ECONNABORTED) => continue,
                    _ => return Err(error),
                },
            };
            let peer = getsockopt(&socket, sockopt::PeerCredentials)?.uid();
            if peer == 0 || peer == self.escherd_uid {
                return Ok(Some(PacketSocket::from_descriptor(socket)));
            }
        }
    }
}

/// Readable while a connection waits.
impl AsFd for ShimListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_exactly_the_names_that_it_writes() {
        let id = ExecutionId::generate();
        let claim = |attempt| SocketName::Claim { id, attempt };
        let left = SocketName::Left { id, uid: 1000 };
        for name in [
            SocketName::Unused(Uuid::now_v7()),
            claim(1),
            claim(23),
            left,
        ] {
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
            format!("{id}.1.unused"),
            format!("{id}.-1.left"),
            format!("{id}.left"),
            format!(".{id}.1.claim"),
            format!("{upper}.1.claim"),
            format!("../{id}.1.claim"),
            "1.1.claim".to_owned(),
        ];
        for text in others {
            assert_eq!(
                text.parse::<SocketName>(),
                Err(ParseSocketNameError),
                "{text}"
            );
        }
    }
}
