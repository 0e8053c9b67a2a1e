//! Forking a shim.

use std::io;
use std::os::fd::AsFd;

use nix::unistd::Pid;

use super::open_null;
use crate::ipc::packet::PacketSocket;
use crate::ipc::shim_socket::{ShimListener, SocketName};
use crate::os::execution_cgroups::ExecutionCgroups;
use crate::shim::{self, OpenDirectories, ProcessBaseline};
use crate::sys::process::{Fork, fork};

/// A fork of the launcher that goes on as a shim, with the resources that it takes from the
/// launcher.
pub(super) struct NewShim {
    pub(super) sockets: ShimSockets,
    pub(super) directories: OpenDirectories,
    pub(super) cgroups: Option<ExecutionCgroups>,
    pub(super) baseline: ProcessBaseline,
}

/// A shim's sockets.
pub(super) struct ShimSockets {
    /// Connected to escherd.
    escherd: PacketSocket,
    listener: ShimListener,
}

/// Result of [`fork_shim`].
pub(super) enum ForkedShim {
    /// In the launcher.
    Parent {
        pid: Pid,
        /// The name under which the shim listens.
        name: SocketName,
        /// The end of the shim's connection that is for escherd.
        escherd: PacketSocket,
    },
    /// In the shim.
    Child(ShimSockets),
}

/// Creates a shim's sockets and forks it. The listening socket exists before escherd learns of the
/// shim.
///
/// # Errors
/// Those of fork(2), and of creating sockets.
pub(super) fn fork_shim(shim_dir: impl AsFd, escherd_uid: u32) -> io::Result<ForkedShim> {
    let shim_dir = shim_dir.as_fd();
    let (escherd, shim) = PacketSocket::pair()?;
    let listener = ShimListener::open(shim_dir, escherd_uid)?;
    // SAFETY: the process has a single thread, since the launcher never starts one.
    match unsafe { fork() }.inspect_err(|_| listener.remove(shim_dir))? {
        Fork::Parent(pid) => Ok(ForkedShim::Parent {
            pid,
            name: listener.name(),
            escherd,
        }),
        Fork::Child => Ok(ForkedShim::Child(ShimSockets {
            escherd: shim,
            listener,
        })),
    }
}

impl NewShim {
    /// Serves escherd until the shim is not needed any more.
    ///
    /// # Errors
    /// Those of [`shim::serve`].
    pub(super) fn run(self) -> io::Result<()> {
        // The launcher's output may be a pipe whose reader waits for the end of file.
        nix::unistd::dup2_stdout(open_null()?)?;
        nix::unistd::dup2_stderr(open_null()?)?;
        let NewShim {
            sockets: ShimSockets { escherd, listener },
            directories,
            cgroups,
            baseline,
        } = self;
        shim::serve(escherd, listener, directories, cgroups, baseline)
    }
}
