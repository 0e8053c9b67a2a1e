//! The child between clone(2) and execve(2): every step of its set-up.
//!
//! The child may run in the shim's memory (see [`crate::sys::process::clone_child`] for the
//! consequences): raw system calls only, no allocation, no panic. It stores the stage of each step
//! in the shared [`SetupProgress`] before the step, and the errno if the step fails. It exits then,
//! which closes the close-on-exec pipe that the shim polls.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::Ordering;

use escher_protocol::StartStage;

use super::interpreter::{FIRST_BYTES, FirstBytes, InterpreterPath, find_missing};
use crate::sys::memory::SetupProgress;
use crate::sys::raw::syscall;

/// Everything that the child needs, prepared by the shim and not changed while the child may read
/// it.
pub(super) struct ChildPlan {
    pub(super) progress: &'static SetupProgress,
    /// The shim's process id.
    pub(super) shim: c_int,
    /// The descriptors that become 0, 1 and 2. None of them is below 3.
    pub(super) standard: [c_int; 3],
    /// The descriptor whose end tells the shim that the set-up is over. Above 2.
    pub(super) setup_end: c_int,
    /// `cgroup.procs` of the command's cgroup. Above 2.
    pub(super) cgroup_procs: Option<c_int>,
    pub(super) nice: AttributeChange<c_int>,
    /// The adjustment of the out-of-memory score, in digits. A child that changes it has memory of its
    /// own.
    pub(super) oom_score_adjust: AttributeChange<CString>,
    /// The login user id, in digits.
    pub(super) login_uid: Option<CString>,
    pub(super) umask: u32,
    /// Resource limits, each with the number of its resource.
    pub(super) rlimits: Vec<(usize, libc::rlimit64)>,
    pub(super) identity: Option<ChildIdentity>,
    pub(super) working_dir: CString,
    pub(super) falls_back_to_root_dir: bool,
    pub(super) program: ProgramReference,
    /// Ends with a null.
    pub(super) argv: Vec<*const c_char>,
    /// Ends with a null.
    pub(super) environment: Vec<*const c_char>,
}

/// What a child does with an attribute that it has inherited from its shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttributeChange<T> {
    Keep,
    /// Set it if that is allowed: to lower a nice value or a score takes a capability, which even root
    /// may lack in a container (capabilities(7)).
    SetIfAllowed(T),
    /// Set it, or do not start.
    Set(T),
}

impl<T> AttributeChange<T> {
    fn apply(&self, set: impl FnOnce(&T) -> Result<usize, i32>) -> Result<(), i32> {
        match self {
            AttributeChange::Keep => Ok(()),
            AttributeChange::SetIfAllowed(value) => match set(value) {
                Ok(_) | Err(libc::EPERM | libc::EACCES | libc::EROFS) => Ok(()),
                Err(errno) => Err(errno),
            },
            AttributeChange::Set(value) => set(value).map(drop),
        }
    }
}

/// The program that a child executes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProgramReference {
    /// The file with this path.
    Path(CString),
    /// The first file with this name that can be executed.
    Name {
        name: CString,
        /// The directories in which to look it up, separated by colons. An empty one is the working
        /// directory.
        search_path: Vec<u8>,
    },
}

pub(super) struct ChildIdentity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Sorted, as the kernel keeps and returns them.
    pub(super) groups: Vec<u32>,
    /// Buffer for reading the groups back: one more than there should be.
    pub(super) scratch: Vec<Cell<u32>>,
}

/// Exit status of a child that could not execute its program. The shim reports the errno instead.
const FAILED: usize = 127;

/// Number of the descriptor whose end tells the shim that the set-up is over.
const SETUP_END: usize = 3;

/// Longest path in bytes, with the final NUL (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;

/// Longest name of a file in bytes (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;

/// The child's entry point.
pub(super) extern "C" fn run_child(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to a `ChildPlan` that stays in place and unchanged until
    // this process has left its memory. The child writes only to `scratch`, which consists of
    // cells, and which the shim never reads.
    let plan = unsafe { &*plan.cast::<ChildPlan>() };
    let Err(errno) = prepare_and_execute(plan);
    plan.progress.errno.store(errno, Ordering::Release);
    loop {
        // SAFETY: exit_group(2) takes an integer.
        let _ = unsafe { syscall(libc::SYS_exit_group, [FAILED, 0, 0, 0, 0, 0]) };
    }
}

enum Never {}

