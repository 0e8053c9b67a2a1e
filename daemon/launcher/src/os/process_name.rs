//! Names by which launchers and shims are recognised (`PR_SET_NAME`, proc_pid_comm(5)).
//!
//! Unlike the path of its program, a process's name survives that the program is renamed, replaced
//! or deleted while it runs, and everybody may read it. A forked shim has the launcher's name until
//! it sets its own, so it is recognised from its first moment on.

use std::ffi::CStr;
use std::fs;
use std::io;

use nix::sys::prctl;
use nix::unistd::Pid;

/// Who gives itself a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessName {
    Launcher,
    Shim,
}

impl ProcessName {
    /// At most 15 bytes: the kernel cuts off the rest.
    fn text(self) -> &'static CStr {
        match self {
            ProcessName::Launcher => c"escher-launcher",
            ProcessName::Shim => c"escher-shim",
        }
    }
}

/// Sets the name of this process.
///
/// # Errors
/// Those of prctl(2).
pub(crate) fn set(name: ProcessName) -> io::Result<()> {
    Ok(prctl::set_name(name.text())?)
}

/// Returns the name that `process` has, if it is one of these.
pub(crate) fn of(process: Pid) -> Option<ProcessName> {
    let found = fs::read(format!("/proc/{process}/comm")).ok()?;
    let found = found.strip_suffix(b"\n")?;
    let names = [ProcessName::Launcher, ProcessName::Shim];
    names
        .into_iter()
        .find(|name| name.text().to_bytes() == found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_by_the_name_that_it_gave_itself() {
        // The main thread, which this one is not, has the name of the process.
        let own = nix::unistd::gettid();
        assert_eq!(of(own), None);
        for name in [ProcessName::Launcher, ProcessName::Shim] {
            set(name).unwrap();
            assert_eq!(of(own), Some(name));
        }
    }
}
