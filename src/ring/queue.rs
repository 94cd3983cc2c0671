//! The submission queue is small and fixed, a system call is dear, and `io_uring_enter` has a dozen
//! ways to say "not now". [`Queue`] is the one place that knows them.
//!
//! Promise: an entry that was pushed reaches the kernel, in order, whatever `enter` answers (D12,
//! D19); cancels and closes go ahead of new work (D4); a chain is never split over two submissions
//! (D20); completions are never lost silently (D17); a dead ring is reported, once, and nothing is
//! freed.
//!
//! States: alive, dead.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::{self, ThreadId};
use std::time::Duration;

use io_uring::Submitter;
use io_uring::squeue::{Entry, EntryMarker};

use crate::ring::address::Door;
use crate::ring::events::RingStats;
use crate::ring::fork::ForkMark;
use crate::ring::kernel::{Cqe, Enter, Kernel};
use crate::time::Tick;

/// What goes first when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Cancels and closes: they make room.
    Control,
    /// Everything else.
    Work,
}

/// How a submission went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// Everything is with the kernel.
    Done,
    /// The kernel wants completions to be read first, or time.
    Later,
    /// The ring is dead, with this error number.
    Dead(i32),
}

/// Answers an enter in the kernel's place: `Some(errno)` fails it.
pub(crate) type Fault = Box<dyn FnMut() -> Option<i32>>;

/// How often one flush enters again before it leaves the rest to the next turn.
const MAX_ENTERS: usize = 64;

type Batch = Box<[Entry]>;

/// The kernel's two rings, and what did not fit.
pub(super) struct Queue {
    kernel: Kernel,
    control: VecDeque<Batch>,
    work: VecDeque<Batch>,
    backlog: usize,
    dead: Option<i32>,
    /// The kernel keeps completions aside and could not be asked for them yet.
    overflowed: bool,
    /// The kernel took nothing when last asked: a push does not ask again before a submission does,
    /// or completions were read (D19).
    later: bool,
    /// How often an enter left nothing queued.
    emptied: u64,
    fault: Option<Fault>,
    mark: ForkMark,
    thread: ThreadId,
    pub(super) stats: RingStats,
}

