//! Packets with descriptors: `SOCK_SEQPACKET` sockets (unix(7)).
//!
//! A packet arrives whole or not at all, the peer's end shows as end of file, and a descriptor can ride
//! along. Sending never raises SIGPIPE.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use std::path::Path;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    socket, socketpair,
};

use crate::sys;

/// One end of a connection that carries packets. Its descriptor is closed on exec.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

/// Whether a call may wait for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It waits.
    Allowed,
    /// It fails with [`io::ErrorKind::WouldBlock`] instead.
    Never,
}

/// A packet that has arrived.
#[derive(Debug)]
pub struct Received {
    /// Its length; its bytes are at the start of the buffer. Never 0.
    pub length: usize,
    /// The descriptor that came with it, closed on exec.
    pub descriptor: Option<OwnedFd>,
}

impl PacketSocket {
    /// Two connected ends.
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

    /// Connects to the one that listens at `path`, without waiting.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2): [`io::ErrorKind::NotFound`], [`io::ErrorKind::ConnectionRefused`] where
    /// nobody listens, [`io::ErrorKind::WouldBlock`] where as many wait already as may.
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

    /// Takes over a descriptor that is such a socket.
    #[must_use]
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        PacketSocket(descriptor)
    }

    /// Sends one packet, with a descriptor if there is one.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the peer has not read enough of the earlier ones (with
    /// [`Waiting::Never`]), [`io::ErrorKind::BrokenPipe`] when it is gone.
    pub fn send(
        &self,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        waiting: Waiting,
    ) -> io::Result<()> {
        send(self.0.as_fd(), bytes, descriptor, waiting)
    }

    /// Takes the next packet; `None` once the peer is gone and everything it sent was taken.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none (with [`Waiting::Never`]),
    /// [`io::ErrorKind::InvalidData`] when it does not fit into `buffer`.
    pub fn receive(&self, buffer: &mut [u8], waiting: Waiting) -> io::Result<Option<Received>> {
        receive(self.0.as_fd(), buffer, waiting)
    }
}

/// [`PacketSocket::send`] for a socket that something else owns, an event loop's type say.
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

/// [`PacketSocket::receive`] for a socket that something else owns.
///
/// # Errors
/// As there.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    waiting: Waiting,
) -> io::Result<Option<Received>> {
    let mut space = cmsg_space!([std::os::fd::RawFd; 1]);
    let (length, descriptor) = loop {
        match sys::receive_message(socket, buffer, &mut space, waiting.flags()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    Ok((length > 0).then_some(Received { length, descriptor }))
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
    fn packets_keep_their_borders_and_carry_descriptors() {
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

    #[test]
    fn an_empty_socket_an_oversized_packet_and_the_peers_end_are_told_apart() {
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
