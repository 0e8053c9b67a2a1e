//! From a launch spec to the plan that the child executes.

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use escher_protocol::Blob;

use super::ShimContext;
use super::child::{ChildIdentity, ChildPlan};
use crate::ipc::wire::{Identity, LaunchSpec};

/// Soft limit of open descriptors for commands. select(2) fails above it, so programs that can
/// handle more raise it themselves (systemd.exec(5)).
const OPEN_FILES_SOFT: u64 = 1024;

/// Where a program without a slash is searched when the command has no PATH (execvp(3)).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// A plan together with the strings to which it points.
pub(super) struct OwnedPlan {
    pub(super) plan: ChildPlan,
    _strings: Vec<CString>,
}

impl OwnedPlan {
    /// Makes the plan for `spec`, out of which it moves the strings: they may have megabytes.
    /// `descriptors` become standard input, output and error, and the child writes to
    /// `cgroup_procs` to enter its cgroup.
    ///
    /// # Errors
    /// `ENOENT` without a program, `EINVAL` for a string that contains a NUL.
    pub(super) fn new(
        spec: &mut LaunchSpec,
        descriptors: [BorrowedFd<'_>; 3],
        cgroup_procs: Option<BorrowedFd<'_>>,
        context: &ShimContext,
    ) -> io::Result<Self> {
        let programs = program_paths(&spec.argv, &spec.environment)?;
        let mut strings = Vec::with_capacity(spec.argv.len() + spec.environment.len());
        let argv = pointers(std::mem::take(&mut spec.argv), &mut strings)?;
        let environment = pointers(std::mem::take(&mut spec.environment), &mut strings)?;
        let baseline = &context.baseline;
        Ok(OwnedPlan {
            plan: ChildPlan {
                progress: context.progress,
                shim: context.pid.as_raw(),
                descriptors: descriptors.map(|descriptor| descriptor.as_raw_fd()),
                cgroup_procs: cgroup_procs.map(|procs| procs.as_raw_fd()),
                resets_priority: baseline.resets_priority,
                open_files: libc::rlimit64 {
                    rlim_cur: OPEN_FILES_SOFT.min(baseline.open_files_hard),
                    rlim_max: baseline.open_files_hard,
                },
                identity: spec.identity.take().map(ChildIdentity::from),
                working_dir: c_string(std::mem::take(&mut spec.working_dir))?,
                falls_back_to_root_dir: spec.falls_back_to_root_dir,
                programs,
                argv,
                environment,
            },
            _strings: strings,
        })
    }
}

impl From<Identity> for ChildIdentity {
    fn from(identity: Identity) -> Self {
        let Identity {
            uid,
            gid,
            mut groups,
        } = identity;
        groups.sort_unstable();
        ChildIdentity {
            uid,
            gid,
            scratch: vec![const { Cell::new(0) }; groups.len() + 1],
            groups,
        }
    }
}

fn c_string(bytes: Blob) -> io::Result<CString> {
    CString::new(bytes.into_vec()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Adds `texts` to `strings` and returns pointers to them, with a null at the end. The pointers
/// stay valid while the strings are moved, because a `CString` owns its bytes on the heap.
fn pointers(texts: Vec<Blob>, strings: &mut Vec<CString>) -> io::Result<Vec<*const c_char>> {
    let mut pointers = Vec::with_capacity(texts.len() + 1);
    for text in texts {
        let text = c_string(text)?;
        pointers.push(text.as_ptr());
        strings.push(text);
    }
    pointers.push(std::ptr::null());
    Ok(pointers)
}

/// Returns the paths to try for the program, as execvp(3) does: the program itself if it has a
/// slash, else one in each directory of the command's own PATH. An empty element means the working
/// directory.
fn program_paths(argv: &[Blob], environment: &[Blob]) -> io::Result<Vec<CString>> {
    let program = argv.first().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    if program.contains(&b'/') {
        return Ok(vec![c_string(program.clone())?]);
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    path.split(|byte| *byte == b':')
        .map(|directory| match directory {
            [] => c_string(program.clone()),
            _ => c_string([directory, b"/", program].concat().into()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(program: &str, environment: &[&str]) -> Vec<String> {
        let environment: Vec<Blob> = environment.iter().map(|text| Blob::from(*text)).collect();
        program_paths(&[program.into()], &environment)
            .unwrap()
            .into_iter()
            .map(|path| path.into_string().unwrap())
            .collect()
    }

    #[test]
    fn searches_programs_as_execvp_does() {
        assert_eq!(paths("./x", &["PATH=/a"]), ["./x"]);
        assert_eq!(paths("/x", &[]), ["/x"]);
        assert_eq!(paths("x", &["A=1", "PATH=/a:/b"]), ["/a/x", "/b/x"]);
        assert_eq!(paths("x", &["PATH=:/b"]), ["x", "/b/x"]);
        assert_eq!(paths("x", &[]), ["/bin/x", "/usr/bin/x"]);
        assert!(program_paths(&[], &[]).is_err());
        assert!(program_paths(&["".into()], &[]).is_err());
    }
}
