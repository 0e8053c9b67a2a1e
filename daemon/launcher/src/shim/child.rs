//! The child between clone(2) and execve(2): every step that makes it the command it is to be.
//!
//! It may run in the shim's memory (see [`crate::sys::process::clone_child`] for what follows from that):
//! raw system calls only, nothing allocated, nothing that can panic. Before each step it notes the stage in
//! the shared [`Progress`], and if the step fails the errno; then it exits, and the close-on-exec pipe
//! tells the shim to look.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::Ordering;

use escher_protocol::StartStage;

use crate::sys::memory::Progress;
use crate::sys::raw::syscall;

/// Everything the child needs, made by the shim beforehand and not changed until the child is on its way.
pub(super) struct ChildPlan {
    pub(super) progress: &'static Progress,
    /// The shim's process id.
    pub(super) shim: c_int,
    /// What becomes descriptors 0, 1 and 2. None of these numbers is below 3.
    pub(super) descriptors: [c_int; 3],
    /// What to write `0` to, to be in the command's cgroup. Above 2.
    pub(super) cgroup: Option<c_int>,
    /// Whether priority and out-of-memory score are to be set back to 0.
    pub(super) reset_priority: bool,
    pub(super) open_files: libc::rlimit64,
    pub(super) identity: Option<ChildIdentity>,
    pub(super) working_dir: CString,
    pub(super) or_root: bool,
    /// Paths to try, in this order.
    pub(super) programs: Vec<CString>,
    /// Ends with a null.
    pub(super) argv: Vec<*const c_char>,
    /// Ends with a null.
    pub(super) environment: Vec<*const c_char>,
}

pub(super) struct ChildIdentity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Sorted, as the kernel keeps and returns them.
    pub(super) groups: Vec<u32>,
    /// Room for reading them back: one more than there should be.
    pub(super) scratch: Vec<Cell<u32>>,
}

/// Exit status of a child that could not become its program. Nobody is told it: the errno counts.
const FAILED: usize = 127;

/// Linux's umask for commands (umask(2)).
const UMASK: usize = 0o022;

