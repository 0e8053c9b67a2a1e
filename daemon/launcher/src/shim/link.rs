//! The shim's connection to escherd, which may be lost at any time, and taken up by another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use escher_protocol::{ExecutionId, codec};

use crate::ipc::packet::{PacketSocket, Waiting};
use crate::ipc::shim_listener::Door;
use crate::ipc::shim_socket::SocketName;
use crate::ipc::wire::{FromShim, MAX_PACKET_BYTES, ToShim};

/// How long nobody is let in after that has failed for want of descriptors or memory: who waits stays
/// visible to poll(2), which would return at once again and again.
const PAUSE: Duration = Duration::from_secs(1);

/// Messages to and from escherd.
pub(super) struct Link {
    socket: Option<PacketSocket>,
    /// Whether escherd is gone but may have left messages, which are still to be read.
    unheard: bool,
    door: Door,
    /// Until when the door stays closed.
    pause: Option<Instant>,
    buffer: Box<[u8]>,
}

impl Link {
    pub(super) fn new(socket: PacketSocket, door: Door) -> Self {
        Link {
            socket: Some(socket),
            unheard: false,
            door,
            pause: None,
            buffer: vec![0; MAX_PACKET_BYTES].into_boxed_slice(),
        }
    }

    /// Whether there is no escherd.
    pub(super) fn is_alone(&self) -> bool {
        self.socket.is_none()
    }

    /// The socket, while there is an escherd behind it.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Where the next event comes from: escherd, or, where there is none, another that wants in. Those that
    /// want in while there is one are left waiting, so that its end is seen first.
    pub(super) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match (&self.socket, self.pause) {
            (Some(socket), _) => Some(socket.as_fd()),
            (None, Some(until)) if Instant::now() < until => None,
            (None, _) => Some(self.door.descriptor()),
        }
    }

    /// When [`Link::awaited`] is to be asked again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pause.filter(|_| self.is_alone())
    }

    /// Lets an escherd in that waits, where there is none; whether one came.
    pub(super) fn let_in(&mut self) -> bool {
        if !self.is_alone() {
            return false;
        }
        self.pause = None;
        match self.door.let_in() {
            Ok(socket) => self.socket = socket,
            Err(_) => self.pause = Some(Instant::now() + PAUSE),
        }
        self.unheard = false;
        !self.is_alone()
    }

    /// As [`Door::claim`].
    pub(super) fn claim(
        &mut self,
        directory: BorrowedFd<'_>,
        id: ExecutionId,
        attempt: u32,
    ) -> io::Result<()> {
        self.door.claim(directory, id, attempt)
    }

    /// Whether the last claim was one for this attempt.
    pub(super) fn has_claimed(&self, id: ExecutionId, attempt: u32) -> bool {
        self.door.name() == SocketName::Claim { id, attempt }
    }

    /// As [`Door::remove`].
    pub(super) fn remove_door(&self, directory: BorrowedFd<'_>) {
        self.door.remove(directory);
    }

    /// The next message that has arrived, with its descriptor; `None` when there is none. An escherd that
    /// is gone, or that talks nonsense, is given up.
    pub(super) fn receive(&mut self) -> Option<(ToShim, Option<OwnedFd>)> {
        loop {
            let socket = self.socket.as_ref()?;
            let received = match socket.receive(&mut self.buffer, Waiting::Never) {
                Ok(Some(received)) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Told once, by an escherd that is gone without having read everything. What it has sent
                // before comes next.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.unheard = true;
                    continue;
                }
                Ok(None) | Err(_) => {
                    self.socket = None;
                    return None;
                }
            };
            return match codec::decode(&self.buffer[..received.length]) {
                Ok(message) => Some((message, received.descriptor)),
                Err(_) => {
                    self.socket = None;
                    None
                }
            };
        }
    }

    /// Sends `message`. It never waits: a shim has few messages under way at once (each but the two that
    /// mark start and end answers one of escherd's), so that a socket without room means that escherd
    /// has stopped reading for good. One that is gone is not given up here: its last messages stand in
    /// the socket.
    pub(super) fn send(&mut self, message: &FromShim) {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.unheard) else {
            return;
        };
        let sent = match codec::encode(message) {
            Ok(bytes) => socket.send(&bytes, None, Waiting::Never),
            Err(error) => Err(io::Error::other(error)),
        };
        match sent {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.unheard = true;
            }
            Err(_) => self.socket = None,
        }
    }
}
