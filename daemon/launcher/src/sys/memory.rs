//! Memory that a child may use beside the shim.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect};

/// How far a child has come on its way to the program. Written by the child, read by the shim.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Index into [`StartStage::TABLE`](escher_protocol::StartStage::TABLE) of the step under way.
    pub(crate) stage: AtomicU32,
    /// The errno of the step that failed; 0: none has.
    pub(crate) errno: AtomicI32,
}

/// A [`Progress`] that a child sees whether it shares the shim's memory or has a copy of it. Lives as
/// long as the process.
///
/// # Errors
/// Those of mmap(2).
pub(crate) fn shared_progress() -> io::Result<&'static Progress> {
    let length = NonZeroUsize::MIN.saturating_add(size_of::<Progress>());
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
    let page = unsafe {
        mmap_anonymous(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        )
    }?;
    // SAFETY: the mapping is page-aligned, larger than `Progress`, never unmapped; its zero bytes are
    // valid atomics, and atomics may be shared.
    Ok(unsafe { page.cast::<Progress>().as_ref() })
}

/// A stack for the child between clone(2) and execve(2), with a page below it that faults when touched.
/// Lives as long as the process: one child at a time uses it.
#[derive(Debug)]
pub(crate) struct ChildStack {
    top: NonNull<libc::c_void>,
}

impl ChildStack {
    /// Its size in bytes. The child calls a few small functions, one of them with a path of 4 KiB.
    const BYTES: usize = 64 * 1024;
    const GUARD: usize = 4096;

    /// # Errors
    /// Those of mmap(2) and mprotect(2).
    pub(crate) fn allocate() -> io::Result<Self> {
        let length = NonZeroUsize::MIN.saturating_add(Self::BYTES + Self::GUARD - 1);
        // SAFETY: as in `shared_progress`.
        let bottom = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }?;
        // SAFETY: the range lies in the mapping just made, which nothing else knows of.
        unsafe { mprotect(bottom, Self::GUARD, ProtFlags::PROT_NONE) }?;
        // SAFETY: one past the end of the same mapping.
        let top = unsafe { bottom.byte_add(length.get()) };
        Ok(ChildStack { top })
    }

    /// Where the stack begins, growing down; aligned to a page.
    pub(crate) fn top(&self) -> NonNull<libc::c_void> {
        self.top
    }
}

/// Gives the pages of `buffer` back to the system; it reads as zeros afterwards. Buffers of a shim are
/// large for a command that writes much and should cost nothing once it is over.
pub(crate) fn forget(buffer: &mut [u8]) {
    const PAGE: usize = 4096;
    let skipped = buffer.as_ptr().align_offset(PAGE);
    let Some(inner) = buffer.get_mut(skipped..) else {
        return;
    };
    let length = inner.len() / PAGE * PAGE;
    if let (Some(start), 1..) = (NonNull::new(inner.as_mut_ptr().cast()), length) {
        // SAFETY: whole pages inside a slice that is borrowed mutably: nobody else looks at them, and
        // zeros are valid bytes. An error leaves them as they are, which is right too.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}
