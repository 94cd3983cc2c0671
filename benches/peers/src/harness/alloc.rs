//! Counts what a contender allocates: noise hides an allocation in a time, not in a count.
#![allow(unsafe_code)] // an allocator is

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

struct Counting;

/// Each on a line of its own would cost less between threads, but it would still be the same for
/// all: whoever does not allocate while it is measured does not pay.
static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

fn took(bytes: usize) {
    CALLS.fetch_add(1, Relaxed);
    LIVE.fetch_add(bytes as i64, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are atomics that
// allocate nothing.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    ///
    /// As [`GlobalAlloc::alloc`].
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's duty is passed on.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    ///
    /// As [`GlobalAlloc::alloc_zeroed`].
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's duty is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    /// # Safety
    ///
    /// As [`GlobalAlloc::dealloc`].
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's duty is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    /// # Safety
    ///
    /// As [`GlobalAlloc::realloc`].
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's duty is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the process so far.
pub fn calls() -> u64 {
    CALLS.load(Relaxed)
}

/// Bytes that the process holds now.
pub fn live() -> i64 {
    LIVE.load(Relaxed)
}
