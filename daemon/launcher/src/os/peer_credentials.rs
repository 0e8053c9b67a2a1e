//! Credentials of the peer of a Unix socket, from the kernel (unix(7), socket(7)).

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

use crate::sys;

/// The credentials that a peer had when it connected. They stay the same when the peer changes its
/// own, or passes the connection on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups, sorted (`SO_PEERGROUPS`, Linux 4.13).
    pub groups: Vec<u32>,
    /// Process id, for log messages only: it may belong to another process by now.
    pub pid: i32,
}

/// Returns the credentials of the peer of `socket`.
///
/// # Errors
/// Those of getsockopt(2). For a connected Unix socket only a lack of memory is possible.
pub fn credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    let socket = socket.as_fd();
    let basic = getsockopt(&socket, sockopt::PeerCredentials)?;
    let mut groups = sys::peer_groups(socket)?;
    groups.sort_unstable();
    Ok(PeerCredentials {
        uid: basic.uid(),
        gid: basic.gid(),
        groups,
        pid: basic.pid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = credentials(&one).unwrap();
        let mut groups: Vec<u32> = nix::unistd::getgroups()
            .unwrap()
            .into_iter()
            .map(nix::unistd::Gid::as_raw)
            .collect();
        groups.sort_unstable();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        assert_eq!(peer.groups, groups);
        assert_eq!(peer.pid.unsigned_abs(), std::process::id());
    }
}