fn prepare_and_execute(plan: &ChildPlan) -> Result<Never, i32> {
    let stage = |stage: StartStage| {
        plan.progress.stage.store(stage as u32, Ordering::Release);
    };

    // First, so that everything that follows counts towards the limits.
    if let Some(cgroup_procs) = plan.cgroup_procs {
        stage(StartStage::Limits);
        let cgroup_procs = cgroup_procs.cast_unsigned() as usize;
        let this_process = c"0".as_ptr() as usize;
        call(libc::SYS_write, [cgroup_procs, this_process, 1, 0, 0, 0])?;
    }

    stage(StartStage::Descriptors);
    take_descriptors(plan)?;

    stage(StartStage::Session);
    call(libc::SYS_setsid, [0; 6])?;

    stage(StartStage::Keyring);
    join_session_keyring(plan.identity.is_some())?;

    stage(StartStage::Attributes);
    call(libc::SYS_umask, [plan.umask as usize, 0, 0, 0, 0, 0])?;
    plan.nice.apply(|value| {
        let process = libc::PRIO_PROCESS as usize;
        let value = (*value as isize).cast_unsigned();
        call(libc::SYS_setpriority, [process, 0, value, 0, 0, 0])
    })?;
    plan.oom_score_adjust
        .apply(|score| write_file(c"/proc/self/oom_score_adj", score))?;

    if let Some(uid) = &plan.login_uid {
        set_login_uid(uid);
    }

    stage(StartStage::Limits);
    for (resource, limit) in &plan.rlimits {
        let limit = std::ptr::from_ref(limit) as usize;
        call(libc::SYS_prlimit64, [0, *resource, limit, 0, 0, 0])?;
    }

    if let Some(identity) = &plan.identity {
        become_user(identity, &stage)?;
    }

    die_with_shim(plan.shim)?;

    stage(StartStage::WorkingDirectory);
    enter_directory(&plan.working_dir, plan.falls_back_to_root_dir)?;

    stage(StartStage::Signals);
    // The shim blocks all signals; the launcher has reset all dispositions at its start.
    let empty: u64 = 0;
    let mask = std::ptr::from_ref(&empty) as usize;
    let set = libc::SIG_SETMASK.cast_unsigned() as usize;
    call(
        libc::SYS_rt_sigprocmask,
        [set, mask, 0, size_of::<u64>(), 0, 0],
    )?;

    stage(StartStage::Exec);
    execute(plan)
}

/// Keeps the descriptors of the plan and closes all others of the shim's: a child whose user has
/// stopped it would keep the connection to escherd open beyond the death of its shim.
fn take_descriptors(plan: &ChildPlan) -> Result<(), i32> {
    let dup = |from: c_int, to: usize, flags: c_int| {
        let (from, flags) = (
            from.cast_unsigned() as usize,
            flags.cast_unsigned() as usize,
        );
        call(libc::SYS_dup3, [from, to, flags, 0, 0, 0])
    };
    for (number, from) in plan.standard.into_iter().enumerate() {
        dup(from, number, 0)?;
    }
    // dup3(2) refuses two equal numbers; this descriptor is close-on-exec by itself.
    if plan.setup_end.cast_unsigned() as usize != SETUP_END {
        dup(plan.setup_end, SETUP_END, libc::O_CLOEXEC)?;
    }
    let others = [SETUP_END + 1, u32::MAX as usize, 0, 0, 0, 0];
    call(libc::SYS_close_range, others).map(drop)
}

