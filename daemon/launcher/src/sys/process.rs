//! Making, signalling and waiting for processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use escher_protocol::Exit;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::memory::ChildStack;

/// On which side of a fork one is.
pub(crate) enum Fork {
    /// The process that forked; the child's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// fork(2).
///
/// # Errors
/// Those of fork(2): `EAGAIN` at a limit of processes, `ENOMEM`.
///
/// # Safety
/// The process must have a single thread, else the child may use what a lost thread held locked. The
/// launcher, the only caller, starts none.
pub(crate) unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: single-threaded, by the caller's promise.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid))),
    }
}

/// Whether a child runs in the memory of its parent until it executes a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildMemory {
    /// It does (`CLONE_VM`): nothing is copied.
    Shared,
    /// It has a copy, as after fork(2).
    Copied,
}

/// Makes a process that runs `entry(argument)` on `stack`; the caller goes on at once. (`CLONE_VFORK` would
/// hold it until the child executes its program, which a user who can stop the child can prevent.)
///
/// # Errors
/// Those of clone(2): `EAGAIN` at a limit of processes, `ENOMEM`.
///
/// # Safety
/// With [`ChildMemory::Shared`] the child writes into the caller's memory, including the thread-local
/// storage of the only thread. So until the child has executed its program or died:
/// - `entry` must never return or unwind, must make system calls by [`super::raw`] alone, and must not
///   allocate, lock, or touch thread-local storage;
/// - what `argument` points to must stay where it is and must not be changed;
/// - no other child may use `stack`.
///
/// `shim::command`, the only caller, upholds these: `entry` is `shim::child::enter`, and the plan and the
/// stack outlive the child's set-up, of whose end the close-on-exec pipe tells.
pub(crate) unsafe fn clone_child<T>(
    stack: &ChildStack,
    memory: ChildMemory,
    entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: &T,
) -> io::Result<Pid> {
    let sharing = match memory {
        ChildMemory::Shared => libc::CLONE_VM,
        ChildMemory::Copied => 0,
    };
    // SAFETY: the stack is mapped, aligned and grows down from `top`; the caller promises the rest.
    let pid = unsafe {
        libc::clone(
            entry,
            stack.top().as_ptr(),
            sharing | libc::SIGCHLD,
            std::ptr::from_ref(argument).cast_mut().cast(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// A child that has ended and was reaped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) pid: Pid,
    pub(crate) exit: Exit,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) peak_memory_bytes: u64,
}

/// What wait4(2) found without waiting.
#[derive(Debug)]
pub(crate) enum Wait {
    /// A child had ended.
    Reaped(Reaped),
    /// There are children; none has ended.
    None,
    /// There are no children at all.
    NoChildren,
}

/// Reaps a child that has ended, if there is one.
pub(crate) fn reap() -> Wait {
    let mut status = 0;
    // SAFETY: `rusage` is a C structure of integers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to local variables that live through the call.
        match unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) } {
            0 => return Wait::None,
            -1 if Errno::last() == Errno::EINTR => {}
            // ECHILD; there is no other error for these arguments.
            -1 => return Wait::NoChildren,
            pid => {
                return Wait::Reaped(Reaped {
                    pid: Pid::from_raw(pid),
                    exit: exit_of(status),
                    user_us: micros(usage.ru_utime),
                    system_us: micros(usage.ru_stime),
                    // Kilobytes, getrusage(2).
                    peak_memory_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
                });
            }
        }
    }
}

/// Without `WUNTRACED` and `WCONTINUED` a status is either an exit or a death. (nix's `WaitStatus` has no
/// room for real-time signals.)
fn exit_of(status: libc::c_int) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal {
            signal: libc::WTERMSIG(status),
            core_dumped: libc::WCOREDUMP(status),
        }
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

fn micros(time: libc::timeval) -> u64 {
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs()
}

/// A descriptor of the process that has this id now (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// `ESRCH` when there is none.
pub(crate) fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    match i32::try_from(fd) {
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks for close-on-exec on the one descriptor that no process can have, to see whether the kernel knows how
/// (close_range(2)).
///
/// # Errors
/// `ENOSYS` or `EINVAL` when it does not; `EPERM` where a sandbox forbids it.
pub(crate) fn mark_no_range() -> io::Result<()> {
    // SAFETY: takes three integers, and no descriptor is touched.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            libc::c_uint::MAX,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match marked {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process behind `pidfd` (pidfd_send_signal(2), Linux 5.1).
///
/// # Errors
/// `ESRCH` when it has been reaped, `EPERM`, `EINVAL` for a number that is no signal.
pub(crate) fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` is allowed and means as with kill(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends `signal` to a child that was not reaped yet, or to its process group. Its number cannot have
/// passed to another process, which is why no descriptor is needed.
///
/// # Errors
/// Those of kill(2).
pub(crate) fn signal_child(child: Pid, signal: i32, target: SignalTarget) -> io::Result<()> {
    let id = match target {
        SignalTarget::Process => child.as_raw(),
        SignalTarget::Group => -child.as_raw(),
    };
    // SAFETY: takes two integers.
    match unsafe { libc::kill(id, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whom [`signal_child`] reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalTarget {
    /// The child.
    Process,
    /// All processes of the group that the child leads.
    Group,
}

/// Sets every signal that this process ignores back to its default, so that no command inherits that:
/// execve(2) resets handlers, but not ignored signals. Rust's runtime ignores SIGPIPE; glibc's
/// posix_spawn(3) starts programs with the two signals ignored that it reserves for itself, and that its
/// own signal(2) does not touch, which is why this asks the kernel.
pub(crate) fn restore_default_signals() {
    // The kernel's structure (rt_sigaction(2)): zeros are `SIG_DFL`, no flags and an empty mask.
    let default = [0_u64; 4];
    let no_old_one = std::ptr::null::<u64>();
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the structure lives through the call and installs no handler. What cannot be changed
        // (SIGKILL, SIGSTOP) fails and is the default already.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                no_old_one,
                size_of::<u64>(),
            )
        };
    }
}

/// Gives this process a session keyring of its own (keyctl(2)), so that no command finds the keys of
/// whoever started the launcher. Kernels without keyrings have none to hide.
pub(crate) fn join_fresh_session_keyring() {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            anonymous,
        )
    };
}
