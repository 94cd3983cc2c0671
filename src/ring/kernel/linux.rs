//! The kernel itself, through the `io-uring` crate.

#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionStatus, EnterFlags, IoUring, Submitter};

use super::{Cqe, Enter};
use crate::ring::fork::ForkMark;

/// The two rings that the kernel shares with us.
pub(in crate::ring) struct Linux {
    ring: ManuallyDrop<IoUring>,
    completions: CompletionStatus,
    mark: ForkMark,
}

impl Linux {
    pub(super) fn new(mut ring: IoUring) -> Self {
        // SAFETY: the status lives in the same struct as the ring and is dropped with it.
        let completions = unsafe { ring.completion().status() };
        Self {
            ring: ManuallyDrop::new(ring),
            completions,
            mark: ForkMark::new(),
        }
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    pub(super) fn fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring's descriptor is open as long as the ring lives, which `self` borrows.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        fd.try_clone_to_owned()
    }

    #[inline]
    pub(super) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    pub(super) fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

    pub(super) fn overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    #[inline]
    pub(super) fn holds_back(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    #[inline]
    pub(super) fn waiting(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// # Safety
    ///
    /// As for [`Queue::push`](crate::ring::queue::Queue::push).
    pub(super) unsafe fn push(&mut self, entries: &[Entry]) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submission().push_multiple(entries) }.is_ok()
    }

    pub(super) fn enter(&mut self, enter: Enter) -> Result<usize, i32> {
        let mut flags = EnterFlags::empty();
        // Who submits nothing enters for completions.
        if enter.min > 0 || enter.submit == 0 || self.overflowed() {
            flags |= EnterFlags::GETEVENTS;
        }
        let (submit, min) = (enter.submit, enter.min);
        let submitter = self.ring.submitter();
        let result = match enter.timeout {
            None => {
                // SAFETY: no argument is passed; the entries in the queue are valid by `push`.
                unsafe { submitter.enter::<libc::sigset_t>(submit, min, flags.bits(), None) }
            }
            Some(timeout) => {
                let limit = Timespec::from(timeout);
                let args = SubmitArgs::new().timespec(&limit);
                let flags = (flags | EnterFlags::EXT_ARG).bits();
                // SAFETY: `args` and the time it points at live until the call returns (D22).
                unsafe { submitter.enter(submit, min, flags, Some(&args)) }
            }
        };
        result.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    pub(super) fn take(&mut self, out: &mut Vec<Cqe>, max: usize) {
        out.extend(self.ring.completion().take(max).map(|cqe| Cqe {
            user_data: cqe.user_data(),
            res: cqe.result(),
            flags: cqe.flags(),
        }));
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        // A child has none of the maps, and something else may live at their addresses (D30).
        if !self.mark.forked() {
            // SAFETY: dropped only here; who owns the memory that operations work on has drained
            // the ring or leaks that memory (D10).
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        }
    }
}
