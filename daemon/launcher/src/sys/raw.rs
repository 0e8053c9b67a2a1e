//! System calls without libc, for the time between clone(2) and execve(2).
//!
//! The child then shares the shim's memory, and with it libc's `errno`: a libc function that fails
//! in the child would overwrite the errno that the shim is about to read. The calls here return
//! their error instead, use no memory of their own, and take no lock.
//!
//! The unit tests of this crate run for another architecture under the user-mode emulator of QEMU
//! (Debian: `qemu-user`, `gcc-aarch64-linux-gnu`, `libc6-dev-arm64-cross`). It does not report that
//! descriptors of a packet were cut off, so the test of that is left out:
//!
//! ```text
//! rustup target add aarch64-unknown-linux-gnu
//! export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
//! export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
//! cargo test -p escher-launcher --lib --target aarch64-unknown-linux-gnu -- --skip too_many
//! ```

/// Makes the system call `number`.
///
/// # Errors
/// The errno that the kernel returned.
///
/// # Safety
/// The arguments must be those that this system call expects; pointers must be valid for the
/// accesses that the kernel makes through them, for as long as it makes them.
#[inline(always)]
pub(crate) unsafe fn syscall(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: the caller guarantees the arguments; the clobbers and the result register are those
    // of the kernel's calling convention (syscall(2), "Architecture calling conventions").
    let result = unsafe { trap(number, arguments) };
    // The kernel returns -4095..=-1 for errors (syscall(2)).
    match result {
        -4095..=-1 => Err(i32::try_from(-result).unwrap_or(i32::MAX)),
        _ => Ok(usize::try_from(result.cast_unsigned()).unwrap_or(usize::MAX)),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn trap(number: libc::c_long, a: [usize; 6]) -> i64 {
    let result: i64;
    // SAFETY: as for `syscall`.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn trap(number: libc::c_long, a: [usize; 6]) -> i64 {
    let result: i64;
    // SAFETY: as for `syscall`.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] as i64 => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "escher-launcher needs its system call instruction for this architecture: see sys/raw.rs"
);
