//! An address that refuses one core will refuse the others, and each would find that out for itself
//! and go on trying. What one core learns, [`Ejections`] tells all: an address that failed is out,
//! for all of them, until a probe by one of them has brought it back.
//!
//! Promise: at most half of a name's addresses are out at once (the panic threshold: where most
//! fail, it is not the addresses); of all cores one probes an address, no more often than every
//! [`PROBE_EVERY`]; what nobody has probed for [`UNUSED`] is out no more; at most [`MAX_KEPT`] addresses
//! are kept.
//!
//! States of an address: not known → out (a connect failed, or a connection died before its first
//! use) → probed by one core, out for the others → back (a connection is ready; its early deaths
//! are remembered) → not known (a first use of a connection ended well).

use std::net::SocketAddr;
use std::time::Duration;

use super::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::policy::PROBE_EVERY;
use crate::policy::event::Verdict;
use crate::time::Tick;

/// Up to so much is added by chance, so that many addresses are not probed at once.
const JITTER: Duration = Duration::from_millis(200);
/// How long an address is out at most whose connections die early, time after time.
const DEATHS_CAP: Duration = Duration::from_secs(60);
/// That after which an address that could be probed, and was not, is out no more: it is not named any
/// more, or nobody uses its endpoint. Who does next finds out.
const UNUSED: Duration = Duration::from_secs(3);
/// How long early deaths are remembered.
const FORGOTTEN: Duration = Duration::from_secs(120);
/// Addresses of one endpoint that are remembered.
const MAX_KEPT: usize = 128;

/// The addresses of one endpoint that are out.
#[derive(Debug, Default)]
pub(crate) struct Ejections {
    /// How often the list of those that are out has changed. Zero: nothing was ever out.
    version: AtomicU64,
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    address: SocketAddr,
    is_out: bool,
    /// No probe before then. While it is not out: when it was known to be so.
    probe_at: Tick,
    /// Early deaths without a use that ended well between them.
    deaths: u32,
}

impl Known {
    fn is_out(&self, now: Tick) -> bool {
        self.is_out && now < self.probe_at.plus(UNUSED)
    }
}

impl Ejections {
    /// Changes whenever an address goes out or comes back.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Takes in what a core learned of one of `all` addresses; `chance` is a random number. True if
    /// an address went out or came back: then all cores are to be told.
    pub(crate) fn report(
        &self,
        now: Tick,
        (address, verdict): (SocketAddr, Verdict),
        all: &[SocketAddr],
        chance: u64,
    ) -> bool {
        let mut known = lock(&self.known);
        let changed = match verdict {
            Verdict::Failed | Verdict::DiedEarly => {
                known.retain(|it| now < it.probe_at.plus(FORGOTTEN));
                let out = known.iter().filter(|it| it.is_out(now));
                let out = out.filter(|it| all.contains(&it.address)).count();
                let may = (out + 1) * 2 <= all.len();
                eject(&mut known, now, (address, verdict), may, chance)
            }
            Verdict::Back => bring_back(&mut known, now, address),
            Verdict::Works => {
                known.retain(|it| it.address != address || it.is_out);
                false
            }
        };
        if changed {
            let version = self.version.load(Ordering::Relaxed);
            self.version.store(version + 1, Ordering::Release);
        }
        changed
    }

    /// Whether the core that asks is the one to probe `address` now.
    pub(crate) fn claim(&self, now: Tick, address: SocketAddr, chance: u64) -> bool {
        let mut known = lock(&self.known);
        let out = known.iter_mut().find(|it| it.address == address);
        let Some(out) = out.filter(|it| it.is_out && it.probe_at <= now) else {
            return false;
        };
        out.probe_at = now.plus(PROBE_EVERY + jitter(chance));
        true
    }

    /// For each of `addresses`, if it is out, when it may be probed.
    pub(crate) fn out(&self, now: Tick, addresses: &[SocketAddr]) -> Box<[Option<Tick>]> {
        let known = lock(&self.known);
        let probe_at = |address: &SocketAddr| {
            let mut out = known.iter().filter(|it| it.is_out(now));
            let found = out.find(|it| it.address == *address);
            found.map(|it| it.probe_at)
        };
        addresses.iter().map(probe_at).collect()
    }
}

fn eject(
    known: &mut Vec<Known>,
    now: Tick,
    (address, verdict): (SocketAddr, Verdict),
    may: bool,
    chance: u64,
) -> bool {
    let at = match known.iter().position(|it| it.address == address) {
        // What fails with it, or because of it, is no news.
        Some(at) if known[at].is_out(now) => return false,
        Some(at) => at,
        None if !may || known.len() >= MAX_KEPT => return false,
        None => {
            known.push(Known {
                address,
                is_out: false,
                probe_at: now,
                deaths: 0,
            });
            known.len() - 1
        }
    };
    let it = &mut known[at];
    if verdict == Verdict::DiedEarly {
        it.deaths = it.deaths.saturating_add(1);
    }
    it.is_out = may;
    it.probe_at = now.plus(pause(it.deaths) + jitter(chance));
    may
}

fn bring_back(known: &mut Vec<Known>, now: Tick, address: SocketAddr) -> bool {
    let Some(at) = known.iter().position(|it| it.address == address) else {
        return false;
    };
    let was_out = std::mem::replace(&mut known[at].is_out, false);
    known[at].probe_at = now;
    if known[at].deaths == 0 {
        known.swap_remove(at);
    }
    was_out
}

/// A connect that fails is found out by the next one. Connections that die early look well until
/// they die: then each time doubles it.
fn pause(deaths: u32) -> Duration {
    let doublings = deaths.saturating_sub(1).min(16);
    let grown = PROBE_EVERY.saturating_mul(1 << doublings);
    grown.min(DEATHS_CAP)
}

fn jitter(chance: u64) -> Duration {
    JITTER.mul_f64(f64::from(chance as u32) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