/// The child's first and last function.
pub(super) extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn::start` passes a `ChildPlan` that it keeps unchanged until this process is gone
    // from its memory. Only `scratch`, made of cells, is written, and the shim never looks at it.
    let plan = unsafe { &*plan.cast::<ChildPlan>() };
    let Err(errno) = prepare_and_execute(plan);
    plan.progress.errno.store(errno, Ordering::Release);
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { syscall(libc::SYS_exit_group, [FAILED, 0, 0, 0, 0, 0]) };
    }
}

enum Never {}

fn prepare_and_execute(plan: &ChildPlan) -> Result<Never, i32> {
    let stage = |stage: StartStage| {
        plan.progress.stage.store(stage as u32, Ordering::Release);
    };

    // First, so that whatever is done from here on counts.
    if let Some(cgroup) = plan.cgroup {
        stage(StartStage::Limits);
        let cgroup = cgroup.cast_unsigned() as usize;
        let itself = c"0".as_ptr() as usize;
        call(libc::SYS_write, [cgroup, itself, 1, 0, 0, 0])?;
    }

    stage(StartStage::Session);
    call(libc::SYS_setsid, [0; 6])?;

    stage(StartStage::Keyring);
    join_session_keyring()?;

    stage(StartStage::Descriptors);
    for (number, from) in plan.descriptors.into_iter().enumerate() {
        call(
            libc::SYS_dup3,
            [from.cast_unsigned() as usize, number, 0, 0, 0, 0],
        )?;
    }
    let cloexec = libc::CLOSE_RANGE_CLOEXEC as usize;
    call(
        libc::SYS_close_range,
        [3, u32::MAX as usize, cloexec, 0, 0, 0],
    )?;

    stage(StartStage::Attributes);
    call(libc::SYS_umask, [UMASK, 0, 0, 0, 0, 0])?;
    if plan.reset_priority {
        reset_priority()?;
    }

    stage(StartStage::Limits);
    let limit = std::ptr::from_ref(&plan.open_files) as usize;
    let open_files = libc::RLIMIT_NOFILE as usize;
    call(libc::SYS_prlimit64, [0, open_files, limit, 0, 0, 0])?;

    if let Some(identity) = &plan.identity {
        become_user(identity, &stage)?;
    }

    die_with_the_shim(plan.shim)?;

    stage(StartStage::WorkingDirectory);
    enter_directory(&plan.working_dir, plan.or_root)?;

    stage(StartStage::Signals);
    // The shim blocks every signal; dispositions are all the default since the launcher's start.
    let nothing: u64 = 0;
    let mask = std::ptr::from_ref(&nothing) as usize;
    let set = libc::SIG_SETMASK.cast_unsigned() as usize;
    call(
        libc::SYS_rt_sigprocmask,
        [set, mask, 0, size_of::<u64>(), 0, 0],
    )?;

    stage(StartStage::Exec);
    execute(plan)
}

/// A session keyring of the command's own. Made while still root where the launcher is root, so that
/// the quota of 200 keys that an ordinary user has (keyrings(7)) is not what limits its commands. Where it
/// cannot be had (no keyrings, a sandbox that forbids them, a quota), the launcher's fresh one stays.
fn join_session_keyring() -> Result<(), i32> {
    let join = libc::KEYCTL_JOIN_SESSION_KEYRING as usize;
    match call(libc::SYS_keyctl, [join, 0, 0, 0, 0, 0]) {
        Ok(_) | Err(libc::ENOSYS | libc::EPERM | libc::EDQUOT | libc::EACCES) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn reset_priority() -> Result<(), i32> {
    let process = libc::PRIO_PROCESS as usize;
    call(libc::SYS_setpriority, [process, 0, 0, 0, 0, 0])?;
    let path = c"/proc/self/oom_score_adj".as_ptr() as usize;
    let at = (libc::AT_FDCWD as isize).cast_unsigned();
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC).cast_unsigned() as usize;
    let file = call(libc::SYS_openat, [at, path, flags, 0, 0, 0])?;
    call(libc::SYS_write, [file, c"0".as_ptr() as usize, 1, 0, 0, 0])?;
    Ok(())
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
    // Changing the uid has set this to fs.suid_dumpable, which is 0 or 2 (else memory is not shared):
    // in either case the user can neither trace this process nor write its memory. Say it all the same.
    let option = libc::PR_SET_DUMPABLE.cast_unsigned() as usize;
    call(libc::SYS_prctl, [option, 0, 0, 0, 0, 0])?;

    stage(StartStage::VerifyIdentity);
    verify(libc::SYS_getresuid, uid)?;
    verify(libc::SYS_getresgid, gid)?;
    let room = scratch.as_ptr() as usize;
    let count = call(libc::SYS_getgroups, [scratch.len(), room, 0, 0, 0, 0])?;
    let same = || {
        scratch
            .iter()
            .zip(groups)
            .all(|(has, should)| has.get() == *should)
    };
    if count == groups.len() && same() {
        Ok(())
    } else {
        Err(libc::EPERM)
    }
}

/// Has the kernel kill this process when its shim goes before it, so that nothing runs on of which nobody
/// will know the end, even where no launcher is left that sees to it. After the change of user, which clears
/// this, as the execution of a set-user-ID, set-group-ID or capable program does (prctl(2),
/// `PR_SET_PDEATHSIG`): such a program lives on.
fn die_with_the_shim(shim: c_int) -> Result<(), i32> {
    let option = libc::PR_SET_PDEATHSIG.cast_unsigned() as usize;
    let signal = libc::SIGKILL.cast_unsigned() as usize;
    call(libc::SYS_prctl, [option, signal, 0, 0, 0, 0])?;
    // It may have gone before.
    if call(libc::SYS_getppid, [0; 6])? == shim.cast_unsigned() as usize {
        Ok(())
    } else {
        Err(libc::ESRCH)
    }
}

/// Whether the real, effective and saved id that `number` (getresuid or getresgid) tells are all `id`.
fn verify(number: libc::c_long, id: usize) -> Result<(), i32> {
    let ids = [const { Cell::new(u32::MAX) }; 3];
    let at = |index: usize| ids[index].as_ptr() as usize;
    call(number, [at(0), at(1), at(2), 0, 0, 0])?;
    if ids.iter().all(|found| found.get() as usize == id) {
        Ok(())
    } else {
        Err(libc::EPERM)
    }
}

fn enter_directory(path: &CStr, or_root: bool) -> Result<(), i32> {
    let chdir = |path: &CStr| call(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0, 0]);
    match chdir(path) {
        Err(_) if or_root => chdir(c"/").map(drop),
        result => result.map(drop),
    }
}

/// Tries each path as execvp(3) does: one that is not there is passed over, one that is there but may not
/// be executed is remembered, anything else ends the search. Where all are passed over, the last says why.
fn execute(plan: &ChildPlan) -> Result<Never, i32> {
    let mut failure = libc::ENOENT;
    for program in &plan.programs {
        let (argv, environment) = (
            plan.argv.as_ptr() as usize,
            plan.environment.as_ptr() as usize,
        );
        let errno = match call(
            libc::SYS_execve,
            [program.as_ptr() as usize, argv, environment, 0, 0, 0],
        ) {
            Ok(_) => continue, // execve(2) does not return where it succeeds.
            Err(errno) => errno,
        };
        match errno {
            libc::EACCES => failure = errno,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {
                if failure != libc::EACCES {
                    failure = errno;
                }
            }
            _ => return Err(errno),
        }
    }
    Err(failure)
}

fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: every caller is in this module and passes what its system call takes: integers, and
    // pointers into the plan, into literals, or to locals that live through the call.
    unsafe { syscall(number, arguments) }
}
