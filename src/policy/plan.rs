//! A plan to move connections takes many events to carry out: permits come and do not, successors
//! are ready late or never, and what was closed for one may serve another core. This is how far the
//! plan of an endpoint is.
//!
//! States: none → so many left → (no permit: one closes ahead → it is gone) → one less left, by a
//! successor here or on another core → none; given up when its aim is lost.

use std::net::SocketAddr;

use crate::time::Tick;

/// What is left to be moved.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Successors that are to be opened.
    pub(super) left: u32,
    /// A connection was closed before its successor is there.
    pub(super) ahead: bool,
    /// It is gone, and its permit free for whoever has waited longest.
    pub(super) has_gone: bool,
    /// Addresses that have too many: the next connection there that comes back closes ahead.
    pub(super) crowded: Vec<SocketAddr>,
    /// No successor before then.
    pub(super) pause: Tick,
    /// No new plan before then.
    pub(super) plan_at: Tick,
    /// The priority that the plan is for: it is void when nothing as good is left.
    pub(super) aim: u16,
    /// The plan is void for an attempt that is slow; if that is ready after all, one moves.
    pub(super) is_late: bool,
    /// When connections at a backup are looked at; zero if there are none.
    pub(super) look_at: Tick,
    /// When it is looked at again how they lie, without an answer; zero if never.
    pub(super) even_at: Tick,
    /// How often that is done.
    pub(super) looks: u32,
}

impl Moves {
    /// Openings that it wants.
    pub(crate) fn wanted(&self, now: Tick) -> u32 {
        u32::from(self.left > 0 && now >= self.pause)
    }

    pub(crate) fn pause_until(&mut self, later: Tick) {
        if self.left > 0 {
            self.pause = later;
        }
    }

    /// When the pause ends; zero if there is none.
    pub(crate) fn pause(&self) -> Tick {
        self.pause
    }

    /// When connections at a backup are looked at; zero if there are none.
    pub(crate) fn look_at(&self) -> Tick {
        self.look_at
    }

    /// When it is looked at again how connections lie, without an answer; zero if never.
    pub(crate) fn even_at(&self) -> Tick {
        self.even_at
    }

    /// It is looked at by then how connections lie.
    pub(super) fn even_by(&mut self, at: Tick) {
        if self.even_at == Tick::ZERO || self.even_at > at {
            self.even_at = at;
        }
    }

    /// Ends a pause that is over at `now`.
    pub(crate) fn resume(&mut self, now: Tick) {
        if self.pause <= now {
            self.pause = Tick::ZERO;
        }
    }

    /// Nothing more is moved until the next answer.
    pub(crate) fn give_up(&mut self) {
        *self = Self {
            plan_at: self.plan_at,
            look_at: self.look_at,
            even_at: self.even_at,
            looks: self.looks,
            ..Self::default()
        };
    }

    /// What closed for the balance is gone: the next successor may have its permit.
    pub(crate) fn has_room(&mut self) {
        self.has_gone = self.ahead;
        self.pause = Tick::ZERO;
    }

    /// There is no permit. If one has gone ahead, its permit is another core's, which opens a
    /// connection where all have fewest: that is its successor.
    pub(crate) fn is_succeeded_elsewhere(&mut self) {
        if self.ahead && self.has_gone {
            self.left = self.left.saturating_sub(1);
            (self.ahead, self.has_gone) = (false, false);
        }
    }

    /// A permit is there: nothing need close ahead.
    pub(crate) fn has_permit(&mut self) {
        self.crowded.clear();
        self.has_gone = false;
    }

    /// Whether some connections close when they come back.
    #[inline]
    pub(crate) fn may_close_on_return(&self) -> bool {
        !self.crowded.is_empty()
    }

    /// What comes back from there stays.
    pub(super) fn is_not_crowded(&mut self, address: SocketAddr) {
        self.crowded.retain(|it| *it != address);
    }
}
