//! A receive that is armed for hours must not own a buffer for hours. The kernel picks one from
//! this pool when bytes come, and the reader of the bytes gives it back.
//!
//! Promise: each completion with a buffer leases exactly that one, and each lease gives it back
//! once (D16): leased and available together are always the size of the pool. A lease shows only
//! the bytes that the kernel wrote for it. The memory outlives the ring as long as one lease does,
//! and for ever if the ring could not be drained.
//!
//! States of a buffer: with the kernel, leased.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::ring::fork::ForkMark;
use crate::ring::segments::Copied;
use crate::ring::signal::Signal;

/// The only group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

/// Anonymous memory, given back when dropped.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize, dontfork: bool) -> io::Result<Self> {
        // SAFETY: a fresh private mapping that aliases nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        };
        if dontfork {
            // SAFETY: the range is the mapping just made. It is advice: failure changes nothing.
            let _ = unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTFORK) };
        }
        // SAFETY: as above. Huge pages would make all of it resident by the first short answers.
        let _ = unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length and unmapped only here; the pool drops it only
        // when no lease and no operation can reach it (see `Pool::drop`).
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The buffers of one ring.
pub(super) struct Pool {
    entries: Option<Mapping>,
    memory: Option<Mapping>,
    count: u16,
    size: u32,
    tail: Cell<u16>,
    available: Cell<u16>,
    /// A connection waits for a buffer: the driver must hear of the next one.
    pub(super) starving: Cell<bool>,
    /// The kernel may still write: the memory is never given back (D10).
    leaked: Cell<bool>,
    /// The kernel has forgotten the pool: nothing is published any more.
    closed: Cell<bool>,
    signal: Rc<Signal>,
    mark: ForkMark,
}

impl Pool {
    /// `count` buffers (a power of two) of `size` bytes. The kernel must be told of them before
    /// the first receive.
    pub(super) fn new(count: u16, size: u32, signal: Rc<Signal>) -> io::Result<Rc<Self>> {
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>(), true)?;
        let memory = Mapping::new(usize::from(count) * size as usize, false)?;
        let pool = Self {
            entries: Some(entries),
            memory: Some(memory),
            count,
            size,
            tail: Cell::new(0),
            available: Cell::new(0),
            starving: Cell::new(false),
            leaked: Cell::new(false),
            closed: Cell::new(false),
            signal,
            mark: ForkMark::new(),
        };
        (0..count).for_each(|id| pool.publish(id));
        Ok(Rc::new(pool))
    }

    /// Tells the kernel of the buffers.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let Some(entries) = &self.entries else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let start = entries.start.as_ptr() as u64;
        // SAFETY: the mapping is page-aligned and holds `count` entries. It lives in the pool, and
        // is unmapped only after `close` or with the ring gone; the kernel pins its pages itself.
        unsafe { submitter.register_buf_ring_with_flags(start, self.count, GROUP, 0) }
    }

    /// Where the entries are that the kernel reads.
    #[cfg(feature = "sim")]
    pub(super) fn entries(&self) -> Option<NonNull<BufRingEntry>> {
        Some(self.entries.as_ref()?.start.cast())
    }

    /// How many buffers the kernel has.
    pub(super) fn available(&self) -> u16 {
        self.available.get()
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Takes the buffer that a completion named; `len` bytes of it are the kernel's gift.
    /// `None` if the pool has no such buffer.
    pub(super) fn lease(self: &Rc<Self>, id: u16, len: u32) -> Option<Lease> {
        if id >= self.count || self.available.get() == 0 {
            return None;
        }
        self.available.set(self.available.get() - 1);
        Some(Lease {
            pool: Rc::clone(self),
            id,
            len: len.min(self.size),
        })
    }

    fn buffer(&self, id: u16) -> Option<NonNull<u8>> {
        let memory = self.memory.as_ref()?;
        // SAFETY: `id < count` (checked by `lease`, and `publish` is called for those only), so the
        // offset stays inside of the mapping.
        Some(unsafe { memory.start.add(usize::from(id) * self.size as usize) })
    }

    /// Hands buffer `id` to the kernel.
    fn publish(&self, id: u16) {
        let (Some(entries), Some(buffer)) = (self.entries.as_ref(), self.buffer(id)) else {
            return;
        };
        let base = entries.start.cast::<BufRingEntry>();
        let tail = self.tail.get();
        let at = usize::from(tail & (self.count - 1));
        // SAFETY: `at < count`, so the entry lies inside of the mapping.
        let mut entry = unsafe { base.add(at) };
        // SAFETY: the mapping lives as long as the pool. The kernel never writes to it, and reads an
        // entry only after the tail has passed it, which happens below (D34); entry 0 shares its
        // last two bytes with the tail, and the setters leave those alone.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(buffer.as_ptr() as u64);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        self.available.set(self.available.get() + 1);
        // SAFETY: `base` is the first entry of a live ring of entries.
        let shared = unsafe { BufRingEntry::tail(base.as_ptr()) };
        // SAFETY: aligned and valid as long as the mapping; the kernel only reads it, and no
        // reference to the entry is alive any more.
        let shared = unsafe { AtomicU16::from_ptr(shared.cast_mut()) };
        shared.store(self.tail.get(), Ordering::Release);
    }

    fn give_back(&self, id: u16) {
        // The child of a fork has no map of the entries (D30).
        if self.mark.forked() {
            return;
        }
        if self.closed.get() {
            self.available.set(self.available.get() + 1);
            return;
        }
        self.publish(id);
        if self.starving.get() {
            self.signal.wake();
        }
    }

    /// The ring is drained and the kernel has given the buffers back.
    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    /// The ring ends with operations in flight: they may write into the memory at any time, so it
    /// stays mapped for ever.
    pub(super) fn leak(&self) {
        self.leaked.set(true);
        self.closed.set(true);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // No lease is left, since each holds the pool. If the ring is drained, no operation is
        // left either; else `leak` was called, and the kernel may still write (D10).
        // A child of a fork has no map of the entries, and must not unmap what is there now.
        if self.leaked.get() || self.mark.forked() {
            std::mem::forget(self.memory.take());
            std::mem::forget(self.entries.take());
        }
    }
}

