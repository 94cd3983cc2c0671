//! One connection as the policy sees it.
//!
//! States: Dialing → Initialising → Ready ⇄ Checking → Closing → gone. A Ready connection is idle
//! (no uses) or in use by up to `capacity` users; one that is condemned takes no further use and
//! closes when its last use ends; one whose receive has stopped is Checking before it is idle. Every stage but Dialing, which may also end in a failure that
//! leaves nothing, leads to Closing. Securing (TLS) will stand between Dialing and Initialising.
//!
//! One that is given to another core is Leaving: → Closing (taken there), or Checking or Closing
//! (returned). There its slot was Expected: → Checking (it came), or Declined → gone.

use std::net::{Ipv4Addr, SocketAddr};

use super::counts::Counts;
use super::event::{CloseReason, EndpointKey};
use super::flight::Spot;
use super::list::Links;
use crate::error::Error;
use crate::time::Tick;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The transport connects.
    Dialing,
    /// The protocol's state is made.
    Initialising,
    /// Idle or in use.
    Ready,
    /// The protocol is asked whether the connection is healthy.
    Checking,
    /// `Close` was asked; `Closed` has not come.
    Closing(CloseReason),
    /// `Give` was asked: it is on its way to another core, and this core's until that has it.
    Leaving,
    /// No connection yet: a slot into which another core may put one.
    Expected,
    /// The same when none is wanted any more: `Unexpect` was asked, `Closed` has not come.
    Declined,
    /// The same while another core sends to it: only that one knows when it will be free.
    Claimed,
}

/// What a connection that is Checking is looked at for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Its health, which the protocol knows.
    #[default]
    None,
    /// What came while nobody watched. Nothing is sent, so that it idles on as before.
    Only,
    /// The same, and then its health: it was idle so long that this is in doubt.
    First,
}

/// Which of its endpoint's lists a Ready connection is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    None,
    /// In nobody's hands.
    Idle,
    /// In use, with capacity for more users.
    Partial,
}

/// What a connection is part of until it is ready: its race, in which it holds one permit.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// The number of the race.
    pub(crate) race: u64,
    pub(crate) began: Tick,
    /// Why the connection that is now Closing did not become ready; without one it was given up.
    pub(crate) error: Option<Error>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) endpoint: EndpointKey,
    pub(crate) stage: Stage,
    pub(crate) place: Place,
    /// Users that hold it now.
    pub(crate) uses: u32,
    /// Users that may hold it at once.
    pub(crate) capacity: u32,
    /// How often it was handed out.
    pub(crate) total_uses: u64,
    /// It takes no further use, for this reason.
    pub(crate) condemned: Option<CloseReason>,
    pub(crate) idle_since: Tick,
    /// When it was ready for its first use, on whatever core.
    pub(crate) opened: Tick,
    /// What is looked for while it is Checking.
    pub(crate) look: Look,
    /// Until Ready the end of the time to open it, then the end of its life.
    pub(crate) deadline: Tick,
    /// Its place among its endpoint's idle or partial connections.
    pub(crate) links: Links,
    pub(crate) address: SocketAddr,
    /// Where its uses count.
    pub(crate) spot: Spot,
    /// When its last use began, where that matters.
    pub(crate) taken_at: Tick,
    /// Present until Ready, unless its race was won by another.
    pub(crate) attempt: Option<Box<Attempt>>,
    /// Whether its deadline is the end of its life, and is waited for.
    pub(crate) timed: bool,
    /// Whether it was Ready once.
    pub(crate) was_ready: bool,
}

impl Conn {
    pub(crate) fn dialing(
        endpoint: EndpointKey,
        address: SocketAddr,
        spot: Spot,
        deadline: Tick,
        attempt: Box<Attempt>,
    ) -> Self {
        Self {
            spot,
            attempt: Some(attempt),
            ..Self::new(endpoint, Stage::Dialing, address, deadline)
        }
    }

    /// A slot without a connection, for one that another core may give.
    pub(crate) fn expected(endpoint: EndpointKey) -> Self {
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        Self::new(endpoint, Stage::Expected, nowhere, Tick::NEVER)
    }

    fn new(endpoint: EndpointKey, stage: Stage, address: SocketAddr, deadline: Tick) -> Self {
        Self {
            endpoint,
            stage,
            place: Place::None,
            uses: 0,
            capacity: 1,
            total_uses: 0,
            condemned: None,
            idle_since: Tick::ZERO,
            opened: Tick::ZERO,
            look: Look::None,
            deadline,
            links: Links::default(),
            address,
            spot: Spot::NONE,
            taken_at: Tick::ZERO,
            attempt: None,
            timed: false,
            was_ready: false,
        }
    }

    /// Whether there is a connection in the slot, or one is being opened there.
    pub(crate) fn exists(&self) -> bool {
        let without = [Stage::Expected, Stage::Declined, Stage::Claimed];
        !without.contains(&self.stage)
    }

    /// It goes out of the list it is in: which, and where there.
    #[inline]
    pub(crate) fn leave_list(&mut self) -> (Place, Links) {
        let place = std::mem::replace(&mut self.place, Place::None);
        (place, std::mem::take(&mut self.links))
    }

    /// It takes no further use. The first reason stays, but for those that may pass: the address
    /// that is gone may come back, the balance may change, and the connection is no better for that.
    pub(crate) fn condemn(&mut self, reason: CloseReason) {
        let may_pass = [
            None,
            Some(CloseReason::AddressGone),
            Some(CloseReason::Rebalanced),
        ];
        if may_pass.contains(&self.condemned) {
            self.condemned = Some(reason);
        }
    }

    /// The gauge that counts it; a slot without a connection has none.
    pub(crate) fn gauge<'a>(&self, counts: &'a mut Counts) -> Option<&'a mut u32> {
        Some(match self.stage {
            Stage::Dialing | Stage::Initialising => &mut counts.connecting,
            Stage::Ready if self.uses > 0 => &mut counts.in_use,
            Stage::Ready => &mut counts.idle,
            Stage::Checking => &mut counts.checking,
            Stage::Closing(_) | Stage::Leaving => &mut counts.closing,
            Stage::Expected | Stage::Declined | Stage::Claimed => return None,
        })
    }
}

#[inline]
pub(crate) fn links(conn: &mut Conn) -> &mut Links {
    &mut conn.links
}
