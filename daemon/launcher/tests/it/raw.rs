//! System calls that have no safe wrapper.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Opens a pidfd of the process that has this id now (pidfd_open(2)).
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) })
}

/// Duplicates a descriptor of another process (pidfd_getfd(2)).
pub(crate) fn descriptor_of(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    let call = libc::SYS_pidfd_getfd;
    // SAFETY: takes three integers.
    let fd = check(unsafe { libc::syscall(call, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) })
}

/// Signals the process behind `pidfd`.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let call = libc::SYS_pidfd_send_signal;
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` is allowed.
    check(unsafe { libc::syscall(call, pidfd.as_raw_fd(), signal, no_info, 0) }).map(drop)
}

/// Makes this thread, but not the rest of the process, run as a user without privileges or groups,
/// for the rest of its life.
pub(crate) fn become_user_in_this_thread(id: u32) {
    let nothing = std::ptr::null::<libc::gid_t>();
    // SAFETY: an empty list of groups needs no memory.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, nothing) }).expect("root");
    // SAFETY: takes three integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) }).expect("root");
    // SAFETY: takes three integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) }).expect("root");
}

/// Becomes the tracer of a process (ptrace(2), `PTRACE_SEIZE`).
pub(crate) fn seize(pid: u32) -> io::Result<()> {
    // SAFETY: this request takes integers only.
    check(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, pid, 0, 0) }).map(drop)
}

/// Returns the number of the system call that a stopped process has just entered.
pub(crate) fn entered_call(process: nix::unistd::Pid) -> Option<libc::c_long> {
    let info = nix::sys::ptrace::syscall_info(process).ok()?;
    let is_entry = info.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
    // SAFETY: `op` says that the kernel has filled in this variant.
    is_entry.then(|| unsafe { info.u.entry.nr }.cast_signed())
}

/// Adds a key to the keyring of this thread (add_key(2)).
pub(crate) fn add_key(number: u32) -> io::Result<()> {
    let name = CString::new(number.to_string()).unwrap();
    let call = libc::SYS_add_key;
    let (kind, name) = (c"user".as_ptr(), name.as_ptr());
    let (content, length) = (c"x".as_ptr(), 1_usize);
    // SAFETY: the strings and the content outlive the call.
    let key = unsafe {
        libc::syscall(
            call,
            kind,
            name,
            content,
            length,
            libc::KEY_SPEC_THREAD_KEYRING,
        )
    };
    check(key).map(drop)
}

/// Sets an extended attribute (setxattr(2)); returns whether the file system has attributes of its
/// kind.
pub(crate) fn set_attribute(path: &Path, name: &CStr, value: &[u8]) -> bool {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let (path, name) = (path.as_ptr(), name.as_ptr());
    let (value, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: the strings and the value outlive the call.
    let set = check(unsafe { libc::setxattr(path, name, value, length, 0) }.into());
    match set {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => false,
        set => set.map(|_| true).unwrap(),
    }
}