impl Queue {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            control: VecDeque::new(),
            work: VecDeque::new(),
            backlog: 0,
            dead: None,
            overflowed: false,
            later: false,
            emptied: 0,
            fault: None,
            mark: ForkMark::new(),
            thread: thread::current().id(),
            stats: RingStats::default(),
        }
    }

    /// A descriptor of the ring of its own, for watching.
    pub(super) fn fd(&self) -> io::Result<OwnedFd> {
        self.kernel.fd()
    }

    /// What other rings name this one by.
    pub(super) fn door(&self) -> io::Result<Door> {
        self.kernel.door()
    }

    /// Closes the ring: the kernel ends what is in flight, in its own time, and closes every
    /// descriptor in the table. What operations point at must have been leaked (D10).
    pub(super) fn close(&mut self) {
        self.dead.get_or_insert(libc::ENXIO);
        self.kernel = Kernel::Closed;
    }

    /// The kernel's own way to register; nothing if the kernel is played.
    pub(super) fn submitter(&self) -> Option<Submitter<'_>> {
        self.kernel.submitter()
    }

    /// Takes the receive buffers back from the kernel; `false` if it did not give them.
    pub(super) fn unregister_buffers(&mut self, group: u16) -> bool {
        self.kernel.unregister_buffers(group)
    }

    /// The moment now, as the kernel counts it.
    pub(super) fn now(&self) -> Tick {
        self.kernel.now()
    }

    /// Lets `time` pass on this thread.
    pub(super) fn pause(&mut self, time: Duration) {
        self.kernel.pause(time);
    }

    #[inline]
    pub(super) fn forked(&self) -> bool {
        self.mark.forked()
    }

    #[inline]
    pub(super) fn dead(&self) -> Option<i32> {
        self.dead
    }

    #[cfg(test)]
    pub(super) fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Whether completions can be read: two loads.
    #[inline]
    pub(super) fn has_completions(&self) -> bool {
        !self.mark.forked() && (self.kernel.has_completions() || self.overflowed)
    }

    /// Whether something has come that the kernel posts only when this thread enters it: a load or
    /// two. Not known of what comes while another ring of the thread has such.
    #[inline]
    pub(super) fn holds_back(&mut self) -> bool {
        !self.mark.forked() && self.dead.is_none() && self.kernel.holds_back()
    }

    /// Has the kernel post what it holds back: one system call, without waiting.
    pub(super) fn fetch(&mut self) {
        match self.enter(0, 0, None) {
            Ok(_) | Err(libc::EINTR | libc::ETIME) => {}
            Err(errno) => drop(self.refused(errno)),
        }
    }

    /// Whether the ring works in this process, and no completion can be read.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        let works = !self.mark.forked() && self.dead.is_none();
        works && !self.kernel.has_completions() && !self.overflowed
    }

    /// How many entries wait for the next submission.
    pub(super) fn queued(&mut self) -> usize {
        if self.mark.forked() {
            return 0;
        }
        self.kernel.waiting() + self.backlog
    }

    /// Stands for all that was queued until now, in [`has_taken`](Self::has_taken).
    #[inline]
    pub(super) fn queued_until_now(&self) -> u64 {
        self.emptied
    }

    /// Whether the kernel has had everything that was queued then.
    pub(super) fn has_taken(&mut self, until: u64) -> bool {
        self.emptied > until || self.queued() == 0
    }

    /// Stands for all completions until now, read or not, in [`has_read`](Self::has_read); `None` while
    /// the kernel keeps some aside.
    pub(super) fn come_until_now(&mut self) -> Option<u64> {
        if self.mark.forked() {
            return Some(self.stats.cqes);
        }
        let is_all = !self.overflowed && !self.kernel.overflowed();
        is_all.then(|| self.stats.cqes + self.kernel.completions() as u64)
    }

    /// Whether everything that had come then was read; a forked child never reads, nor waits for it.
    pub(super) fn has_read(&self, until: u64) -> bool {
        self.stats.cqes >= until || self.mark.forked()
    }

    /// Whether the kernel took nothing when last asked.
    pub(super) fn is_refused(&self) -> bool {
        self.later
    }

    /// Queues `entries`, linked to each other or single, for one submission.
    ///
    /// # Safety
    ///
    /// What the entries point at must be in the operation table, and stay there until the final
    /// completion of each (rules 1 to 4 of [`op`](super::op), D1).
    pub(super) unsafe fn push(&mut self, entries: &[Entry], class: Class) {
        debug_assert_eq!(
            self.thread,
            thread::current().id(),
            "one thread per ring (D28)"
        );
        if self.mark.forked() || self.dead.is_some() {
            return;
        }
        for _ in 0..2 {
            let ahead = match class {
                Class::Control => self.control.is_empty(),
                Class::Work => self.backlog == 0,
            };
            // SAFETY: the caller's promise.
            if ahead && unsafe { self.kernel.push(entries) } {
                return;
            }
            if self.later || self.flush() != Flush::Done {
                break;
            }
        }
        self.backlog += entries.len();
        match class {
            Class::Control => self.control.push_back(entries.into()),
            Class::Work => self.work.push_back(entries.into()),
        }
    }

    /// Takes back what is queued for slot `index` and was not pushed yet (D5): the `user_data` of
    /// each entry, which the kernel will never see.
    pub(super) fn forget(&mut self, index: u32) -> Vec<u64> {
        if self.work.is_empty() {
            return Vec::new();
        }
        let mut forgotten = Vec::new();
        self.work.retain(|batch| {
            let ours = batch
                .first()
                .is_some_and(|entry| entry.get_user_data() as u32 == index);
            if ours {
                forgotten.extend(batch.iter().map(EntryMarker::get_user_data));
            }
            !ours
        });
        self.backlog -= forgotten.len();
        forgotten
    }

    /// Takes back all work that was not pushed yet, as [`forget`](Self::forget) does.
    pub(super) fn forget_work(&mut self) -> Vec<u64> {
        let batches = self.work.drain(..);
        let forgotten: Vec<u64> = batches
            .flat_map(|batch| batch.into_iter())
            .map(|entry| entry.get_user_data())
            .collect();
        self.backlog -= forgotten.len();
        forgotten
    }

    /// Moves whole batches from the backlog into the queue, control first.
    fn refill(&mut self) {
        while self.backlog > 0 {
            let from = if self.control.is_empty() {
                &mut self.work
            } else {
                &mut self.control
            };
            let Some(batch) = from.front() else { return };
            // SAFETY: promised by who called `push` with these entries.
            if !unsafe { self.kernel.push(batch) } {
                return;
            }
            self.backlog -= batch.len();
            from.pop_front();
        }
    }

    /// Submits everything: no system call if there is nothing, one unless the backlog is longer
    /// than the queue.
    pub(super) fn flush(&mut self) -> Flush {
        if let Some(errno) = self.dead {
            return Flush::Dead(errno);
        }
        if self.mark.forked() {
            return Flush::Later;
        }
        self.later = false;
        for _ in 0..MAX_ENTERS {
            self.refill();
            let len = self.kernel.waiting();
            if len == 0 {
                return Flush::Done;
            }
            match self.enter(len as u32, 0, None) {
                Ok(0) => break,
                Ok(_) | Err(libc::EINTR | libc::ETIME) => {}
                Err(errno) => return self.refused(errno),
            }
        }
        self.later = true;
        Flush::Later
    }

    /// Submits everything and waits until `min` completions can be read or `timeout` is over.
    pub(super) fn wait(&mut self, min: u32, timeout: Duration) -> Flush {
        if let Some(errno) = self.dead {
            return Flush::Dead(errno);
        }
        if self.mark.forked() {
            return Flush::Later;
        }
        self.later = false;
        self.refill();
        let len = self.kernel.waiting();
        match self.enter(len as u32, min, Some(timeout)) {
            Ok(_) | Err(libc::ETIME) => Flush::Done,
            Err(libc::EINTR) => Flush::Later,
            Err(errno) => self.refused(errno),
        }
    }

    /// Sorts the answers of `enter` into "later" and "never" (D21).
    fn refused(&mut self, errno: i32) -> Flush {
        match errno {
            libc::EBUSY | libc::EAGAIN | libc::ENOMEM => {
                self.later = true;
                Flush::Later
            }
            errno => {
                self.dead = Some(errno);
                Flush::Dead(errno)
            }
        }
    }

    fn enter(&mut self, submit: u32, min: u32, timeout: Option<Duration>) -> Result<usize, i32> {
        self.stats.enters += 1;
        if let Some(fault) = &mut self.fault
            && let Some(errno) = fault()
        {
            return Err(errno);
        }
        let enter = Enter {
            submit,
            min,
            timeout,
        };
        let taken = self.kernel.enter(enter)?;
        self.stats.sqes += taken as u64;
        if self.backlog == 0 && self.kernel.waiting() == 0 {
            self.emptied += 1;
        }
        Ok(taken)
    }

    /// Copies up to `max` completions to `out` and frees their places. If the kernel keeps more
    /// aside for want of room, fetches those into the queue (D17).
    pub(super) fn reap(&mut self, out: &mut Vec<Cqe>, max: usize) {
        if self.mark.forked() {
            return;
        }
        self.kernel.take(out, max);
        self.stats.cqes += out.len() as u64;
        self.later &= out.is_empty();
        self.overflowed = false;
        if self.kernel.overflowed() && self.dead.is_none() {
            self.stats.overflows += 1;
            match self.enter(0, 0, None) {
                Ok(_) => {}
                Err(libc::EINTR | libc::ETIME) => self.overflowed = true,
                Err(errno) => self.overflowed = self.refused(errno) == Flush::Later,
            }
        }
    }
}

impl super::Ring {
    /// Whether something has come that the kernel posts only when it is entered, as it does where a
    /// thread runs on: a load or two.
    #[inline]
    pub(crate) fn holds_back(&mut self) -> bool {
        self.queue.holds_back()
    }

    /// Whether there may be something to [`poll`](Self::poll_event): most often there is not.
    #[inline]
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty() || (self.queue.dead().is_some() && !self.fatal_told)
    }

    /// Has the kernel post what it holds back, for [`reap`](Self::reap): one system call.
    #[inline(never)]
    pub(crate) fn fetch(&mut self) {
        self.queue.fetch();
    }
}
