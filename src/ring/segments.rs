//! Bytes are copied on their way to the kernel, and on their way from it while its own buffers are
//! few. Many connections that move in step need as many segments for that at once, for a moment, and
//! again a moment later: asking the allocator for each would cost more than the copy.
//!
//! Promise: a segment is somebody's or kept, never both; what is kept has no bytes that anybody can
//! read (I3). So many empty ones are kept as the connections that are open can need at once, if their
//! messages are small, and a fixed number of the larger ones; the rest goes back to the allocator.
//!
//! Sizes: what is short begins in a small segment, and moves to a normal one when more comes before
//! anybody has it, so that it still leaves in one piece.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::ops::Deref;
use std::rc::Rc;

use crate::ring::memory::OpBytes;

/// The size of segments for short messages.
const SMALL: usize = 512;
/// The size of segments that several messages fit into.
const NORMAL: usize = 4096;
/// The largest segment; more bytes than fit into it are cut.
const LARGEST: usize = 64 * 1024;
/// How many small ones are kept for each open connection: one on its way out, one that came.
const FOR_EACH: usize = 2;
/// How many small ones are kept for few connections too.
const KEPT_SMALL: usize = 256;
/// How many normal ones are kept.
const KEPT_NORMAL: usize = 256;
/// How many of those that are larger.
const KEPT_LARGE: usize = 32;

/// Empty segments, to be used again.
#[derive(Debug, Default)]
pub(super) struct Segments {
    kept: RefCell<Kept>,
    /// Connections that may need some.
    open: Cell<usize>,
}

#[derive(Debug, Default)]
struct Kept {
    small: Vec<OpBytes>,
    normal: Vec<OpBytes>,
    large: Vec<OpBytes>,
}

impl Segments {
    /// One connection more may need segments.
    pub(super) fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// One connection fewer.
    pub(super) fn closed(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        let most = self.most_small();
        self.kept.borrow_mut().small.truncate(most);
    }

    fn most_small(&self) -> usize {
        (FOR_EACH * self.open.get()).max(KEPT_SMALL)
    }

    /// An empty segment for `len` bytes, or for the first of them if they are more than fit into
    /// one.
    pub(super) fn take(&self, len: usize) -> OpBytes {
        let len = match len <= SMALL {
            true => SMALL,
            false => len.clamp(NORMAL, LARGEST).next_power_of_two(),
        };
        let mut kept = self.kept.borrow_mut();
        let found = match len {
            SMALL => kept.small.pop(),
            NORMAL => kept.normal.pop(),
            _ => {
                let fits = |segment: &OpBytes| segment.capacity() >= len;
                let at = kept.large.iter().position(fits);
                at.map(|at| kept.large.swap_remove(at))
            }
        };
        found.unwrap_or_else(|| OpBytes::with_capacity(len))
    }

    /// Keeps a segment that nothing points at any more, or frees it.
    pub(super) fn put(&self, mut segment: OpBytes) {
        // A guarded segment is freed, so that its memory shows late use.
        if segment.is_guarded() {
            return;
        }
        segment.clear();
        let mut kept = self.kept.borrow_mut();
        let (kept, most) = match segment.capacity() {
            SMALL => (&mut kept.small, self.most_small()),
            NORMAL => (&mut kept.normal, KEPT_NORMAL),
            _ => (&mut kept.large, KEPT_LARGE),
        };
        if kept.len() < most {
            kept.push(segment);
        } else if let Some(smaller) = kept
            .iter_mut()
            .find(|other| other.capacity() < segment.capacity())
        {
            *smaller = segment;
        }
    }

    /// Appends as much of `bytes` as fits to `last`, which nobody else has, and says how much that
    /// was. A small segment that is too short for all of them becomes a larger one first.
    pub(super) fn append(&self, last: &mut OpBytes, bytes: &[u8]) -> usize {
        let all = last.len() + bytes.len();
        if last.capacity() == SMALL && all > SMALL {
            let mut larger = self.take(all);
            larger.extend(last);
            self.put(mem::replace(last, larger));
        }
        last.extend(bytes)
    }