/// Joins a new session keyring. Where the launcher is root this happens before the change of user,
/// so that the user's quota of 200 keys (keyrings(7)) does not limit its commands. Without support
/// for keyrings, or where a sandbox forbids them, there is none to share. Beyond a quota the command
/// stays in the launcher's keyring, but only a command of the launcher's own user: others would
/// share it.
fn join_session_keyring(is_other_user: bool) -> Result<(), i32> {
    let join = libc::KEYCTL_JOIN_SESSION_KEYRING as usize;
    match call(libc::SYS_keyctl, [join, 0, 0, 0, 0, 0]) {
        Ok(_) | Err(libc::ENOSYS | libc::EPERM | libc::EACCES) => Ok(()),
        Err(libc::EDQUOT) if !is_other_user => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Sets the user to whom the audit subsystem attributes what the command does
/// (proc_pid_loginuid(5)). A failure is ignored: it is a record, and gives no rights. The kernel may
/// have no auditing, or not allow a change: to change one takes a capability, and it may be set once
/// only (auditctl(8), `--loginuid-immutable`).
fn set_login_uid(uid: &CStr) {
    let _ = write_file(c"/proc/self/loginuid", uid);
}

/// Writes to an existing file.
fn write_file(path: &CStr, text: &CStr) -> Result<usize, i32> {
    let (path, content) = (path.as_ptr() as usize, text.as_ptr() as usize);
    let at = (libc::AT_FDCWD as isize).cast_unsigned();
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC).cast_unsigned() as usize;
    let file = call(libc::SYS_openat, [at, path, flags, 0, 0, 0])?;
    let length = text.count_bytes();
    let written = call(libc::SYS_write, [file, content, length, 0, 0, 0]);
    call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
    written
}

fn become_user(identity: &ChildIdentity, stage: &impl Fn(StartStage)) -> Result<(), i32> {
    let ChildIdentity {
        uid,
        gid,
        groups,
        scratch,
    } = identity;
    let (uid, gid) = (*uid as usize, *gid as usize);

    stage(StartStage::Groups);
    call(
        libc::SYS_setgroups,
        [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0],
    )?;
    stage(StartStage::Gid);
    call(libc::SYS_setresgid, [gid, gid, gid, 0, 0, 0])?;
    stage(StartStage::Uid);
    call(libc::SYS_setresuid, [uid, uid, uid, 0, 0, 0])?;
    // The change of uid has set this to fs.suid_dumpable, which is 0 or 2 (else memory is not
    // shared). With either the user can neither trace this process nor write to its memory; 0 makes
    // that explicit.
    let option = libc::PR_SET_DUMPABLE.cast_unsigned() as usize;
    call(libc::SYS_prctl, [option, 0, 0, 0, 0, 0])?;

    stage(StartStage::VerifyIdentity);
    verify(libc::SYS_getresuid, uid)?;
    verify(libc::SYS_getresgid, gid)?;
    let buffer = scratch.as_ptr() as usize;
    let count = call(libc::SYS_getgroups, [scratch.len(), buffer, 0, 0, 0, 0])?;
    let are_equal = || {
        scratch
            .iter()
            .zip(groups)
            .all(|(actual, expected)| actual.get() == *expected)
    };
    if count == groups.len() && are_equal() {
        Ok(())
    } else {
        Err(libc::EPERM)
    }
}

/// Has the kernel kill this process when its shim dies (prctl(2), `PR_SET_PDEATHSIG`), so that no
/// command runs on unsupervised, even where no launcher is left to kill it. This follows the change
/// of user, which clears the setting. So does executing a set-user-ID, set-group-ID or capable
/// program: such a program outlives its shim.
fn die_with_shim(shim: c_int) -> Result<(), i32> {
    let option = libc::PR_SET_PDEATHSIG.cast_unsigned() as usize;
    let signal = libc::SIGKILL.cast_unsigned() as usize;
    call(libc::SYS_prctl, [option, signal, 0, 0, 0, 0])?;
    // The shim may have died before that.
    if call(libc::SYS_getppid, [0; 6])? == shim.cast_unsigned() as usize {
        Ok(())
    } else {
        Err(libc::ESRCH)
    }
}

/// Checks that the real, effective and saved id that `number` (getresuid(2) or getresgid(2))
/// returns are `id`.
fn verify(number: libc::c_long, id: usize) -> Result<(), i32> {
    let ids = [const { Cell::new(u32::MAX) }; 3];
    let at = |index: usize| ids[index].as_ptr() as usize;
    call(number, [at(0), at(1), at(2), 0, 0, 0])?;
    if ids.iter().all(|actual| actual.get() as usize == id) {
        Ok(())
    } else {
        Err(libc::EPERM)
    }
}

fn enter_directory(path: &CStr, falls_back_to_root_dir: bool) -> Result<(), i32> {
    let chdir = |path: &CStr| call(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]);
    match chdir(path) {
        Err(_) if falls_back_to_root_dir => chdir(c"/").map(drop),
        result => result.map(drop),
    }
}

fn execute(plan: &ChildPlan) -> Result<Never, i32> {
    let result = match &plan.program {
        ProgramReference::Path(path) => Err(execute_file(path, plan)),
        ProgramReference::Name { name, search_path } => search_and_execute(name, search_path, plan),
    };
    if let Err(libc::ENOENT | libc::ENOTDIR) = result {
        name_missing_interpreter(plan);
    }
    result
}

