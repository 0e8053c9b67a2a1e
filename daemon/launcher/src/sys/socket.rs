//! Socket calls for which nix has no safe wrapper, or one that returns descriptors as plain
//! numbers.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, UnixAddr, accept4, recvmsg};

/// Receives one message into `buffer`, with the first descriptor that came with it.
///
/// # Errors
/// Those of recvmsg(2), and [`io::ErrorKind::InvalidData`] for a message that does not fit.
pub(crate) fn receive_message(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    space: &mut [u8],
    flags: MsgFlags,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut parts,
        Some(space),
        flags | MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptor = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel has just created this descriptor in this process, so nothing
                // else owns it. Every descriptor is wrapped, so that none leaks; all but the first
                // are closed here.
                let owned = unsafe { OwnedFd::from_raw_fd(number) };
                descriptor.get_or_insert(owned);
            }
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a packet is longer than any message",
        ));
    }
    Ok((message.bytes, descriptor))
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
