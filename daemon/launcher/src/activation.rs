//! Sockets handed over by systemd (sd_listen_fds(3)): descriptors that are known by number only, so that
//! taking them over is unsafe.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};

use crate::sys;

/// The listening Unix socket that was handed to this process; `None` when there is none, or when it was
/// taken before.
///
/// # Errors
/// When more than one descriptor was handed over, or one that is no listening Unix stream socket.
pub fn listener() -> io::Result<Option<UnixListener>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(None);
    }
    let mut numbers = sd_notify::listen_fds()?;
    let Some(number) = numbers.next() else {
        return Ok(None);
    };
    let unusable = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    // SAFETY: systemd opened it for this process alone, and `TAKEN` lets nobody take it twice.
    let socket = unsafe { sys::adopt_descriptor(number) };
    if numbers.next().is_some() {
        return Err(unusable("systemd has handed over more than one socket"));
    }
    let is_stream = getsockopt(&socket, sockopt::SockType)? == SockType::Stream;
    let is_unix = getsockname::<UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&socket)).is_ok();
    if !is_stream || !is_unix || !getsockopt(&socket, sockopt::AcceptConn)? {
        return Err(unusable(
            "what systemd has handed over is no listening Unix stream socket",
        ));
    }
    Ok(Some(UnixListener::from(socket)))
}
