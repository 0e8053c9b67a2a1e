//! An allocator that wipes what is freed.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, except that memory is overwritten before it is freed. The program uses
/// it: a shim has had the environments of many users' commands, and goes on for long.
#[derive(Debug, Clone, Copy)]
pub struct WipingAllocator;

// SAFETY: all memory comes from `System` and goes back to it with the layout with which it came.
// `realloc` is the default, which moves by these functions, so that the old place is wiped as well.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees what `System` demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees what `System` demands.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees that the memory has this layout, and uses it no more.
        // Unlike other writes to memory that is freed next, this one is never optimised away.
        unsafe { libc::explicit_bzero(memory.cast(), layout.size()) };
        // SAFETY: the caller guarantees that the memory came from `alloc` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}
