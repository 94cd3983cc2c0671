//! The newest idle connection is the best one only if its address is no busier than the others'. A
//! hit must not search for that: each connection knows the place of its address's figures, and a use
//! counts there when it begins and ends.
//!
//! Promise: beginning and ending a use is O(1) and allocates nothing; the figures of an address are
//! those of its connections, exactly; a place keeps its address while it has connections.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::time::Duration;

use super::PoolPolicy;
use super::event::{Busy, EndpointKey};
use crate::time::Tick;

/// Over how long a slow answer wears off.
const DECAY: Duration = Duration::from_secs(10);
/// What is assumed of an address that is in use and has not answered yet.
const UNKNOWN: Duration = Duration::from_millis(10);
/// Places kept without connections, for what is known of their addresses' speed.
const KEPT: usize = 128;

/// The place of an address's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot(u32);

impl Spot {
    /// That of a slot without a connection.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// How busy an address is.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) address: SocketAddr,
    /// Connections of any stage.
    pub(crate) conns: u32,
    /// Uses that have begun and not ended.
    pub(crate) uses: u32,
    /// Of the load, as it was when a connection was opened last.
    share: u64,
    /// How long uses take.
    latency: Option<Latency>,
}

/// A moving average that goes up at once and comes down slowly: who is hurt by a slow server is
/// hurt at once.
#[derive(Debug, Clone, Copy)]
struct Latency {
    time: Duration,
    at: Tick,
}

impl Latency {
    fn observe(&mut self, now: Tick, took: Duration) {
        self.time = match self.time.checked_sub(took) {
            Some(less) => took.saturating_add(self.worn(now, less)),
            None => took,
        };
        self.at = now;
    }

    /// What is left of `time` at `now`: also where nobody uses the address any more, because it was slow.
    fn worn(self, now: Tick, time: Duration) -> Duration {
        let passed = now.since(self.at).as_secs_f64();
        time.mul_f64((-passed / DECAY.as_secs_f64()).exp())
    }
}

/// How much an address has to do for its share: with less, the next use is served sooner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) uses: u32,
    /// One and the same for all, if it does not matter.
    pub(crate) latency: Duration,
    pub(crate) share: u64,
}

impl Cost {
    /// For an address of which it is not known how long its users take: nothing while it has none,
    /// so that it is found out.
    pub(crate) fn timed(uses: u32, latency: Option<Duration>, share: u64) -> Self {
        let guess = if uses == 0 { Duration::ZERO } else { UNKNOWN };
        let latency = latency.unwrap_or(guess);
        Self {
            uses,
            latency,
            share,
        }
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let work =
            |cost: &Self| (u128::from(cost.uses) + 1).saturating_mul(cost.latency.as_nanos());
        let mine = work(self).saturating_mul(other.share.into());
        let theirs = work(other).saturating_mul(self.share.into());
        mine.cmp(&theirs)
    }
}

/// The addresses that this core has, or had lately, connections of one endpoint to.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    list: Vec<Flight>,
    /// Whether it matters how long uses take.
    pub(crate) is_timed: bool,
}

impl Flights {
    /// A connection to `address` begins.
    pub(crate) fn join(&mut self, address: SocketAddr, share: u64) -> Spot {
        let known = self.list.iter().position(|it| it.address == address);
        let free = || {
            let is_long = self.list.len() >= KEPT;
            let unused = self.list.iter().position(|it| it.conns == 0);
            unused.filter(|_| is_long)
        };
        let new = Flight {
            address,
            conns: 1,
            uses: 0,
            share,
            latency: None,
        };
        if let Some(at) = known {
            self.list[at].conns += 1;
            self.list[at].share = share;
            return Spot(at as u32);
        }
        if let Some(at) = free() {
            self.list[at] = new;
            return Spot(at as u32);
        }
        self.list.push(new);
        Spot(self.list.len() as u32 - 1)
    }

    /// The address's share of the load.
    pub(crate) fn share(&self, spot: Spot) -> u64 {
        self.list
            .get(spot.0 as usize)
            .map_or(1, |flight| flight.share)
    }

    /// A connection there is gone.
    pub(crate) fn leave(&mut self, spot: Spot) {
        if let Some(flight) = self.list.get_mut(spot.0 as usize) {
            flight.conns = flight.conns.saturating_sub(1);
        }
    }

    /// A use of a connection there begins.
    #[inline]
    pub(crate) fn begin(&mut self, spot: Spot) {
        if let Some(flight) = self.list.get_mut(spot.0 as usize) {
            flight.uses += 1;
        }
    }

    /// A use of a connection there ends.
    #[inline]
    pub(crate) fn end(&mut self, spot: Spot) {
        if let Some(flight) = self.list.get_mut(spot.0 as usize) {
            flight.uses = flight.uses.saturating_sub(1);
        }
    }

