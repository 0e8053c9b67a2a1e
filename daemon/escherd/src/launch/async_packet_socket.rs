//! Packet sockets on the event loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use escher_launcher::ipc::packet::{self, PacketSocket, ReceivedPacket, Waiting};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// A [`PacketSocket`] that tasks can wait for.
///
/// tokio has no type for it. `UnixDatagram` serves to register the descriptor; all reading and
/// writing is done by [`packet`].
#[derive(Debug)]
pub(super) struct AsyncPacketSocket(UnixDatagram);

impl AsyncPacketSocket {
    pub(super) fn new(socket: PacketSocket) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(OwnedFd::from(socket));
        socket.set_nonblocking(true)?;
        Ok(AsyncPacketSocket(UnixDatagram::from_std(socket)?))
    }

    /// Receives the next packet; `None` at the end of the connection. Cancel-safe.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<ReceivedPacket>> {
        let receive = || packet::receive(self.0.as_fd(), buffer, Waiting::Never);
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Sends a packet once the socket's buffer has room. Cancel-safe: the packet was sent or it was
    /// not.
    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let send = || packet::send(self.0.as_fd(), bytes, None, Waiting::Never);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// Sends a packet and a descriptor, or fails if the socket's buffer has no room.
    pub(super) fn send_now(
        &self,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        packet::send(self.0.as_fd(), bytes, descriptor, Waiting::Never)
    }
}
