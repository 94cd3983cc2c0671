//! The kernel reads and writes the memory of operations behind every checker's back:
//! AddressSanitizer and valgrind do not see it (D39). The memory that submission entries point at
//! is therefore allocated here, where tests can have every freed block made inaccessible: an
//! operation that still uses it then fails with EFAULT instead of corrupting its next owner.
//!
//! Promise: a block's address never changes while it lives (D2). With the guard off this is the
//! ordinary allocator. With it on (tests, per thread), blocks are whole pages and a freed one
//! stays mapped without access rights for ever.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
#[cfg(test)]
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;

#[cfg(test)]
thread_local! {
    static GUARD: Cell<bool> = const { Cell::new(false) };
}

/// From now on, blocks allocated on this thread are guarded (or no more).
#[cfg(test)]
pub(super) fn guard_freed_memory(on: bool) {
    GUARD.set(on);
}

/// Memory with a stable address, not initialised. Its owner knows how large it is.
#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    #[cfg(test)]
    guarded: bool,
}

#[cfg(test)]
const PAGE: usize = 4096;

impl Block {
    /// A block for `layout`, which has a size above zero.
    #[cfg(not(test))]
    fn new(layout: Layout) -> Self {
        let start = Self::allocate(layout);
        Self { start }
    }

    #[cfg(test)]
    fn new(layout: Layout) -> Self {
        let guarded = GUARD.get();
        let layout = if guarded { pages(layout) } else { layout };
        let start = Self::allocate(layout);
        Self { start, guarded }
    }

    fn allocate(layout: Layout) -> NonNull<u8> {
        debug_assert!(layout.size() > 0);
        // SAFETY: the layout has a size above zero: callers allocate non-empty types or buffers.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        start
    }

    fn is_guarded(&self) -> bool {
        #[cfg(test)]
        return self.guarded;
        #[cfg(not(test))]
        false
    }

    /// Frees the block, or takes the rights to it away.
    ///
    /// # Safety
    ///
    /// It was made with this `layout`, and nobody uses it from now on.
    unsafe fn free(&mut self, layout: Layout) {
        #[cfg(test)]
        if self.guarded {
            let start = self.start.as_ptr().cast();
            // SAFETY: the block is whole pages of its own (see `new`) and is never freed, so taking
            // the rights away hits nothing else.
            let _ = unsafe { libc::mprotect(start, pages(layout).size(), libc::PROT_NONE) };
            return;
        }
        // SAFETY: allocated in `new` with this layout, and freed only here, by the caller's promise.
        unsafe { dealloc(self.start.as_ptr(), layout) };
    }
}

/// As many whole pages as `layout` needs.
#[cfg(test)]
fn pages(layout: Layout) -> Layout {
    let size = layout.size().div_ceil(PAGE).max(1) * PAGE;
    Layout::from_size_align(size, PAGE).unwrap_or(layout)
}

/// A value that a submission entry may point at.
#[derive(Debug)]
pub(super) struct OpBox<T: Copy + 'static> {
    block: Block,
    value: PhantomData<T>,
}

impl<T: Copy + 'static> OpBox<T> {
    pub(super) fn new(value: T) -> Self {
        let made = Self {
            block: Block::new(Layout::new::<T>()),
            value: PhantomData,
        };
        made.write(value);
        made
    }

    /// Another value in the same place: no operation points at a box that its table has given away.
    pub(super) fn again(self, value: T) -> Self {
        self.write(value);
        self
    }

    fn write(&self, value: T) {
        // SAFETY: the block is at least as large and as aligned as `T`, and is ours alone: this box is
        // new, or was given by value.
        unsafe { self.block.start.cast::<T>().write(value) };
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.block.is_guarded()
    }
}

impl<T: Copy + 'static> Drop for OpBox<T> {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this layout; the box is gone.
        unsafe { self.block.free(Layout::new::<T>()) };
    }
}

impl<T: Copy + 'static> Deref for OpBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: written in `new` or `again`; the kernel only reads what an `OpBox` holds.
        unsafe { self.block.start.cast::<T>().as_ref() }
    }
}

/// Bytes that a submission entry may point at: filled up to a fixed capacity, never moved.
#[derive(Debug)]
pub(super) struct OpBytes {
    block: Block,
    capacity: u32,
    len: u32,
}

/// The most that an [`OpBytes`] holds.
const MOST: usize = i32::MAX as usize;

impl OpBytes {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, MOST) as u32;
        Self {
            block: Block::new(layout_of(capacity)),
            capacity,
            len: 0,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.block.is_guarded()
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min((self.capacity - self.len) as usize);
        // SAFETY: `len` is within the block.
        let end = unsafe { self.block.start.add(self.len as usize) };
        // SAFETY: the rest of the block from `len` on is ours alone (callers append only to bytes
        // that no operation points at), it does not overlap `bytes`, and it holds `count`.
        unsafe { end.copy_from_nonoverlapping(NonNull::from(bytes).cast(), count) };
        self.len += count as u32;
        count
    }
}

/// How so many bytes lie in memory: each where it likes.
fn layout_of(bytes: u32) -> Layout {
    // Neither can fail: the size is below `isize::MAX` also where that has 32 bits.
    Layout::from_size_align(bytes as usize, 1).unwrap_or(Layout::new::<u8>())
}

impl Drop for OpBytes {
    fn drop(&mut self) {
        // SAFETY: made in `with_capacity` with this layout, as its capacity never changes; the
        // bytes are gone.
        unsafe { self.block.free(layout_of(self.capacity)) };
    }
}

impl Deref for OpBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes were written by `extend`, and the kernel only reads them.
        unsafe { slice::from_raw_parts(self.block.start.as_ptr(), self.len as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_fill_up_to_their_capacity_and_stay_where_they_are() {
        let mut bytes = OpBytes::with_capacity(8);
        let start = bytes.as_ptr();
        assert_eq!(bytes.extend(b"hello"), 5);
        assert_eq!(bytes.extend(b"world"), 3);
        assert_eq!(&*bytes, b"hellowor");
        let moved = bytes;
        assert_eq!(moved.as_ptr(), start);
    }

    #[test]
    fn a_guarded_block_loses_its_rights_when_freed() {
        guard_freed_memory(true);
        let boxed = OpBox::new(7u64);
        let address = &raw const *boxed;
        assert_eq!(*boxed, 7);
        drop(boxed);
        guard_freed_memory(false);
        let pipe = std::io::pipe().unwrap();
        use std::os::fd::AsRawFd;
        // SAFETY: the kernel checks the address itself; nothing is dereferenced here.
        let written = unsafe { libc::write(pipe.1.as_raw_fd(), address.cast(), 8) };
        assert_eq!(written, -1);
        assert_eq!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::EFAULT)
        );
    }
}
