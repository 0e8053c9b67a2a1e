//! The launcher: forks shims while it is small, kills what dead shims have left running, and
//! deletes the files of executions.
//!
//! It sends [`LauncherHello`](crate::ipc::wire::LauncherHello) on its control socket and then
//! serves [`LauncherRequest`](crate::ipc::wire::LauncherRequest)s until escherd disconnects; under
//! a [keeper](crate::keeper) it then waits for the next escherd. Its shims outlive both that and
//! the launcher's own death. The launcher is single-threaded and allocates little, so that a fork
//! costs the same whatever the size of escherd.

mod cgroup_kills;
mod control;
mod directories;
mod file_removal;
mod new_shim;
mod orphans;
mod read_access;
mod serve;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::ipc::wire::Directories;
use crate::os::execution_cgroups::ExecutionCgroups;
use crate::os::process_name::{self, ProcessName};
use crate::os::signalfd::{self, Blocked};
use crate::os::{DuringAction, SystemError};
use crate::shim::ProcessBaseline;
use crate::sys;
use crate::sys::process::{join_fresh_session_keyring, restore_default_signals};
use control::Control;
use serve::{Launcher, Served};

/// Options of a launcher, from its command line.
#[derive(Debug, Clone)]
pub struct LauncherOptions {
    /// Directories of commands' files.
    pub directories: Directories,
    /// The user as whom escherd runs, if it is another than the launcher's.
    pub escherd_uid: Option<u32>,
    /// The directory in which executions have their cgroups; `None`: they have none.
    pub cgroups: Option<PathBuf>,
}

/// Why a launcher cannot start or has failed.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// A directory cannot be created or opened.
    #[error("cannot use the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call has failed.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// Takes the launcher's standard input: the control socket, whose other end escherd has, or a
/// socket on which the launcher accepts escherd. Closes all descriptors but the standard ones: the
/// launcher has inherited what the process that started escherd had left open, and shims would keep
/// it open for as long as their commands run.
///
/// # Errors
/// When descriptor 0 is not open, or no descriptors are left. Those of close_range(2).
///
/// # Safety
/// To be called first in the program: nothing may own a descriptor above 2.
pub unsafe fn control_from_stdin() -> io::Result<OwnedFd> {
    // SAFETY: the caller guarantees that nothing owns these.
    unsafe { sys::close_from(3) }?;
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(open_null()?)?;
    Ok(control)
}

fn open_null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// Runs the launcher on `control`. It returns when escherd disconnects or, where escherd can
/// reconnect, at SIGHUP; or when SIGTERM has ended every command. In a forked shim this returns at
/// the shim's end.
///
/// # Errors
/// When the launcher cannot start or continue. A failed fork is reported to escherd instead.
pub fn run(options: &LauncherOptions, control: OwnedFd) -> Result<(), LauncherError> {
    process_name::set(ProcessName::Launcher).during("set the name of the process")?;
    restore_default_signals();
    join_fresh_session_keyring();
    // In a session of its own, Ctrl-C on escherd's terminal does not reach it. This fails
    // harmlessly for a process that leads its group.
    let _ = nix::unistd::setsid();
    // The processes of a shim that dies become the launcher's children.
    prctl::set_child_subreaper(true).during("become a subreaper")?;
    let escherd_uid = options.escherd_uid.unwrap_or(geteuid().as_raw());
    let signals = signalfd::block_and_open(Blocked::Handled).during("open a signalfd")?;
    let control = Control::new(control, escherd_uid);
    if control.is_listening() {
        exit_with_keeper().during("set the parent-death signal")?;
    }
    let cgroups = options
        .cgroups
        .as_deref()
        .map(ExecutionCgroups::open)
        .transpose();
    let cgroups = cgroups.during("open the cgroup of executions")?;
    let baseline = ProcessBaseline::detect();
    let directories = options.directories.clone();
    let mut launcher = Launcher::new(
        control,
        signals,
        escherd_uid,
        directories,
        cgroups,
        baseline,
    );
    if launcher.is_connected() {
        launcher.open_directories(None)?;
    }
    match launcher.serve().during("serve escherd")? {
        Served::Done => Ok(()),
        Served::Forked(shim) => Ok(shim.run().during("run a shim")?),
    }
}

/// Has the kernel send SIGHUP when the keeper dies (prctl(2), `PR_SET_PDEATHSIG`), at which the
/// launcher ends and its shims go on.
fn exit_with_keeper() -> io::Result<()> {
    let keeper = nix::unistd::getppid();
    prctl::set_pdeathsig(Signal::SIGHUP)?;
    // The keeper may have died before that.
    if nix::unistd::getppid() == keeper {
        Ok(())
    } else {
        Err(io::ErrorKind::NotConnected.into())
    }
}
