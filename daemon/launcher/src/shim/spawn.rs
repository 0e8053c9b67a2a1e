//! From a launch spec to a running process.

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use escher_protocol::{Blob, Exit, StartStage};
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};

use super::Workshop;
use super::child::{ChildIdentity, ChildPlan, enter};
use crate::ipc::wire::{Identity, LaunchSpec};
use crate::sys::process::{ChildMemory, clone_child};

/// Soft limit of open descriptors for commands: above it select(2) breaks, so programs raise it
/// themselves when they can cope (systemd.exec(5)).
const OPEN_FILES_SOFT: u64 = 1024;

/// Where a program without a slash is looked for when the command has no PATH: execvp(3).
const FALLBACK_PATH: &[u8] = b"/bin:/usr/bin";

/// A main process that was made, and the shim's ends of its pipes.
pub(super) struct Started {
    pub(super) pid: Pid,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// The writing end, not blocking; `None` where standard input is `/dev/null`.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) setup: Setup,
}

/// A child on its way to its program.
///
/// Holds the plan that the child reads, which may stand in memory that both share: it must live until
/// the set-up is over, and does so at least as long as the shim has the execution.
pub(super) struct Setup {
    over: OwnedFd,
    plan: Box<Prepared>,
}

/// What has come of a set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetupEnd {
    /// The program runs, or has run.
    Executed,
    /// A step failed.
    Failed(StartStage, i32),
    /// The child died, or was killed, on the way.
    Interrupted(StartStage),
}

impl Setup {
    /// Becomes readable when the child has executed its program or died.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.over.as_fd()
    }

    /// How it ended. Meaningful once [`Setup::descriptor`] is readable; before, `Interrupted` tells the
    /// step at which the child is.
    pub(super) fn end(&self) -> SetupEnd {
        let progress = self.plan.child.progress;
        let index = progress.stage.load(Ordering::Acquire) as usize;
        let stage = StartStage::TABLE
            .get(index)
            .map_or(StartStage::Prepare, |row| row.0);
        match (progress.errno.load(Ordering::Acquire), stage) {
            (0, StartStage::Exec) => SetupEnd::Executed,
            (0, stage) => SetupEnd::Interrupted(stage),
            (errno, stage) => SetupEnd::Failed(stage, errno),
        }
    }
}

/// Where the command of `spec` begins: in the memory of the shim or in a copy, and in the cgroup to which `entrance`
/// leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cradle<'a> {
    pub(super) memory: ChildMemory,
    pub(super) entrance: Option<BorrowedFd<'a>>,
}

/// Starts the command of `spec`.
///
/// # Errors
/// The stage `prepare` with its errno, as the exit that the execution has then.
pub(super) fn start(
    spec: &mut LaunchSpec,
    cradle: Cradle<'_>,
    workshop: &Workshop,
) -> Result<Started, Exit> {
    try_start(spec, cradle, workshop).map_err(|error| Exit::NotStarted {
        stage: StartStage::Prepare,
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    })
}

fn try_start(
    spec: &mut LaunchSpec,
    cradle: Cradle<'_>,
    workshop: &Workshop,
) -> io::Result<Started> {
    let (stdout, child_stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, child_stderr) = pipe2(OFlag::O_CLOEXEC)?;
    let (over, child_over) = pipe2(OFlag::O_CLOEXEC)?;
    let (stdin, child_stdin) = if spec.stdin {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        nix::fcntl::fcntl(&writing, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        (Some(writing), Some(reading))
    } else {
        (None, None)
    };
    let input = child_stdin
        .as_ref()
        .map_or(workshop.null.as_fd(), AsFd::as_fd);
    let descriptors = [input, child_stdout.as_fd(), child_stderr.as_fd()];
    let plan = Box::new(Prepared::new(spec, descriptors, cradle.entrance, workshop)?);

    workshop
        .progress
        .stage
        .store(StartStage::Prepare as u32, Ordering::Release);
    workshop.progress.errno.store(0, Ordering::Release);
    // SAFETY: `enter` keeps to what `clone_child` demands of an entry. The plan is boxed, is not changed
    // any more, and stays in `Setup` for as long as the child may read it. The stack serves one child at
    // a time: a shim has one command at a time, and none after one whose set-up never ended.
    let pid = unsafe { clone_child(&workshop.stack, cradle.memory, enter, &plan.child) }?;
    drop(child_over); // Now only the child holds it: its end of file tells that the set-up is over.
    Ok(Started {
        pid,
        stdout,
        stderr,
        stdin,
        setup: Setup { over, plan },
    })
}

/// A plan with what its pointers point to.
struct Prepared {
    child: ChildPlan,
    _strings: Vec<CString>,
}

impl Prepared {
    /// Takes the strings out of `spec`: they may be megabytes.
    fn new(
        spec: &mut LaunchSpec,
        descriptors: [BorrowedFd<'_>; 3],
        entrance: Option<BorrowedFd<'_>>,
        workshop: &Workshop,
    ) -> io::Result<Self> {
        let programs = program_paths(&spec.argv, &spec.environment)?;
        let mut strings = Vec::with_capacity(spec.argv.len() + spec.environment.len());
        let argv = pointers(std::mem::take(&mut spec.argv), &mut strings)?;
        let environment = pointers(std::mem::take(&mut spec.environment), &mut strings)?;
        let surroundings = &workshop.surroundings;
        Ok(Prepared {
            child: ChildPlan {
                progress: workshop.progress,
                shim: workshop.pid.as_raw(),
                descriptors: descriptors.map(|descriptor| descriptor.as_raw_fd()),
                cgroup: entrance.map(|entrance| entrance.as_raw_fd()),
                reset_priority: surroundings.reset_priority,
                open_files: libc::rlimit64 {
                    rlim_cur: OPEN_FILES_SOFT.min(surroundings.open_files_hard),
                    rlim_max: surroundings.open_files_hard,
                },
                identity: spec.identity.take().map(ChildIdentity::from),
                working_dir: c_string(std::mem::take(&mut spec.working_dir))?,
                or_root: spec.or_root,
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

/// Keeps `texts` in `strings` and returns pointers to them, with a null at the end.
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

/// The paths to try for the program, as execvp(3) would: as it is when it has a slash, else in each
/// directory of the command's own PATH. An empty element means the working directory.
fn program_paths(argv: &[Blob], environment: &[Blob]) -> io::Result<Vec<CString>> {
    let program = argv.first().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    if program.contains(&b'/') {
        return Ok(vec![c_string(program.clone())?]);
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix(b"PATH="))
        .unwrap_or(FALLBACK_PATH);
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
    fn programs_are_looked_for_as_execvp_does() {
        assert_eq!(paths("./x", &["PATH=/a"]), ["./x"]);
        assert_eq!(paths("/x", &[]), ["/x"]);
        assert_eq!(paths("x", &["A=1", "PATH=/a:/b"]), ["/a/x", "/b/x"]);
        assert_eq!(paths("x", &["PATH=:/b"]), ["x", "/b/x"]);
        assert_eq!(paths("x", &[]), ["/bin/x", "/usr/bin/x"]);
        assert!(program_paths(&[], &[]).is_err());
        assert!(program_paths(&["".into()], &[]).is_err());
    }
}
