//! Sockets handed over by systemd (sd_listen_fds(3)): descriptors that are known by number only, so that
//! taking them over is unsafe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};

use crate::sys;

/// The listening Unix sockets that were handed to this process, each with its name (`FileDescriptorName=`,
/// systemd.socket(5)); none when they were taken before.
///
/// # Errors
/// When a descriptor that was handed over is no listening Unix stream socket.
pub fn listeners() -> io::Result<Vec<(String, UnixListener)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    if sd_notify::listen_fds()?.len() == 0 {
        // Then the names are somebody else's, if there are any.
        return Ok(Vec::new());
    }
    let descriptors = sd_notify::listen_fds_with_names()?.map(|(number, name)| {
        // SAFETY: systemd opened it for this process alone, and `TAKEN` lets nobody take it twice.
        (name, unsafe { sys::adopt_descriptor(number) })
    });
    // All are taken before one is judged, so that none stays open unowned.
    let descriptors: Vec<(String, OwnedFd)> = descriptors.collect();
    descriptors
        .into_iter()
        .map(|(name, socket)| {
            if is_listener(&socket)? {
                Ok((name, UnixListener::from(socket)))
            } else {
                Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("`{name}`, handed over by systemd, is no listening Unix stream socket"),
                ))
            }
        })
        .collect()
}

fn is_listener(socket: &OwnedFd) -> io::Result<bool> {
    Ok(getsockopt(socket, sockopt::SockType)? == SockType::Stream
        && getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok()
        && getsockopt(socket, sockopt::AcceptConn)?)
}
