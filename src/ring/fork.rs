//! A ring is shared memory with the kernel. A forked child that touches its parent's ring corrupts
//! it, and asking `getpid` on every call costs more than the call (D30).
//!
//! Promise: in a child, every [`ForkMark`] made before the fork says [`forked`](ForkMark::forked);
//! one made after it does not. Asking is one load. A child made by a raw `clone` is not noticed.

#![allow(unsafe_code)]

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between the first process and this one, as far as we were told.
static DEPTH: AtomicU32 = AtomicU32::new(0);
static REGISTER: Once = Once::new();

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> libc::c_int;
}

extern "C" fn in_child() {
    DEPTH.fetch_add(1, Ordering::Relaxed);
}

/// Remembers which process made it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkMark(u32);

impl ForkMark {
    /// A mark of the calling process.
    pub(crate) fn new() -> Self {
        REGISTER.call_once(|| {
            // SAFETY: `in_child` lives as long as the program and only adds to an atomic, which is
            // allowed between fork and exec. Failure (ENOMEM) leaves the mark blind, not unsound.
            let _ = unsafe { pthread_atfork(None, None, Some(in_child)) };
        });
        Self(DEPTH.load(Ordering::Relaxed))
    }

    /// Whether the caller runs in a child forked after the mark was made.
    #[inline]
    pub(crate) fn forked(self) -> bool {
        DEPTH.load(Ordering::Relaxed) != self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p3_s15_the_child_sees_the_mark_and_the_parent_does_not() {
        let mark = ForkMark::new();
        // SAFETY: the child only loads an atomic and leaves by `_exit`, which is async-signal-safe.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let seen = mark.forked() && !ForkMark::new().forked();
            // SAFETY: ends the child without running the test harness's exit code twice.
            unsafe { libc::_exit(i32::from(!seen)) };
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call; `child` is ours and was not waited for yet.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        assert!(!mark.forked());
    }
}
