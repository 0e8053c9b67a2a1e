//! Creating, signalling and reaping processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use escher_protocol::Exit;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::memory::ChildStack;

/// The side of a fork on which a process is.
pub(crate) enum Fork {
    /// The process that forked, with the child's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks this process (fork(2)).
///
/// # Errors
/// Those of fork(2): `EAGAIN` at a limit of processes, `ENOMEM`.
///
/// # Safety
/// The process must have a single thread: another thread might hold a lock at the moment of the
/// fork, which the child could never take. The launcher, the only caller, starts no thread.
pub(crate) unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: the caller guarantees that this is the only thread.
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

/// Creates a process that runs `entry(argument)` on `stack`, and returns without waiting for it.
/// (`CLONE_VFORK` would suspend the caller until the child executes its program, which a user who
/// may stop the child could prevent.)
///
/// # Errors
/// Those of clone(2): `EAGAIN` at a limit of processes, `ENOMEM`.
///
/// # Safety
/// With [`ChildMemory::Shared`] the child writes into the caller's memory, including the
/// thread-local storage of the only thread. So until the child has executed its program or died:
/// - `entry` must never return or unwind, must make system calls by [`super::raw`] alone, and must
///   not allocate, lock, or touch thread-local storage;
/// - the value behind `argument` must not be moved, dropped or changed;
/// - no other child may use `stack`.
///
/// `shim::spawn`, the only caller, upholds these: `entry` is `shim::child::run_child`, and plan and
/// stack outlive the child's set-up, whose end the close-on-exec pipe reports.
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
    // SAFETY: the stack is mapped, aligned, and grows down from `top`; the caller guarantees the
    // rest.
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

/// Sets the nice value of this process (setpriority(2)).
///
/// # Errors
/// `EACCES` for a lower one than this process may set.
pub(crate) fn set_nice(value: i32) -> io::Result<()> {
    // SAFETY: setpriority(2) takes integers; 0 is this process.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A child that was reaped, with its exit and resource usage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) pid: Pid,
    pub(crate) exit: Exit,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) peak_memory_bytes: u64,
}

/// Result of [`reap`].
#[derive(Debug)]
pub(crate) enum Reap {
    /// A child had ended.
    Reaped(Reaped),
    /// There are children, and none has ended.
    NoneEnded,
    /// There are no children.
    NoChildren,
}

/// Reaps a child that has ended, without waiting for one.
pub(crate) fn reap() -> Reap {
    let mut status = 0;
    // SAFETY: `rusage` is a C structure of integers, for which all-zero bytes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to local variables that outlive the call.
        match unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) } {
            0 => return Reap::NoneEnded,
            -1 if Errno::last() == Errno::EINTR => {}
            // ECHILD: these arguments can cause no other error.
            -1 => return Reap::NoChildren,
            pid => {
                return Reap::Reaped(Reaped {
                    pid: Pid::from_raw(pid),
                    exit: exit_from_status(status),
                    user_us: to_micros(usage.ru_utime),
                    system_us: to_micros(usage.ru_stime),
                    // In kilobytes (getrusage(2)).
                    peak_memory_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
                });
            }
        }
    }
}

/// Decodes a wait status. Without `WUNTRACED` and `WCONTINUED` it is either an exit or a death by a
/// signal. (nix's `WaitStatus` cannot represent real-time signals.)
fn exit_from_status(status: libc::c_int) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal {
            signal: libc::WTERMSIG(status),
            core_dumped: libc::WCOREDUMP(status),
        }
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

fn to_micros(time: libc::timeval) -> u64 {
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs()
}

/// Opens a pidfd of the process that has this id now (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// `ESRCH` when there is none.
pub(crate) fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tries close_range(2) with its flag for close-on-exec on a descriptor number that no process can
/// have.
///
/// # Errors
/// `ENOSYS` or `EINVAL` when the kernel does not support it; `EPERM` where a sandbox forbids it.
pub(crate) fn probe_close_range() -> io::Result<()> {
    // SAFETY: takes three integers, and no open descriptor is in the range.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            libc::c_uint::MAX,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process behind `pidfd` (pidfd_send_signal(2), Linux 5.1).
///
/// # Errors
/// `ESRCH` when it has been reaped, `EPERM`, `EINVAL` for an invalid signal number.
pub(crate) fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` is allowed; the kernel then fills it in as for kill(2).
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

/// Sends `signal` to a child that was not reaped yet, or to its process group. Its id cannot have
/// passed to another process, so no pidfd is needed.
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

/// Target of [`signal_child`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalTarget {
    /// The child.
    Process,
    /// All processes of the group that the child leads.
    Group,
}

/// Resets all signal dispositions to the default, so that no command inherits an ignored signal:
/// execve(2) resets handlers only. Rust's runtime ignores SIGPIPE, and glibc's posix_spawn(3)
/// starts programs with the two signals ignored that it reserves for itself. Its signal(2) refuses
/// those two, so this calls the kernel directly.
pub(crate) fn restore_default_signals() {
    // The kernel's structure (rt_sigaction(2)): zeros are `SIG_DFL`, no flags and an empty mask.
    let default = [0_u64; 4];
    let no_previous = std::ptr::null::<u64>();
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the structure outlives the call and installs no handler; a null pointer for the
        // previous disposition is allowed. SIGKILL and SIGSTOP fail, and have the default already.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                no_previous,
                size_of::<u64>(),
            )
        };
    }
}

/// Joins a new session keyring (keyctl(2)), so that no command has access to the keys of the
/// session in which the launcher was started. Failure is ignored: a kernel without keyrings has
/// none to hide.
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
