//! Sockets passed by systemd (sd_listen_fds(3)). Their descriptors are known only by number, so
//! taking ownership of them is unsafe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};

use crate::sys;

/// Takes the listening Unix sockets that systemd passed to this process, each with its name
/// (`FileDescriptorName=`, systemd.socket(5)). Later calls return none.
///
/// # Errors
/// When a passed descriptor is no listening Unix stream socket.
pub fn listeners() -> io::Result<Vec<(String, UnixListener)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    if sd_notify::listen_fds()?.len() == 0 {
        // The variable with the names may be left from another process.
        return Ok(Vec::new());
    }
    let descriptors = sd_notify::listen_fds_with_names()?.map(|(number, name)| {
        // SAFETY: systemd opened the descriptor for this process (`listen_fds` has compared the
        // process id), and `TAKEN` ensures that nothing else in the process takes it.
        (name, unsafe { sys::adopt_descriptor(number) })
    });
    // All are taken before the first is checked, so that a failure closes all of them.
    let descriptors: Vec<(String, OwnedFd)> = descriptors.collect();
    descriptors
        .into_iter()
        .map(|(name, socket)| {
            if is_listener(&socket) {
                Ok((name, UnixListener::from(socket)))
            } else {
                Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("`{name}`, passed by systemd, is no listening Unix stream socket"),
                ))
            }
        })
        .collect()
}

fn is_listener(socket: &OwnedFd) -> bool {
    getsockopt(socket, sockopt::SockType) == Ok(SockType::Stream)
        && getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok()
        && getsockopt(socket, sockopt::AcceptConn) == Ok(true)
}