/// Tells the shim which interpreter is missing, if the program is a script that the user may read.
fn name_missing_interpreter(plan: &ChildPlan) {
    let mut buffer = [0; MAX_PATH_BYTES];
    let (missing, program) = match &plan.program {
        ProgramReference::Path(path) => (find_missing(path, read_first), None),
        ProgramReference::Name { name, search_path } => {
            let mut directories = search_path.split(|byte| *byte == b':');
            let missing = directories.find_map(|directory| {
                find_missing(join(directory, name, &mut buffer)?, read_first)
            });
            (missing, CStr::from_bytes_until_nul(&buffer).ok())
        }
    };
    let Some(missing) = missing else {
        return;
    };
    let script = missing.script.as_ref().map(InterpreterPath::as_c_str);
    if let Some(script) = script.or(program) {
        plan.progress.script.store(script);
    }
    let interpreter = missing.interpreter.as_c_str();
    plan.progress.interpreter.store(interpreter);
}

/// Reads the first bytes of the file at `path`, without waiting for a writer if it is a fifo.
fn read_first(path: &CStr) -> Result<FirstBytes, i32> {
    let at = (libc::AT_FDCWD as isize).cast_unsigned();
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let (path, flags) = (path.as_ptr() as usize, flags.cast_unsigned() as usize);
    let file = call(libc::SYS_openat, [at, path, flags, 0, 0, 0])?;
    let mut first = [0; FIRST_BYTES];
    let read = call(
        libc::SYS_read,
        [file, first.as_mut_ptr() as usize, FIRST_BYTES, 0, 0, 0],
    );
    call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
    read.map(|_| first)
}

/// Tries the name in each directory as execvp(3) does: it skips files that do not exist or whose
/// path is too long, and files that must not be executed, which it reports at the end. Any other
/// error ends the search. If no file exists, the last error is reported.
fn search_and_execute(name: &CStr, search_path: &[u8], plan: &ChildPlan) -> Result<Never, i32> {
    if name.count_bytes() > MAX_NAME_BYTES {
        return Err(libc::ENAMETOOLONG);
    }
    let mut failure = libc::ENOENT;
    let mut buffer = [0; MAX_PATH_BYTES];
    for directory in search_path.split(|byte| *byte == b':') {
        let Some(path) = join(directory, name, &mut buffer) else {
            continue;
        };
        match execute_file(path, plan) {
            libc::EACCES => failure = libc::EACCES,
            errno @ (libc::ENOENT
            | libc::ENOTDIR
            | libc::ESTALE
            | libc::ENODEV
            | libc::ETIMEDOUT) => {
                if failure != libc::EACCES {
                    failure = errno;
                }
            }
            errno => return Err(errno),
        }
    }
    Err(failure)
}

/// Writes the path of `name` in `directory` into `buffer`; `None` if it does not fit.
fn join<'a>(
    directory: &[u8],
    name: &CStr,
    buffer: &'a mut [u8; MAX_PATH_BYTES],
) -> Option<&'a CStr> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    let name = name.to_bytes_with_nul();
    if directory.len() + slash.len() + name.len() > buffer.len() {
        return None;
    }
    let path = directory.iter().chain(slash).chain(name);
    for (to, from) in buffer.iter_mut().zip(path) {
        *to = *from;
    }
    CStr::from_bytes_until_nul(buffer).ok()
}

/// Executes the file at `path`. Returns the errno of execve(2), which returns only if it fails.
fn execute_file(path: &CStr, plan: &ChildPlan) -> i32 {
    let argv = plan.argv.as_ptr() as usize;
    let environment = plan.environment.as_ptr() as usize;
    let arguments = [path.as_ptr() as usize, argv, environment, 0, 0, 0];
    match call(libc::SYS_execve, arguments) {
        Err(errno) => errno,
        Ok(_) => libc::ENOEXEC,
    }
}

fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: every caller is in this module and passes the arguments of its system call: integers,
    // and pointers into the plan, to literals, or to local variables that outlive the call.
    unsafe { syscall(number, arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(directory: &[u8], name: &CStr) -> Option<CString> {
        let mut buffer = [b'?'; MAX_PATH_BYTES];
        join(directory, name, &mut buffer).map(CStr::to_owned)
    }

    #[test]
    fn a_path_is_a_directory_and_a_name_unless_that_is_too_long() {
        assert_eq!(joined(b"/a", c"x").as_deref(), Some(c"/a/x"));
        assert_eq!(joined(b"", c"x").as_deref(), Some(c"x"));
        let longest = joined(&[b'd'; MAX_PATH_BYTES - 3], c"x").unwrap();
        assert_eq!(longest.as_bytes_with_nul().len(), MAX_PATH_BYTES);
        assert_eq!(joined(&[b'd'; MAX_PATH_BYTES - 2], c"x"), None);
    }
}
