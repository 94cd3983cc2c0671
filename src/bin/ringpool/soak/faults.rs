//! What a server does to its clients, drawn at random, counted by kind.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use crate::measure::Errors;

/// Something that a server does instead of answering at once and in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The answer comes in many small pieces.
    Slice,
    /// The answer comes late, perhaps later than anybody waits.
    Stall,
    /// A long request is not read for a while.
    Deaf,
    /// A reset instead of the answer.
    ResetBefore,
    /// A reset in the middle of the answer.
    ResetWithin,
    /// The connection is closed in the middle of the answer.
    CloseWithin,
    /// The server ends its direction in the middle of the answer and reads on.
    HalfCloseWithin,
    /// The answer, and bytes that nobody asked for in the same piece.
    Trailing,
    /// The connection is closed while it is idle.
    CloseIdle,
    /// The connection is reset while it is idle.
    ResetIdle,
    /// The server ends its direction while the connection is idle.
    HalfCloseIdle,
    /// Bytes that nobody asked for come while the connection is idle.
    Unsolicited,
    /// The listener is closed, every connection is cut, and the port listens again later.
    Restart,
}

impl Fault {
    pub(super) const NAMES: [&'static str; 13] = [
        "slice",
        "stall",
        "deaf",
        "reset before",
        "reset within",
        "close within",
        "half-close within",
        "trailing",
        "close idle",
        "reset idle",
        "half-close idle",
        "unsolicited",
        "restart",
    ];

    /// What happens to an answer, if anything does: one in four.
    pub(super) fn of_answer(rng: &mut Rng) -> Option<Self> {
        let fault = match rng.u32(..100) {
            0..10 => Self::Slice,
            10..13 => Self::Stall,
            13..15 => Self::ResetBefore,
            15..17 => Self::ResetWithin,
            17..19 => Self::CloseWithin,
            19..21 => Self::HalfCloseWithin,
            21..23 => Self::Trailing,
            _ => return None,
        };
        Some(fault)
    }

    /// What happens to an idle connection, if anything does: one in twelve.
    pub(super) fn of_idle(rng: &mut Rng) -> Option<Self> {
        let fault = match rng.u32(..100) {
            0..2 => Self::CloseIdle,
            2..4 => Self::ResetIdle,
            4..6 => Self::HalfCloseIdle,
            6..8 => Self::Unsolicited,
            _ => return None,
        };
        Some(fault)
    }
}

/// What the servers did and saw, for all threads.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// No more faults: the servers answer.
    calm: AtomicBool,
    /// Servers that listen now.
    listening: AtomicUsize,
    /// Connections that the servers have open.
    open: AtomicU64,
    answered: AtomicU64,
    faults: [AtomicU64; Fault::NAMES.len()],
    wrong: Mutex<Errors>,
}

impl Seen {
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    pub(super) fn calm_down(&self, calm: bool) {
        self.calm.store(calm, Ordering::SeqCst);
    }

    pub(super) fn listening(&self) -> usize {
        self.listening.load(Ordering::SeqCst)
    }

    /// A server listens, until the guard is dropped.
    pub(super) fn listen(&self) -> impl Drop + use<'_> {
        self.listening.fetch_add(1, Ordering::SeqCst);
        Guard(|| {
            self.listening.fetch_sub(1, Ordering::SeqCst);
        })
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }

    /// A connection is open, until the guard is dropped.
    pub(super) fn opened(self: &std::sync::Arc<Self>) -> impl Drop + Send + use<> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let seen = self.clone();
        Guard(move || {
            seen.open.fetch_sub(1, Ordering::SeqCst);
        })
    }

    pub(super) fn answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each fault happened, in the order of [`Fault::NAMES`].
    pub(super) fn faults(&self) -> Vec<u64> {
        let counts = self.faults.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Something that no fault and no client's mistake explains.
    pub(super) fn wrong(&self, text: String) {
        self.lock().add(text);
    }

    pub(super) fn take_wrong(&self) -> Errors {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Errors> {
        // A change is one addition; it cannot be left half done.
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Guard<F: FnMut()>(F);

impl<F: FnMut()> Drop for Guard<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_name_and_its_turn() {
        assert_eq!(Fault::NAMES[Fault::Slice as usize], "slice");
        assert_eq!(Fault::NAMES[Fault::Restart as usize], "restart");
        let mut rng = Rng::with_seed(1);
        let mut seen = vec![0; Fault::NAMES.len()];
        for _ in 0..10_000 {
            let drawn = [Fault::of_answer(&mut rng), Fault::of_idle(&mut rng)];
            for fault in drawn.into_iter().flatten() {
                seen[fault as usize] += 1;
            }
        }
        // The server decides on these two by itself.
        seen[Fault::Deaf as usize] += 1;
        seen[Fault::Restart as usize] += 1;
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn guards_count_what_is_open() {
        let seen = std::sync::Arc::new(Seen::default());
        let (open, listening) = (seen.opened(), seen.listen());
        assert_eq!((seen.open(), seen.listening()), (1, 1));
        drop((open, listening));
        assert_eq!((seen.open(), seen.listening()), (0, 0));
    }
}