/// One buffer with bytes that the kernel wrote. Dropping it gives the buffer back.
pub(super) struct Lease {
    pool: Rc<Pool>,
    id: u16,
    len: u32,
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(buffer) = self.pool.buffer(self.id) else {
            return &[];
        };
        // SAFETY: a leased buffer is not in the kernel's ring, so nobody writes to it until this
        // lease is dropped (D16, D34). `len` bytes were written: the completion said so, and it is
        // clamped to the size. The pool, and so the memory, lives as long as the lease.
        unsafe { slice::from_raw_parts(buffer.as_ptr(), self.len as usize) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(self.id);
    }
}

enum Storage {
    Lent(Lease),
    Copied(Copied),
}

/// A piece of what the peer sent: the kernel's own buffer, or a segment that the bytes were copied
/// into, given back on drop. Never empty when the ring gives it.
pub(crate) struct Chunk {
    storage: Storage,
    start: usize,
}

impl Chunk {
    pub(super) fn lent(lease: Lease) -> Self {
        Self {
            storage: Storage::Lent(lease),
            start: 0,
        }
    }

    pub(super) fn copied(copied: Copied) -> Self {
        Self {
            storage: Storage::Copied(copied),
            start: 0,
        }
    }

    /// Drops the first `count` bytes, or all if there are fewer.
    pub(crate) fn advance(&mut self, count: usize) {
        self.start += count.min(self.len());
    }

    /// Copies the first bytes to `buf`, as many as fit.
    #[inline]
    pub(super) fn copy_to(&self, buf: &mut [u8]) -> usize {
        let bytes: &[u8] = self;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        count
    }

    /// Whether the piece holds one of the kernel's buffers.
    pub(super) fn is_lent(&self) -> bool {
        matches!(self.storage, Storage::Lent(_))
    }

    /// Appends as much of `bytes` as fits, if the piece was copied, and says how much that was.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        match &mut self.storage {
            Storage::Copied(copied) => copied.append(bytes),
            Storage::Lent(_) => 0,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.storage {
            Storage::Lent(lease) => &lease[self.start..],
            Storage::Copied(bytes) => &bytes[self.start..],
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_lent() { "lent" } else { "copied" };
        write!(f, "Chunk({} bytes, {kind})", self.len())
    }
}
