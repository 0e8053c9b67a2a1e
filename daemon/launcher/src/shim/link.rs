//! The shim's connection to escherd, which may be lost at any time and be replaced by another
//! escherd's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use escher_protocol::{ExecutionId, codec};

use crate::ipc::packet::{PacketSocket, Waiting};
use crate::ipc::shim_socket::{ShimListener, SocketName};
use crate::ipc::wire::{FromShim, MAX_PACKET_BYTES, ToShim};

/// Back-off after accept(2) has failed for lack of descriptors or memory. The connection still
/// waits then, so poll(2) would return at once, again and again.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Messages to and from escherd.
pub(super) struct Link {
    socket: Option<PacketSocket>,
    /// Whether escherd has disconnected but may have left messages, which are still to be read.
    is_peer_gone: bool,
    listener: ShimListener,
    /// Until when no connection is accepted.
    retry_accept_at: Option<Instant>,
    buffer: Box<[u8]>,
}

impl Link {
    pub(super) fn new(socket: PacketSocket, listener: ShimListener) -> Self {
        Link {
            socket: Some(socket),
            is_peer_gone: false,
            listener,
            retry_accept_at: None,
            buffer: vec![0; MAX_PACKET_BYTES].into_boxed_slice(),
        }
    }

    /// Whether an escherd is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns the connection to escherd, if there is one.
    pub(super) fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Returns the descriptor of the next event: the connection to escherd or, without one, the
    /// listener. While an escherd is connected others wait, so that its disconnection is noticed
    /// first.
    pub(super) fn next_readable(&self) -> Option<BorrowedFd<'_>> {
        match (&self.socket, self.retry_accept_at) {
            (Some(socket), _) => Some(socket.as_fd()),
            (None, Some(at)) if Instant::now() < at => None,
            (None, _) => Some(self.listener.as_fd()),
        }
    }

    /// Returns when [`Link::next_readable`] may change without an event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_accept_at.filter(|_| !self.is_connected())
    }

    /// Accepts a waiting escherd, if none is connected. Returns whether one was accepted.
    pub(super) fn accept(&mut self) -> bool {
        if self.is_connected() {
            return false;
        }
        self.retry_accept_at = None;
        match self.listener.accept() {
            Ok(socket) => self.socket = socket,
            Err(_) => self.retry_accept_at = Some(Instant::now() + ACCEPT_RETRY_DELAY),
        }
        self.is_peer_gone = false;
        self.is_connected()
    }

    /// As [`ShimListener::claim`].
    pub(super) fn claim(
        &mut self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        attempt: u32,
    ) -> io::Result<()> {
        self.listener.claim(directory, id, attempt)
    }

    /// As [`ShimListener::add_left_name`].
    pub(super) fn add_left_name(
        &self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        uid: u32,
        most: u32,
    ) -> io::Result<bool> {
        self.listener.add_left_name(directory, id, uid, most)
    }

    /// Listens as a shim with leftovers alone from now on (see [`ShimListener::remove_claim`]), and
    /// disconnects from escherd.
    pub(super) fn leave(
        &mut self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        uid: u32,
    ) -> io::Result<()> {
        let removed = self.listener.remove_claim(directory, id, uid);
        self.socket = None;
        removed
    }

    /// Whether the last claim was that of this attempt.
    pub(super) fn has_claimed(&self, id: ExecutionId, attempt: u32) -> bool {
        self.listener.name() == SocketName::Claim { id, attempt }
    }

    /// As [`ShimListener::remove`].
    pub(super) fn remove_socket(&self, directory: BorrowedFd<'_>) {
        self.listener.remove(directory);
    }

    /// Receives the next message with its descriptor; `None` when there is none. Disconnects from
    /// an escherd that has closed the connection or sends something that is not a message.
    pub(super) fn receive(&mut self) -> Option<(ToShim, Option<OwnedFd>)> {
        loop {
            let socket = self.socket.as_ref()?;
            let received = match socket.receive(&mut self.buffer, Waiting::Never) {
                Ok(Some(received)) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Reported once where escherd has disconnected with unread messages. Its own last
                // messages follow.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.is_peer_gone = true;
                    continue;
                }
                Ok(None) | Err(_) => {
                    self.socket = None;
                    return None;
                }
            };
            let bytes = &mut self.buffer[..received.length];
            let decoded = codec::decode(bytes);
            // It may have been the environment of a command.
            bytes.fill(0);
            return match decoded {
                Ok(message) => Some((message, received.descriptor)),
                Err(_) => {
                    self.socket = None;
                    None
                }
            };
        }
    }

    /// Sends a message without waiting. A full socket disconnects: few messages are in flight at a
    /// time (all but those of start and end answer one of escherd's), so escherd has stopped
    /// reading for good. A disconnected escherd is left to [`Link::receive`], because its last
    /// messages are still in the socket.
    pub(super) fn send(&mut self, message: &FromShim) {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.is_peer_gone) else {
            return;
        };
        let sent = match codec::encode(message) {
            Ok(bytes) => socket.send(&bytes, None, Waiting::Never),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = sent {
            match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    self.is_peer_gone = true;
                }
                _ => self.socket = None,
            }
        }
    }
}