    /// How many of each size are kept.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 3] {
        let kept = self.kept.borrow();
        [kept.small.len(), kept.normal.len(), kept.large.len()]
    }

    /// Where the large ones are.
    #[cfg(test)]
    pub(super) fn large(&self) -> Vec<*const u8> {
        let kept = self.kept.borrow();
        kept.large.iter().map(|segment| segment.as_ptr()).collect()
    }
}

/// Bytes in a segment that goes back to where it came from when they are dropped.
pub(super) struct Copied {
    /// Until it is dropped.
    segment: Option<OpBytes>,
    home: Rc<Segments>,
}

impl Copied {
    /// The first of `bytes`, and how many those are.
    pub(super) fn new(home: &Rc<Segments>, bytes: &[u8]) -> (Self, usize) {
        let mut segment = home.take(bytes.len());
        let count = segment.extend(bytes);
        let copied = Self {
            segment: Some(segment),
            home: Rc::clone(home),
        };
        (copied, count)
    }

    /// Appends as much of `bytes` as fits.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let last = self.segment.as_mut();
        last.map_or(0, |last| self.home.append(last, bytes))
    }
}

impl Deref for Copied {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.segment.as_deref().unwrap_or_default()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.home.put(segment);
        }
    }
}

impl fmt::Debug for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copied({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give_back(segments: &Segments, taken: Vec<OpBytes>) {
        taken.into_iter().for_each(|it| segments.put(it));
    }

    #[test]
    fn r20_as_many_are_kept_as_the_open_connections_can_need_and_no_more() {
        let segments = Segments::default();
        (0..200).for_each(|_| segments.opened());
        for len in [64, 2000, 30_000] {
            let all = (0..1000).map(|_| segments.take(len)).collect();
            give_back(&segments, all);
        }
        assert_eq!(segments.counts(), [2 * 200, KEPT_NORMAL, KEPT_LARGE]);
        (0..50).for_each(|_| segments.closed());
        assert_eq!(segments.counts()[0], 2 * 150);
        (0..150).for_each(|_| segments.closed());
        assert_eq!(segments.counts(), [KEPT_SMALL, KEPT_NORMAL, KEPT_LARGE]);
    }

    #[test]
    fn what_outgrows_a_small_segment_moves_to_one_that_holds_it_all() {
        let segments = Segments::default();
        let mut last = segments.take(64);
        let (first, second) = ([1; 500], [2; 3000]);
        assert_eq!(segments.append(&mut last, &first), 500);
        assert_eq!(last.capacity(), SMALL);
        assert_eq!(segments.append(&mut last, &second), 3000);
        assert_eq!(last.capacity(), NORMAL);
        assert_eq!(*last, *[&first[..], &second].concat());
        // A normal one is filled, and another follows.
        assert_eq!(segments.append(&mut last, &second), 596);
        assert_eq!(segments.counts(), [1, 0, 0]);
        segments.put(last);
        assert_eq!(segments.counts(), [1, 1, 0]);
    }

    #[test]
    fn copied_bytes_give_their_segment_back_and_its_next_user_sees_none_of_them() {
        let home = Rc::new(Segments::default());
        let (copied, count) = Copied::new(&home, b"secret");
        assert_eq!((&*copied, count), (&b"secret"[..], 6));
        assert_eq!(format!("{copied:?}"), "Copied(6 bytes)");
        let start = copied.as_ptr();
        drop(copied);
        assert_eq!(home.counts(), [1, 0, 0]);
        let (copied, count) = Copied::new(&home, b"abc");
        assert_eq!((&*copied, count), (&b"abc"[..], 3));
        assert_eq!(copied.as_ptr(), start);
        let (all, count) = Copied::new(&home, &[7; 2 * LARGEST]);
        assert_eq!((all.len(), count), (LARGEST, LARGEST));
    }
}
