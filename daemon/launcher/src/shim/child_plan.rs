//! From a launch spec to the plan that the child executes.

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use escher_protocol::{Blob, ProcessLimits, Rlimit, RlimitResource};

use super::ShimContext;
use super::baseline::{ProcessBaseline, system_resource};
use super::child::{AttributeChange, ChildIdentity, ChildPlan, ProgramReference};
use crate::ipc::wire::{Identity, LaunchSpec, ProcessDefaults};

/// Soft limit of open descriptors for commands. select(2) fails above it, so programs that can
/// handle more raise it themselves (systemd.exec(5)).
const OPEN_FILES_SOFT: u64 = 1024;

/// Where a program without a slash is searched when the command has no PATH (execvp(3)).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// The descriptors of the shim that a child uses.
pub(super) struct ChildDescriptors<'a> {
    /// They become standard input, output and error.
    pub(super) standard: [BorrowedFd<'a>; 3],
    /// Closed by execve(2), by which the shim knows that the set-up is over.
    pub(super) setup_end: BorrowedFd<'a>,
    /// `cgroup.procs` of the cgroup that the child enters.
    pub(super) cgroup_procs: Option<BorrowedFd<'a>>,
}

/// A plan together with the strings to which it points.
pub(super) struct OwnedPlan {
    pub(super) plan: ChildPlan,
    _strings: Vec<CString>,
}

impl OwnedPlan {
    /// Makes the plan for `spec`, out of which it moves the strings: they may have megabytes.
    ///
    /// # Errors
    /// `ENOENT` without a program, `EINVAL` for a string that contains a NUL.
    pub(super) fn new(
        spec: &mut LaunchSpec,
        descriptors: ChildDescriptors<'_>,
        context: &ShimContext,
    ) -> io::Result<Self> {
        let program = program(&spec.argv, &spec.environment)?;
        let mut strings = Vec::with_capacity(spec.argv.len() + spec.environment.len());
        let argv = pointers(std::mem::take(&mut spec.argv), &mut strings)?;
        let environment = pointers(std::mem::take(&mut spec.environment), &mut strings)?;
        let baseline = &context.baseline;
        // Who has logged in to start the launcher has done so for commands of the same user, too.
        let keeps_login = spec.identity.is_none() && baseline.has_login_uid;
        let login_uid = (!keeps_login).then(|| spec.submitter_uid.to_string());
        let login_uid = login_uid.map(|uid| c_string(uid.into_bytes().into()));
        Ok(OwnedPlan {
            plan: ChildPlan {
                progress: context.progress,
                shim: context.pid.as_raw(),
                standard: descriptors
                    .standard
                    .map(|descriptor| descriptor.as_raw_fd()),
                setup_end: descriptors.setup_end.as_raw_fd(),
                cgroup_procs: descriptors.cgroup_procs.map(|procs| procs.as_raw_fd()),
                nice: nice_change(&spec.process, baseline),
                oom_score_adjust: oom_score_change(&spec.process, baseline),
                login_uid: login_uid.transpose()?,
                umask: spec.umask,
                rlimits: rlimits(&spec.process, &baseline.defaults),
                identity: spec.identity.take().map(ChildIdentity::from),
                working_dir: c_string(std::mem::take(&mut spec.working_dir))?,
                falls_back_to_root_dir: spec.falls_back_to_root_dir,
                program,
                argv,
                environment,
            },
            _strings: strings,
        })
    }
}

/// Returns the change for a value that the command asks for, or else for one from which it has to be
/// freed.
fn change<T>(requested: Option<T>, default: T, is_reset: bool) -> AttributeChange<T> {
    match requested {
        Some(value) => AttributeChange::Set(value),
        None if is_reset => AttributeChange::SetIfAllowed(default),
        None => AttributeChange::Keep,
    }
}

fn nice_change(process: &ProcessLimits, baseline: &ProcessBaseline) -> AttributeChange<i32> {
    change(process.nice, baseline.defaults.nice, baseline.resets_nice)
}

fn oom_score_change(
    process: &ProcessLimits,
    baseline: &ProcessBaseline,
) -> AttributeChange<CString> {
    // Digits contain no NUL.
    let digits = |score: i32| CString::new(score.to_string()).unwrap_or_default();
    change(
        process.oom_score_adjust.map(digits),
        digits(baseline.defaults.oom_score_adjust),
        baseline.resets_oom_score,
    )
}

/// Returns the resource limits of a command: those of open files in any case, which it does not share
/// with the launcher.
fn rlimits(process: &ProcessLimits, defaults: &ProcessDefaults) -> Vec<(usize, libc::rlimit64)> {
    let hard = defaults.hard_limit(RlimitResource::OpenFiles);
    let open_files = Rlimit {
        resource: RlimitResource::OpenFiles,
        soft: OPEN_FILES_SOFT.min(hard),
        hard,
    };
    let is_set = |limit: &Rlimit| limit.resource == RlimitResource::OpenFiles;
    let default = (!process.rlimits.iter().any(is_set)).then_some(&open_files);
    let limits = default.into_iter().chain(&process.rlimits);
    let system_limit = |limit: &Rlimit| {
        let values = libc::rlimit64 {
            rlim_cur: limit.soft,
            rlim_max: limit.hard,
        };
        (system_resource(limit.resource) as usize, values)
    };
    limits.map(system_limit).collect()
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

/// Returns which program to execute: the first argument, which is a path if it has a slash, else a
/// name to look up in the command's own PATH. Paths are not made here: their lengths are those of the
/// name and of the PATH multiplied.
fn program(argv: &[Blob], environment: &[Blob]) -> io::Result<ProgramReference> {
    let program = argv.first().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let is_path = program.contains(&b'/');
    let program = c_string(program.clone())?;
    if is_path {
        return Ok(ProgramReference::Path(program));
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    Ok(ProgramReference::Name {
        name: program,
        search_path: path.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(argv: &[&str], environment: &[&str]) -> io::Result<ProgramReference> {
        let blobs = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Blob::from(*text))
                .collect::<Vec<_>>()
        };
        program(&blobs(argv), &blobs(environment))
    }

    #[test]
    fn a_program_without_a_slash_is_looked_up_in_the_commands_own_path() {
        let path = |text: &str| ProgramReference::Path(CString::new(text).unwrap());
        assert_eq!(of(&["./x"], &["PATH=/a"]).unwrap(), path("./x"));
        assert_eq!(of(&["/x"], &[]).unwrap(), path("/x"));
        let name = |search_path: &str| ProgramReference::Name {
            name: c"x".to_owned(),
            search_path: search_path.into(),
        };
        assert_eq!(of(&["x"], &["A=1", "PATH=/a:/b"]).unwrap(), name("/a:/b"));
        assert_eq!(of(&["x"], &["PATH="]).unwrap(), name(""));
        assert_eq!(of(&["x"], &[]).unwrap(), name("/bin:/usr/bin"));
        assert!(of(&[], &[]).is_err());
        assert!(of(&[""], &[]).is_err());
    }
}