    /// Uses there that have begun and not ended.
    #[inline]
    pub(crate) fn uses(&self, spot: Spot) -> u32 {
        self.list
            .get(spot.0 as usize)
            .map_or(0, |flight| flight.uses)
    }

    /// How long a use there took.
    pub(crate) fn observe(&mut self, spot: Spot, now: Tick, took: Duration) {
        if let Some(flight) = self.list.get_mut(spot.0 as usize) {
            let first = Latency {
                time: took,
                at: now,
            };
            flight.latency.get_or_insert(first).observe(now, took);
        }
    }

    /// Whether all connections are, as far as is known, to one address.
    #[inline]
    pub(crate) fn is_single(&self) -> bool {
        self.list.len() < 2
    }

    #[inline]
    pub(crate) fn cost(&self, now: Tick, spot: Spot) -> Cost {
        let Some(flight) = self.list.get(spot.0 as usize) else {
            return Cost::timed(0, None, 1);
        };
        if self.is_timed {
            return Cost::timed(flight.uses, flight.latency(now), flight.share);
        }
        Cost {
            uses: flight.uses,
            latency: UNKNOWN,
            share: flight.share,
        }
    }

    /// What this core keeps busy.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.list.iter().filter(|flight| flight.conns > 0)
    }
}

impl Flight {
    /// How long uses take here, if any has ended.
    pub(crate) fn latency(&self, now: Tick) -> Option<Duration> {
        self.latency.map(|known| known.worn(now, known.time))
    }
}

impl PoolPolicy {
    /// How busy this core keeps each address of the endpoint, if its balance wants all cores to know:
    /// the address, users, and how long they take.
    pub(crate) fn busy(
        &self,
        now: Tick,
        endpoint: EndpointKey,
    ) -> Option<impl Iterator<Item = (SocketAddr, Busy)>> {
        let bucket = self.endpoints.get(endpoint.0)?;
        let busy = move |flight: &Flight| Busy {
            uses: flight.uses,
            latency: flight.latency(now),
        };
        let all = bucket.flights.iter();
        let all = all.map(move |flight| (flight.address, busy(flight)));
        bucket.flights.is_timed.then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_place_keeps_its_address_while_it_has_connections() {
        let mut flights = Flights::default();
        let first = flights.join(address(1), 1);
        assert_eq!(flights.join(address(1), 1), first);
        let second = flights.join(address(2), 1);
        assert_ne!(first, second);
        flights.begin(first);
        assert_eq!(
            (
                flights.cost(at(0), first).uses,
                flights.cost(at(0), second).uses
            ),
            (1, 0)
        );
        flights.end(first);
        flights.leave(first);
        assert_eq!(flights.iter().count(), 2);
        flights.leave(first);
        assert_eq!(flights.iter().count(), 1);
        assert_eq!(flights.join(address(1), 1), first);
    }

    #[test]
    fn addresses_that_come_and_go_leave_a_bounded_number_of_places() {
        let mut flights = Flights::default();
        for n in 0..1000_u16 {
            let spot = flights.join(SocketAddr::from(([127, 0, 0, 1], n)), 1);
            flights.leave(spot);
        }
        assert_eq!(flights.list.len(), KEPT);
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_wears_off() {
        let mut flights = Flights {
            is_timed: true,
            ..Flights::default()
        };
        let spot = flights.join(address(1), 1);
        flights.observe(spot, at(0), MS);
        flights.observe(spot, at(1), MS * 100);
        assert_eq!(flights.list[0].latency(at(1)), Some(MS * 100));
        flights.observe(spot, at(1), MS);
        assert_eq!(flights.list[0].latency(at(1)), Some(MS * 100));
        let unused = flights.list[0].latency(at(11)).unwrap();
        assert!(unused > MS * 36 && unused < MS * 37, "{unused:?}");
        flights.observe(spot, at(11), MS);
        let worn = flights.list[0].latency(at(11)).unwrap();
        assert!(worn > MS * 37 && worn < MS * 38, "{worn:?}");
        flights.observe(spot, at(1000), MS);
        let worn = flights.list[0].latency(at(1000)).unwrap();
        assert!(worn < MS + MS / 10, "{worn:?}");
    }

    #[test]
    fn the_cost_is_work_for_a_share() {
        let cost = |uses, millis, share| Cost::timed(uses, Some(MS * millis), share);
        assert_eq!(cost(1, 5, 1).compare(&cost(0, 9, 1)), Ordering::Greater);
        assert_eq!(cost(1, 5, 1).compare(&cost(0, 10, 1)), Ordering::Equal);
        assert_eq!(cost(5, 5, 3).compare(&cost(2, 5, 1)), Ordering::Less);
        // What is not known is tried once, and then taken for ten milliseconds.
        let unknown = |uses| Cost::timed(uses, None, 1);
        assert_eq!(unknown(0).compare(&cost(0, 1, 1)), Ordering::Less);
        assert_eq!(unknown(1).compare(&cost(1, 10, 1)), Ordering::Equal);
    }
}
