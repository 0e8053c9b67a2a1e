//! Memory that a child may use beside the shim.

use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect};
use nix::unistd::{SysconfVar, sysconf};

/// The step of its set-up that a child has reached. Written by the child, read by the shim.
#[derive(Debug)]
pub(crate) struct SetupProgress {
    /// Index into [`StartStage::TABLE`](escher_protocol::StartStage::TABLE) of the current step.
    pub(crate) stage: AtomicU32,
    /// The errno of the step that failed; 0 while none has.
    pub(crate) errno: AtomicI32,
    /// The interpreter that is missing, if that is why the program cannot be executed.
    pub(crate) interpreter: SharedPath,
    /// The script that names the interpreter, if that is not the program of the plan.
    pub(crate) script: SharedPath,
}

impl SetupProgress {
    /// Prepares for another child, whose first step is `stage`.
    pub(crate) fn reset(&self, stage: u32) {
        self.interpreter.store(c"");
        self.script.store(c"");
        self.errno.store(0, Ordering::Release);
        self.stage.store(stage, Ordering::Release);
    }
}

/// A short path that a child tells its shim. Like the rest of [`SetupProgress`] it is final once the
/// child has left the shim's memory.
#[derive(Debug)]
pub(crate) struct SharedPath([AtomicU8; SharedPath::MAX_BYTES]);

impl SharedPath {
    /// Longest path, in bytes with its final NUL.
    pub(crate) const MAX_BYTES: usize = 256;

    /// Stores `path`, or none if it is too long.
    pub(crate) fn store(&self, path: &CStr) {
        let path = path.to_bytes();
        let path = if path.len() < Self::MAX_BYTES {
            path
        } else {
            b""
        };
        let zeros = std::iter::repeat(&0);
        for (to, from) in self.0.iter().zip(path.iter().chain(zeros)) {
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// Returns the path, if there is one.
    pub(crate) fn load(&self) -> Option<Vec<u8>> {
        let bytes = self.0.iter().map(|byte| byte.load(Ordering::Relaxed));
        let path: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        (!path.is_empty()).then_some(path)
    }
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

    /// Maps a stack.
    ///
    /// # Errors
    /// Those of mmap(2) and mprotect(2).
    pub(crate) fn allocate() -> io::Result<Self> {
        // mprotect(2) protects whole pages, which may be larger than 4 KiB.
        let guard = page_size();
        let length =
            NonZeroUsize::MIN.saturating_add(Self::BYTES.next_multiple_of(guard) + guard - 1);
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
        unsafe { mprotect(bottom, guard, ProtFlags::PROT_NONE) }?;
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

/// Returns the size of a page: 4, 16 or 64 KiB.
fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    // Every kernel knows it. The largest is safe.
    size.and_then(|size| size.try_into().ok())
        .unwrap_or(64 * 1024)
}

/// Returns the pages of `buffer` to the system; afterwards they read as zeros. A shim's buffer is
/// large for the sake of commands that write much, and should cost no memory between commands.
pub(crate) fn release_pages(buffer: &mut [u8]) {
    let (skipped, length) = whole_pages(buffer.as_ptr().addr(), buffer.len(), page_size());
    let Some(inner) = buffer.get_mut(skipped..) else {
        return;
    };
    if let (Some(start), 1..) = (NonNull::new(inner.as_mut_ptr().cast()), length) {
        // SAFETY: the range is whole pages inside a slice that is borrowed mutably, so no other
        // reference to them exists, and zeros are valid bytes. An error leaves the pages as they
        // are.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Returns the pages of size `page` that are wholly inside of `length` bytes at `address`: how many
/// bytes are before them, and how many they have. (madvise(2) rounds up to whole pages, beyond the
/// end.)
fn whole_pages(address: usize, length: usize, page: usize) -> (usize, usize) {
    let skipped = address.next_multiple_of(page) - address;
    (skipped, length.saturating_sub(skipped) / page * page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_path_is_the_last_one_that_fits() {
        let progress = shared_setup_progress().unwrap();
        let path = &progress.script;
        assert_eq!(path.load(), None);
        let longest = "x".repeat(SharedPath::MAX_BYTES - 1);
        let store = |text: &str| path.store(&std::ffi::CString::new(text).unwrap());
        store(&longest);
        assert_eq!(path.load().as_deref(), Some(longest.as_bytes()));
        store("short");
        assert_eq!(path.load().as_deref(), Some(&b"short"[..]));
        store(&(longest + "x"));
        assert_eq!(path.load(), None);
        store("short");
        progress.reset(3);
        assert_eq!(path.load(), None);
        assert_eq!(progress.stage.load(Ordering::Acquire), 3);
    }

    /// On pages of 16 and 64 KiB up to a page behind the buffer was zeroed with it.
    #[test]
    fn only_pages_that_are_wholly_inside_are_released() {
        const KIB: usize = 1024;
        for (address, length, page, expected) in [
            (8 * KIB, 64 * KIB, 4 * KIB, (0, 64 * KIB)),
            (8 * KIB + 16, 64 * KIB, 4 * KIB, (4 * KIB - 16, 60 * KIB)),
            (20 * KIB, 64 * KIB, 16 * KIB, (12 * KIB, 48 * KIB)),
            (20 * KIB, 64 * KIB, 64 * KIB, (44 * KIB, 0)),
            (64 * KIB, 64 * KIB, 64 * KIB, (0, 64 * KIB)),
            (1, 5, 4 * KIB, (4095, 0)),
        ] {
            assert_eq!(whole_pages(address, length, page), expected);
        }
        let page = page_size();
        let mut bytes = vec![b'x'; 4 * page];
        let end = bytes.as_ptr().addr() + bytes.len() - 8;
        let length = bytes.len();
        release_pages(&mut bytes[8..length - 8]);
        let is_kept = |at: usize| bytes[at] == b'x';
        assert!((0..8).chain(length - 8..length).all(is_kept));
        let last_page = end / page * page - bytes.as_ptr().addr();
        assert!((last_page..length).all(is_kept));
        assert_eq!(bytes[last_page - 1], 0);
    }
}
