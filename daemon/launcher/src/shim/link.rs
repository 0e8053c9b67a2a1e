//! The shim's connection to escherd, which may be lost at any time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use escher_protocol::codec;

use crate::packet::{PacketSocket, Waiting};
use crate::wire::{FromShim, MAX_PACKET_BYTES, ToShim};

/// Messages to and from escherd.
pub(super) struct Link {
    socket: Option<PacketSocket>,
    buffer: Box<[u8]>,
}

impl Link {
    pub(super) fn new(socket: PacketSocket) -> Self {
        Link {
            socket: Some(socket),
            buffer: vec![0; MAX_PACKET_BYTES].into_boxed_slice(),
        }
    }

    /// The socket, while there is an escherd behind it.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// The next message that has arrived, with its descriptor; `None` when there is none. An escherd that
    /// is gone, or that talks nonsense, is given up.
    pub(super) fn receive(&mut self) -> Option<(ToShim, Option<OwnedFd>)> {
        let socket = self.socket.as_ref()?;
        let received = match socket.receive(&mut self.buffer, Waiting::Never) {
            Ok(Some(received)) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(None) | Err(_) => {
                self.socket = None;
                return None;
            }
        };
        match codec::decode(&self.buffer[..received.length]) {
            Ok(message) => Some((message, received.descriptor)),
            Err(_) => {
                self.socket = None;
                None
            }
        }
    }

    /// Sends `message`. It never waits: a shim has few messages under way at once (each but the two that
    /// mark start and end answers one of escherd's), so that a socket without room means that escherd
    /// has stopped reading for good.
    pub(super) fn send(&mut self, message: &FromShim) {
        let Some(socket) = &self.socket else { return };
        let sent = match codec::encode(message) {
            Ok(bytes) => socket.send(&bytes, None, Waiting::Never),
            Err(error) => Err(io::Error::other(error)),
        };
        if sent.is_err() {
            self.socket = None;
        }
    }
}
