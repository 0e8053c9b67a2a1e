//! Where escherd comes from: it has started the launcher and holds the other end of its standard input, or it connects
//! to the socket that a keeper listens on, one escherd after the other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use escher_protocol::codec;
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, getsockopt, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;

use crate::ipc::packet::{PacketSocket, Waiting};
use crate::ipc::wire::{LauncherReply, LauncherRequest};
use crate::os::peer_credentials::{self, PeerCredentials};
use crate::sys;

/// Whether a descriptor is a socket that listens.
pub(crate) fn listens(descriptor: BorrowedFd<'_>) -> bool {
    getsockopt(&descriptor, sockopt::AcceptConn).unwrap_or(false)
}

/// How long an escherd that has come by itself may leave unread what it is told, until it counts as gone: the launcher
/// has to hear signals, too.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

/// The launcher's way to escherd.
pub(super) struct Control {
    /// escherd, while there is one.
    socket: Option<PacketSocket>,
    /// Where the next one comes, and the user that it has to be.
    listener: Option<(OwnedFd, u32)>,
}

/// What has come from escherd.
pub(super) enum Heard {
    Request(LauncherRequest),
    /// Not yet.
    Nothing,
    /// escherd is gone.
    Gone,
}

impl Control {
    /// By the launcher's standard input; `escherd` is the user whom a listening one lets in.
    pub(super) fn new(stdin: OwnedFd, escherd: u32) -> Self {
        if listens(stdin.as_fd()) {
            Control {
                socket: None,
                listener: Some((stdin, escherd)),
            }
        } else {
            Control {
                socket: Some(PacketSocket::from_descriptor(stdin)),
                listener: None,
            }
        }
    }

    /// Whether another escherd comes when this one is gone.
    pub(super) fn outlives_escherd(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether there is an escherd.
    pub(super) fn has_escherd(&self) -> bool {
        self.socket.is_some()
    }

    /// What becomes readable next: escherd, or, where there is none, the next.
    pub(super) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        let listener = self.listener.as_ref().map(|listener| listener.0.as_fd());
        self.socket.as_ref().map(AsFd::as_fd).or(listener)
    }

    /// Lets the next escherd in; `None` when nobody is there who may come in.
    ///
    /// # Errors
    /// Those of accept4(2).
    pub(super) fn let_in(&mut self) -> io::Result<Option<PeerCredentials>> {
        let Some((listener, escherd)) = &self.listener else {
            return Ok(None);
        };
        let socket = match sys::accept(listener.as_fd()) {
            Ok(socket) => socket,
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return Ok(None),
                _ => return Err(error),
            },
        };
        let peer = peer_credentials::credentials(&socket)?;
        // The file's mode says the same; but who may have connected before it did?
        if peer.uid != 0 && peer.uid != *escherd && peer.uid != geteuid().as_raw() {
            return Ok(None);
        }
        setsockopt(&socket, sockopt::SendTimeout, &PATIENCE)?;
        self.socket = Some(PacketSocket::from_descriptor(socket));
        Ok(Some(peer))
    }

    /// What escherd wants next.
    ///
    /// # Errors
    /// Those of recvmsg(2), and what is no request: of the escherd that has started the launcher. Another is turned
    /// away for it.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Heard> {
        let Some(socket) = &self.socket else {
            return Ok(Heard::Nothing);
        };
        let received = match socket.receive(buffer, Waiting::Never) {
            // escherd has gone and left unread what was said to it last (unix(7)).
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            received => received,
        };
        let heard = match received {
            Ok(Some(packet)) => codec::decode(&buffer[..packet.length])
                .map(Heard::Request)
                .map_err(io::Error::other),
            Ok(None) => Ok(Heard::Gone),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(error) => Err(error),
        };
        let heard = match heard {
            Err(_) if self.outlives_escherd() => Heard::Gone,
            heard => heard?,
        };
        if matches!(heard, Heard::Gone) {
            self.socket = None;
        }
        Ok(heard)
    }

    /// Where escherd has just gone nobody hears it; what is received next tells that, too.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub(super) fn say(
        &self,
        message: &LauncherReply,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let Some(control) = &self.socket else {
            return Ok(());
        };
        let bytes = codec::encode(message).map_err(io::Error::other)?;
        match control.send(&bytes, socket, Waiting::Allowed) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Its end is received next.
                Ok(shutdown(control.as_raw_fd(), Shutdown::Both)?)
            }
            sent => sent,
        }
    }
}
