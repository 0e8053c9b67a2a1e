//! Packets with descriptors: `SOCK_SEQPACKET` sockets (unix(7)).
//!
//! A packet arrives whole or not at all and can carry a descriptor; a disconnected peer shows as
//! end of file. Sending never raises SIGPIPE.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt,
    sendmsg, socket, socketpair, sockopt,
};

use crate::sys;

/// One end of a connection that carries packets. Its descriptor is close-on-exec.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

/// Whether a call may wait for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The call waits.
    Allowed,
    /// The call fails with [`io::ErrorKind::WouldBlock`] instead.
    Never,
}

/// A received packet.
#[derive(Debug)]
pub struct ReceivedPacket {
    /// Length of the packet, which is at the start of the buffer. Never 0.
    pub length: usize,
    /// The descriptor that came with it, close-on-exec.
    pub descriptor: Option<OwnedFd>,
}

impl PacketSocket {
    /// Creates two connected ends.
    ///
    /// # Errors
    /// Those of socketpair(2): no descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((PacketSocket(one), PacketSocket(other)))
    }

    /// Connects to the socket at `path`, without waiting.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2): [`io::ErrorKind::NotFound`],
    /// [`io::ErrorKind::ConnectionRefused`] where nothing listens, [`io::ErrorKind::WouldBlock`]
    /// where the backlog is full.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(PacketSocket(socket))
    }

    /// Wraps a descriptor that is a `SOCK_SEQPACKET` socket.
    #[must_use]
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        PacketSocket(descriptor)
    }

    /// Sends one packet, with a descriptor if given.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket's buffer is full (with [`Waiting::Never`]),
    /// [`io::ErrorKind::BrokenPipe`] when the peer has disconnected.
    pub fn send(
        &self,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        waiting: Waiting,
    ) -> io::Result<()> {
        send(self.0.as_fd(), bytes, descriptor, waiting)
    }

    /// Receives the next packet; `None` once the peer has disconnected and all its packets were
    /// received.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is no packet (with [`Waiting::Never`]),
    /// [`io::ErrorKind::InvalidData`] when it does not fit into `buffer` or has more than one
    /// descriptor; all that came with it are closed then.
    pub fn receive(
        &self,
        buffer: &mut [u8],
        waiting: Waiting,
    ) -> io::Result<Option<ReceivedPacket>> {
        receive(self.0.as_fd(), buffer, waiting)
    }
}

/// As [`PacketSocket::send`], for a socket that another type owns, such as that of an event loop.
///
/// # Errors
/// As there.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
    waiting: Waiting,
) -> io::Result<()> {
    let raw = descriptor.map(|fd| [fd.as_raw_fd()]);
    let rights = raw.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
    let control = rights.as_ref().map_or(&[][..], |messages| &messages[..]);
    let flags = MsgFlags::MSG_NOSIGNAL | waiting.flags();
    loop {
        match sendmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            flags,
            None,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// As [`PacketSocket::receive`], for a socket that another type owns.
///
/// # Errors
/// As there.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    waiting: Waiting,
) -> io::Result<Option<ReceivedPacket>> {
    let (length, descriptor) = loop {
        match sys::receive_message(socket, buffer, waiting.flags()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    Ok((length > 0).then_some(ReceivedPacket { length, descriptor }))
}

/// Whether a descriptor is a listening socket.
pub(crate) fn is_listener(descriptor: BorrowedFd<'_>) -> bool {
    getsockopt(&descriptor, sockopt::AcceptConn).unwrap_or(false)
}

impl Waiting {
    fn flags(self) -> MsgFlags {
        match self {
            Waiting::Allowed => MsgFlags::empty(),
            Waiting::Never => MsgFlags::MSG_DONTWAIT,
        }
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.0
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[test]
    fn keeps_packet_boundaries_and_carries_descriptors() {
        let (one, other) = PacketSocket::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"through").unwrap();
        one.send(b"first", None, Waiting::Never).unwrap();
        one.send(b"second", Some(file.as_fd()), Waiting::Never)
            .unwrap();
        let mut buffer = [0; 64];
        let first = other.receive(&mut buffer, Waiting::Never).unwrap().unwrap();
        assert_eq!(&buffer[..first.length], b"first");
        assert!(first.descriptor.is_none());
        let second = other.receive(&mut buffer, Waiting::Never).unwrap().unwrap();
        assert_eq!(&buffer[..second.length], b"second");
        let mut same = File::from(second.descriptor.unwrap());
        let mut text = String::new();
        same.rewind().unwrap();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    /// The descriptors that had arrived stayed open in the receiver.
    #[test]
    fn closes_the_descriptors_of_a_packet_that_has_too_many() {
        let (one, other) = PacketSocket::pair().unwrap();
        let (mut reading, writing) = std::io::pipe().unwrap();
        let raw = [writing.as_raw_fd(); 9];
        let rights = [ControlMessage::ScmRights(&raw)];
        let flags = MsgFlags::empty();
        let bytes = [IoSlice::new(b"x")];
        sendmsg::<UnixAddr>(one.as_raw_fd(), &bytes, &rights, flags, None).unwrap();
        drop(writing);
        let mut buffer = [0; 4];
        let error = other.receive(&mut buffer, Waiting::Never).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // At its end, once no copy of the writing end is open.
        assert_eq!(reading.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn distinguishes_no_packet_an_oversized_one_and_a_disconnected_peer() {
        let (one, other) = PacketSocket::pair().unwrap();
        let mut buffer = [0; 4];
        let empty = other.receive(&mut buffer, Waiting::Never).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        one.send(b"too long", None, Waiting::Never).unwrap();
        let long = other.receive(&mut buffer, Waiting::Never).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
        drop(one);
        assert!(
            other
                .receive(&mut buffer, Waiting::Never)
                .unwrap()
                .is_none()
        );
        let gone = other.send(b"x", None, Waiting::Never).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }
}
