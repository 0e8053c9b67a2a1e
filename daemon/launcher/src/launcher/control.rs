//! The launcher's connection to escherd: the other end of its standard input, for an escherd that
//! has started the launcher, or connections to the socket of a keeper, one escherd after the other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use escher_protocol::codec;
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;

use crate::ipc::packet::{PacketSocket, Waiting, is_listener};
use crate::ipc::wire::{LauncherReply, LauncherRequest};
use crate::os::peer_credentials::{self, PeerCredentials};
use crate::sys;

/// How long an escherd that has connected by itself may leave messages unread before it is
/// disconnected: while a send blocks, the launcher handles no signals.
const SEND_TIMEOUT: TimeVal = TimeVal::new(5, 0);

/// The launcher's connection to escherd.
pub(super) struct Control {
    /// `None` while no escherd is connected.
    socket: Option<PacketSocket>,
    /// `None` where escherd has started the launcher.
    listener: Option<Listener>,
}

struct Listener {
    socket: OwnedFd,
    /// The user as whom escherd runs.
    escherd_uid: u32,
}

/// Result of [`Control::receive`].
pub(super) enum Received {
    Request(LauncherRequest),
    /// No request is waiting.
    Nothing,
    Disconnected,
}

impl Control {
    /// Wraps the launcher's standard input. If it is a listening socket, it accepts the user
    /// `escherd_uid`.
    pub(super) fn new(stdin: OwnedFd, escherd_uid: u32) -> Self {
        if is_listener(stdin.as_fd()) {
            Control {
                socket: None,
                listener: Some(Listener {
                    socket: stdin,
                    escherd_uid,
                }),
            }
        } else {
            Control {
                socket: Some(PacketSocket::from_descriptor(stdin)),
                listener: None,
            }
        }
    }

    /// Whether another escherd can connect after this one.
    pub(super) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether an escherd is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns the descriptor of the next event: escherd's connection or, without one, the
    /// listening socket.
    pub(super) fn next_readable(&self) -> Option<BorrowedFd<'_>> {
        let connection = self.socket.as_ref().map(AsFd::as_fd);
        connection.or(self
            .listener
            .as_ref()
            .map(|listener| listener.socket.as_fd()))
    }

    /// Accepts the next escherd; `None` when none waits or its user is not allowed.
    ///
    /// # Errors
    /// Those of accept4(2).
    pub(super) fn accept(&mut self) -> io::Result<Option<PeerCredentials>> {
        let Some(listener) = &self.listener else {
            return Ok(None);
        };
        let socket = match sys::accept(listener.socket.as_fd()) {
            Ok(socket) => socket,
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return Ok(None),
                _ => return Err(error),
            },
        };
        let peer = peer_credentials::credentials(&socket)?;
        // The mode of the socket's file says the same, but a peer may have connected before it was
        // set.
        if ![0, listener.escherd_uid, geteuid().as_raw()].contains(&peer.uid) {
            return Ok(None);
        }
        setsockopt(&socket, sockopt::SendTimeout, &SEND_TIMEOUT)?;
        self.socket = Some(PacketSocket::from_descriptor(socket));
        Ok(Some(peer))
    }

    /// Receives the next request, without waiting.
    ///
    /// # Errors
    /// For an escherd that has started the launcher: those of recvmsg(2), and a packet that is no
    /// request. Another escherd is disconnected instead.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let Some(socket) = &self.socket else {
            return Ok(Received::Nothing);
        };
        let packet = match socket.receive(buffer, Waiting::Never) {
            // escherd has disconnected with unread messages (unix(7)).
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            packet => packet,
        };
        let received = match packet {
            Ok(Some(packet)) => codec::decode(&buffer[..packet.length])
                .map(Received::Request)
                .map_err(io::Error::other),
            Ok(None) => Ok(Received::Disconnected),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        };
        let received = match received {
            Err(_) if self.is_listening() => Received::Disconnected,
            received => received?,
        };
        if matches!(received, Received::Disconnected) {
            self.socket = None;
        }
        Ok(received)
    }

    /// Sends a message with a descriptor, if given. It is lost where escherd has disconnected,
    /// which [`Control::receive`] reports next.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub(super) fn send(
        &self,
        message: &LauncherReply,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let bytes = codec::encode(message).map_err(io::Error::other)?;
        match socket.send(&bytes, descriptor, Waiting::Allowed) {
            Err(error) => match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
                // After `SEND_TIMEOUT`.
                io::ErrorKind::WouldBlock => Ok(shutdown(socket.as_raw_fd(), Shutdown::Both)?),
                _ => Err(error),
            },
            sent => sent,
        }
    }
}
