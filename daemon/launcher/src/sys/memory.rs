//! Memory that a child may use beside the shim.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect};

/// The step of its set-up that a child has reached. Written by the child, read by the shim.
#[derive(Debug)]
pub(crate) struct SetupProgress {
    /// Index into [`StartStage::TABLE`](escher_protocol::StartStage::TABLE) of the current step.
    pub(crate) stage: AtomicU32,
    /// The errno of the step that failed; 0 while none has.
    pub(crate) errno: AtomicI32,
}

/// Maps a [`SetupProgress`] that shim and child both see, whether the child shares the shim's
/// memory or has a copy of it. It is never unmapped.
///
/// # Errors
/// Those of mmap(2).
pub(crate) fn shared_setup_progress() -> io::Result<&'static SetupProgress> {
    let length = NonZeroUsize::MIN.saturating_add(size_of::<SetupProgress>());
    // SAFETY: without an address (`None`) the kernel places the new anonymous mapping where it
    // overlaps no other.
    let page = unsafe {
        mmap_anonymous(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        )
    }?;
    // SAFETY: the mapping is page-aligned, at least as large as `SetupProgress`, and never
    // unmapped, so the reference may be 'static; its zero bytes are valid atomics; all access is
    // through the atomics.
    Ok(unsafe { page.cast::<SetupProgress>().as_ref() })
}

/// A stack for a child between clone(2) and execve(2), with a guard page below it that faults when
/// touched. It is never unmapped, and serves one child at a time.
#[derive(Debug)]
pub(crate) struct ChildStack {
    top: NonNull<libc::c_void>,
}

impl ChildStack {
    /// Size of the stack. The child calls a few small functions; the largest uses a path of 4 KiB.
    const BYTES: usize = 64 * 1024;
    const GUARD_BYTES: usize = 4096;

    /// Maps a stack.
    ///
    /// # Errors
    /// Those of mmap(2) and mprotect(2).
    pub(crate) fn allocate() -> io::Result<Self> {
        let length = NonZeroUsize::MIN.saturating_add(Self::BYTES + Self::GUARD_BYTES - 1);
        // SAFETY: without an address (`None`) the kernel places the new anonymous mapping where it
        // overlaps no other.
        let bottom = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }?;
        // SAFETY: the range is the first page of the mapping just made, to which no reference
        // exists.
        unsafe { mprotect(bottom, Self::GUARD_BYTES, ProtFlags::PROT_NONE) }?;
        // SAFETY: `length` bytes were mapped from `bottom`, so the result is one past the end of
        // the same mapping.
        let top = unsafe { bottom.byte_add(length.get()) };
        Ok(ChildStack { top })
    }

    /// Returns the end of the stack, from which it grows down; page-aligned.
    pub(crate) fn top(&self) -> NonNull<libc::c_void> {
        self.top
    }
}

/// Returns the pages of `buffer` to the system; afterwards they read as zeros. A shim's buffer is
/// large for the sake of commands that write much, and should cost no memory between commands.
pub(crate) fn release_pages(buffer: &mut [u8]) {
    const PAGE: usize = 4096;
    let skipped = buffer.as_ptr().align_offset(PAGE);
    let Some(inner) = buffer.get_mut(skipped..) else {
        return;
    };
    let length = inner.len() / PAGE * PAGE;
    if let (Some(start), 1..) = (NonNull::new(inner.as_mut_ptr().cast()), length) {
        // SAFETY: the range is whole pages inside a slice that is borrowed mutably, so no other
        // reference to them exists, and zeros are valid bytes. An error leaves the pages as they
        // are.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}
