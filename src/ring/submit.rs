//! What goes to the kernel, and when there is something: receives and sends begin only when a batch
//! does, so that each costs a place in a submission that is made anyway.
//!
//! Promise: what is queued goes with the next submission, in the order of its class, or stays queued;
//! nothing is lost where the kernel takes nothing.

use super::Ring;
use super::queue::Flush;
use crate::error::{Error, ErrorKind, Result};

impl Ring {
    /// What the next submission would carry: more while tasks add to it, nothing once the ring is dead.
    pub(crate) fn queued(&mut self) -> usize {
        if self.queue.dead().is_some() {
            return 0;
        }
        let cancels = self.count_full();
        self.queue.queued() + self.dirty.len() + cancels + usize::from(self.starved_room() > 0)
    }

    /// Whether receives stay unarmed although there are buffers, because those armed since the last
    /// reap may have taken them: only another turn can tell, and no event need come to bring it.
    pub(crate) fn wants_turn(&self) -> bool {
        let usable = !self.ended && !self.queue.forked() && self.queue.dead().is_none();
        usable && self.pool.starving.get() && self.pool.available() > 0
    }

    /// Whether the next submission stops receives of connections that hold their bound: not if their
    /// readers run before it. As of the last look at what is [queued](Self::queued).
    pub(crate) fn stops(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether [`submit`](Self::submit) has something to do.
    #[cfg(test)]
    pub(crate) fn needs_submit(&mut self) -> bool {
        self.queued() > 0
    }

    /// Starts what is due and hands everything queued to the kernel. If the kernel wants its
    /// completions read first, `needs_submit` stays true: reap, then try again.
    ///
    /// # Errors
    ///
    /// The ring is dead; `Event::Fatal` says the same.
    pub(crate) fn submit(&mut self) -> Result<()> {
        if self.queue.forked() {
            return Err(Error::new(
                ErrorKind::NotOnShard,
                "the ring belongs to the process that forked this one",
            ));
        }
        self.bound_full();
        self.rearm_starved();
        self.start_sends();
        match self.queue.flush() {
            Flush::Done | Flush::Later => Ok(()),
            Flush::Dead(errno) => Err(Self::dead(errno)),
        }
    }

    pub(super) fn dead(errno: i32) -> Error {
        Error::from_errno(ErrorKind::Io, errno).context("io_uring_enter refused: the ring is dead")
    }
}
