//! What one opening has tried, and how long its attempts are left alone.
//!
//! Promise: an address is tried once, and once more if it was cut; what is gone was never tried.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::balance::Wish;
use super::super::conn::Stage;
use super::super::event::ConnKey;
use super::super::settings::{ATTEMPT_DELAY, Settings};
use crate::time::Tick;

/// The longest that an attempt is left alone where there is no room for one beside it.
pub(super) const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// One opening.
#[derive(Debug)]
pub(crate) struct Race {
    pub(crate) number: u64,
    /// Its connections that are not ready yet, in the order in which they began.
    pub(crate) attempts: Vec<ConnKey>,
    /// Addresses that it has dialed.
    pub(super) tried: Vec<SocketAddr>,
    /// Those of them that were given up for the next, without a verdict.
    pub(super) cut: Vec<SocketAddr>,
    /// The address that took long last.
    pub(super) slow: Option<SocketAddr>,
    /// The next attempt is for want of that one.
    pub(super) is_beside: bool,
    /// When it began: what has failed for others since then is not tried either.
    pub(crate) since: Tick,
    /// The endpoint's round in which it began.
    pub(crate) round: u64,
    /// The deadline in the timers; [`Tick::NEVER`] if there is none.
    pub(crate) next_at: Tick,
    /// The next attempt is to begin as soon as it may.
    pub(super) due: bool,
    /// One of it is ready: the others are of use only while waiters need them.
    pub(super) won: bool,
    /// Each attempt may take its time.
    pub(super) is_patient: bool,
    /// It is to find out whether an address is back: nobody waits for it.
    pub(super) is_probe: bool,
}

impl Race {
    /// An opening that begins, in the lists of one that is over.
    pub(super) fn new(number: u64, now: Tick, round: u64, over: Option<Self>) -> Self {
        let (mut attempts, mut tried, mut cut) = match over {
            Some(over) => (over.attempts, over.tried, over.cut),
            None => Default::default(),
        };
        attempts.clear();
        tried.clear();
        cut.clear();
        Self {
            number,
            attempts,
            tried,
            cut,
            slow: None,
            is_beside: false,
            since: now,
            round,
            next_at: Tick::NEVER,
            due: false,
            won: false,
            is_patient: false,
            is_probe: false,
        }
    }

    pub(super) fn wish(&self, settings: &Settings) -> Wish<'_> {
        Wish {
            room: settings.room(),
            tried: &self.tried,
            since: self.since,
            beside: self.slow.filter(|_| self.is_beside),
        }
    }

    /// How long an attempt has before it is cut. A server that answered TCP is there, and a
    /// handshake with a far one takes several round trips; where one cut after the other brings
    /// nothing, it is the way that is long, not the addresses that are dead. A probe that were cut
    /// early each time would never bring an address back that takes longer.
    pub(super) fn patience(&self, stage: Stage) -> Duration {
        match stage {
            _ if self.is_probe => PATIENCE_MAX,
            Stage::Initialising => PATIENCE_MAX,
            _ => (ATTEMPT_DELAY * (1 << self.cut.len().min(2))).min(PATIENCE_MAX),
        }
    }

    /// What is gone was never tried, should it be named again.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(SocketAddr) -> bool) {
        self.tried.retain(|address| !is_gone(*address));
        self.cut.retain(|address| !is_gone(*address));
    }

    /// Gives those that were cut their second try; `false` if there is none.
    pub(super) fn try_cut_ones_again(&mut self) -> bool {
        let cut = std::mem::take(&mut self.cut);
        self.tried.retain(|address| !cut.contains(address));
        self.is_patient = true;
        !cut.is_empty()
    }
}
