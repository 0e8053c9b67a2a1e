//! A shim's own socket in the runtime directory, from its side: see [`crate::ipc::shim_socket`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use escher_protocol::ExecutionId;
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use uuid::Uuid;

use crate::ipc::packet::PacketSocket;
use crate::ipc::shim_socket::{SocketName, through};
use crate::sys;

/// How many may wait for a shim whose escherd still lives. There is one escherd at a time; the others are
/// connections of those that have died since.
const BACKLOG: i32 = 8;

/// Where another escherd can come in.
pub(crate) struct Door {
    /// Does not block.
    listener: OwnedFd,
    name: SocketName,
    /// The user of escherd.
    escherd: u32,
}

impl Door {
    /// Makes a socket in `directory` and listens, for escherd, which runs as this user.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2); no file is left behind then.
    pub(crate) fn open(directory: BorrowedFd<'_>, escherd: u32) -> io::Result<Self> {
        let door = Door {
            listener: socket(
                AddressFamily::Unix,
                SockType::SeqPacket,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                None,
            )?,
            name: SocketName::Ready(Uuid::now_v7()),
            escherd,
        };
        let name = door.name.to_string();
        let path = format!("{}/{name}", through(directory));
        bind(door.listener.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
        // To connect is to write (unix(7)). Who gets this far, the directory says.
        let mode = Mode::from_bits_truncate(0o660);
        let listening = fchmodat(directory, name.as_str(), mode, FchmodatFlags::FollowSymlink)
            .and_then(|()| Backlog::new(BACKLOG))
            .and_then(|backlog| listen(&door.listener, backlog));
        if listening.is_err() {
            door.remove(directory);
        }
        listening?;
        Ok(door)
    }

    pub(crate) fn name(&self) -> SocketName {
        self.name
    }

    /// Says by the socket's name that this shim has this attempt from now on.
    ///
    /// # Errors
    /// Those of renameat(2); the name is the earlier one then.
    pub(crate) fn claim(
        &mut self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        attempt: u32,
    ) -> io::Result<()> {
        let (earlier, claim) = (self.name.to_string(), SocketName::Claim { id, attempt });
        renameat(
            directory,
            earlier.as_str(),
            directory,
            claim.to_string().as_str(),
        )?;
        self.name = claim;
        Ok(())
    }

    /// Removes the socket's file. Who is connected stays so.
    pub(crate) fn remove(&self, directory: BorrowedFd<'_>) {
        remove(directory, self.name);
    }

    /// Readable while somebody waits.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Lets the next one in who may come in; `None` when nobody waits. Who is neither root nor escherd's user is
    /// turned away: what it would hear is the business of neither.
    ///
    /// # Errors
    /// Those of accept4(2): no descriptors left. Somebody may still be waiting then.
    pub(crate) fn let_in(&self) -> io::Result<Option<PacketSocket>> {
        loop {
            let socket = match sys::accept(self.listener.as_fd()) {
                Ok(socket) => socket,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(None),
                    Some(Errno::EINTR | Errno::ECONNABORTED) => continue,
                    _ => return Err(error),
                },
            };
            let peer = getsockopt(&socket, sockopt::PeerCredentials)?.uid();
            if peer == 0 || peer == self.escherd {
                return Ok(Some(PacketSocket::from_descriptor(socket)));
            }
        }
    }
}

/// Removes the file of a socket, if it is there.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: SocketName) {
    let name = name.to_string();
    let _ = unlinkat(directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
}
