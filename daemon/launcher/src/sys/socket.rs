//! Socket calls for which nix has no safe wrapper, or one that returns descriptors as plain
//! numbers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{MsgFlags, SockFlag, accept4};

/// Room for one descriptor in a message. Two fit where lengths are rounded up.
const CONTROL_BYTES: usize = 32;

/// Aligned as the kernel's header of control messages demands (cmsg(3)).
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_BYTES]);

/// Receives one message into `buffer`, with the first descriptor that came with it.
///
/// # Errors
/// Those of recvmsg(2), and [`io::ErrorKind::InvalidData`] for a message that does not fit or whose
/// descriptors do not: because there are too many, or because this process has no number left.
pub(crate) fn receive_message(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = ControlBuffer([0; CONTROL_BYTES]);
    // SAFETY: `msghdr` is a C structure of integers and pointers, for which all-zero bytes are
    // valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES as _;
    let flags = flags.bits() | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message refers to buffers of the given lengths that outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // Before anything else, so that none leaks.
    let descriptor = take_descriptors(&message);
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0 {
        return Ok((length, descriptor));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "a packet is longer than any message, or has too many descriptors",
    ))
}

/// Takes all descriptors of a received message and returns the first; the others are closed.
fn take_descriptors(message: &libc::msghdr) -> Option<OwnedFd> {
    let mut first = None;
    // SAFETY: the kernel has filled the message, whose control buffer still exists.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: `control` is null or points to a header inside of the control buffer.
    while let Some(header) = unsafe { control.as_ref() } {
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: computes a number.
            let header_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (header.cmsg_len - header_bytes) / size_of::<RawFd>();
            // SAFETY: `control` points to a header.
            let numbers = unsafe { libc::CMSG_DATA(control) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: `cmsg_len` says that so many numbers follow the header.
                let number = unsafe { numbers.add(index) };
                // SAFETY: as before; the numbers need not be aligned.
                let number = unsafe { number.read_unaligned() };
                // SAFETY: the kernel has just created this descriptor in this process, so nothing
                // else owns it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                first.get_or_insert(descriptor);
            }
        }
        // SAFETY: both pointers are those of before.
        control = unsafe { libc::CMSG_NXTHDR(message, control) };
    }
    first
}

/// Accepts a connection, which is closed on exec (accept4(2)).
///
/// # Errors
/// Those of accept4(2), `EINTR` and, where `listener` does not block, `EAGAIN` among them.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just created this descriptor in this process, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns the supplementary groups that the peer of `socket` had when it connected
/// (`SO_PEERGROUPS`, Linux 4.13).
///
/// # Errors
/// Those of getsockopt(2).
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<u32> = vec![0; 32];
    loop {
        let size = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
        // SAFETY: the buffer has `length` writable bytes, any of which the kernel may fill with
        // `gid_t`, an u32; both pointers outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let filled = length as usize / size_of::<u32>();
        match result {
            0 => {
                groups.truncate(filled);
                return Ok(groups);
            }
            _ => match io::Error::last_os_error() {
                // The kernel has set `length` to the size that it needs.
                error if error.raw_os_error() == Some(libc::ERANGE) => groups.resize(filled, 0),
                error => return Err(error),
            },
        }
    }
}
