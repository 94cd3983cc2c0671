//! SRV and HTTPS records put further names, ports and an order between a name and its addresses.
//! [`services`] and [`Chain`] say which names to look up next; [`targets`] puts their addresses in.
//!
//! Promise: no port is 0; at most [`MAX_PLACES`] names and [`MAX_ADDRESSES`] targets come of one
//! name; the same records in another order give the same places; HTTPS records never fail a host:
//! whatever is wrong with them, its own addresses at port 443 are left.
//!
//! A [`Chain`] asks for the HTTPS records of [`Chain::name`] and is told by [`Chain::found`] or
//! [`Chain::nothing`]. AliasMode moves it on to another name, at most [`MAX_HOPS`] times; anything
//! else ends it with places.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::MAX_ADDRESSES;
use super::order::Ranked;
use super::record::{Binding, Service};
use crate::error::{Error, ErrorKind, Result};
use crate::target::Target;

#[cfg(test)]
mod tests;

/// The most names that the records of one name may lead to.
pub(crate) const MAX_PLACES: usize = 32;
/// The most aliases of HTTPS records in a row.
pub(crate) const MAX_HOPS: usize = 8;
const HTTPS_PORT: u16 = 443;

/// A name whose addresses are wanted, and what is to be done with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    /// As in [`Target`].
    pub(crate) priority: u16,
    /// As in [`Target`], for all addresses of the place together.
    pub(crate) weight: u16,
    /// Addresses that hold until its own are known (RFC 9460 7.3).
    pub(crate) hints: Vec<IpAddr>,
}

/// The places of a service, those to be tried first in front (RFC 2782).
///
/// # Errors
///
/// [`ErrorKind::NoService`] if the only target is the root; [`ErrorKind::Resolve`] if no record
/// has a target and a port.
pub(crate) fn services(records: &[Service]) -> Result<Vec<Place>> {
    if let [Service { target: None, .. }] = records {
        let message = "the service is not available: its SRV record has the target \".\"";
        return Err(Error::new(ErrorKind::NoService, message));
    }
    let mut usable: Vec<_> = records
        .iter()
        .filter(|record| record.port != 0)
        .filter_map(|record| record.target.as_deref().map(|target| (record, target)))
        .collect();
    usable.sort_by_key(|&(record, target)| {
        (record.priority, Reverse(record.weight), target, record.port)
    });
    let mut places: Vec<Place> = Vec::new();
    for (record, target) in usable {
        let is_known = |place: &Place| &*place.host == target && place.port == record.port;
        if places.len() < MAX_PLACES && !places.iter().any(is_known) {
            places.push(Place {
                host: target.into(),
                port: record.port,
                priority: record.priority,
                weight: record.weight,
                hints: Vec::new(),
            });
        }
    }
    match places.is_empty() {
        true => {
            let message = "none of the SRV records has a target and a port";
            Err(Error::new(ErrorKind::Resolve, message))
        }
        false => Ok(places),
    }
}

/// The way from a host through its HTTPS records (RFC 9460 section 3).
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// The host itself, then where aliases led.
    names: Vec<Arc<str>>,
}

/// What an HTTPS answer means for a [`Chain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask for the records of [`Chain::name`], which is another now.
    Ask,
    /// These, in this order; at least one.
    Done(Vec<Place>),
}

impl Chain {
    /// The way from `host`, canonical and absolute.
    pub(crate) fn new(host: &str) -> Self {
        Self {
            names: vec![host.into()],
        }
    }

    /// The name whose HTTPS records are wanted.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.names[self.names.len() - 1]
    }

    /// The name has these records. `chance(n)` is any number below `n`.
    pub(crate) fn found(
        &mut self,
        records: &[Binding],
        mut chance: impl FnMut(usize) -> usize,
    ) -> Step {
        let aliases: Vec<&Binding> = records.iter().filter(|it| it.priority == 0).collect();
        if aliases.is_empty() {
            return Step::Done(self.places(records, chance));
        }
        // Where there is an alias, everything else is ignored; of several, one is taken.
        let alias = aliases[chance(aliases.len()).min(aliases.len() - 1)];
        match alias.target.as_deref() {
            Some(target) if self.may_go_to(target) => {
                self.names.push(target.into());
                Step::Ask
            }
            _ => self.nothing(),
        }
    }

    /// The name has no usable HTTPS record, or nobody could say.
    pub(crate) fn nothing(&self) -> Step {
        Step::Done(self.fallback(0))
    }

    fn may_go_to(&self, target: &str) -> bool {
        self.names.len() <= MAX_HOPS && self.names.iter().all(|name| &**name != target)
    }

    /// The places of records in ServiceMode, equal ones shuffled, then the fallback.
    fn places(&self, records: &[Binding], mut chance: impl FnMut(usize) -> usize) -> Vec<Place> {
        let mut usable: Vec<&Binding> = records.iter().filter(|it| has_tcp(it)).collect();
        for last in (1..usable.len()).rev() {
            usable.swap(last, chance(last + 1).min(last));
        }
        usable.sort_by_key(|record| record.priority);
        let mut places: Vec<Place> = Vec::new();
        let (mut rank, mut before) = (0, None);
        for record in usable.into_iter().take(MAX_PLACES) {
            if before.is_some_and(|before| before != record.priority) {
                rank += 1;
            }
            before = Some(record.priority);
            let host = match record.target.as_deref() {
                Some(target) => target.into(),
                None => self.name().clone(),
            };
            let port = record.port.unwrap_or(HTTPS_PORT);
            add(
                &mut places,
                Place {
                    hints: record.hints.clone(),
                    ..place(host, port, rank)
                },
            );
        }
        let rank = if places.is_empty() { 0 } else { rank + 1 };
        for place in self.fallback(rank) {
            add(&mut places, place);
        }
        places
    }

    /// Where the last alias led, then the host itself: both are tried as if there were no records.
    fn fallback(&self, first: u16) -> Vec<Place> {
        let mut places = Vec::new();
        if self.names.len() > 1 {
            places.push(place(self.name().clone(), HTTPS_PORT, first));
        }
        let rank = first + places.len() as u16;
        places.push(place(self.names[0].clone(), HTTPS_PORT, rank));
        places
    }
}

fn place(host: Arc<str>, port: u16, priority: u16) -> Place {
    Place {
        host,
        port,
        priority,
        weight: 1,
        hints: Vec::new(),
    }
}

/// Adds what is not there yet.
fn add(places: &mut Vec<Place>, new: Place) {
    let is_known = |place: &Place| place.host == new.host && place.port == new.port;
    if !places.iter().any(is_known) {
        places.push(new);
    }
}

/// Whether one of its protocols runs over TCP: HTTP/1.1, unless the record takes that back, or one
/// that is not known to need QUIC. (Port 0 leads nowhere.)
fn has_tcp(record: &Binding) -> bool {
    let is_quic = |alpn: &str| alpn == "h3" || alpn.starts_with("h3-") || alpn.starts_with("hq-");
    let by_default = !record.no_default_alpn || record.alpn.is_empty();
    record.port != Some(0) && (by_default || record.alpn.iter().any(|alpn| !is_quic(alpn)))
}

/// The addresses of `places`, in their order, each once. `addresses[n]` are those of place `n`,
/// in the order in which they are tried; a place with addresses of several groups has its whole
/// weight in each of them, because only the best of them that works is used.
///
/// The weight of a place is divided among its addresses of one group. When there are more than
/// [`MAX_ADDRESSES`], every place gives its first ones.
pub(crate) fn targets(places: &[Place], addresses: &[Vec<Ranked>]) -> Vec<Target> {
    let mut known = BTreeSet::new();
    let target = |place: &Place, ranked: &Ranked| Target {
        address: SocketAddr::new(ranked.ip, place.port),
        priority: place.priority,
        group: ranked.group,
        weight: place.weight,
    };
    let distinct: Vec<Vec<Target>> = places
        .iter()
        .zip(addresses)
        .map(|(place, of)| of.iter().map(move |ranked| target(place, ranked)))
        .map(|of| of.filter(|it| known.insert(it.address)).collect())
        .collect();
    let mut found: Vec<(usize, Target)> = Vec::new();
    let longest = distinct.iter().map(Vec::len).max().unwrap_or(0);
    for round in 0..longest {
        for (at, of) in distinct.iter().enumerate() {
            if found.len() < MAX_ADDRESSES
                && let Some(&target) = of.get(round)
            {
                found.push((at, target));
            }
        }
    }
    found.sort_by_key(|(at, _)| *at);
    divide(&mut found);
    found.into_iter().map(|(_, target)| target).collect()
}

/// Divides the weight of each place among its targets of one group, all weights multiplied by the least number
/// that keeps the shares whole, as far as the largest stays a `u16`.
fn divide(found: &mut [(usize, Target)]) {
    let counts: Vec<u64> = found
        .iter()
        .map(|(at, target)| {
            let is_like = |(of, other): &&(usize, Target)| of == at && other.group == target.group;
            found.iter().filter(is_like).count() as u64
        })
        .collect();
    let factor = counts.iter().fold(1, |all, &count| multiple(all, count));
    let shares: Vec<u64> = found
        .iter()
        .zip(&counts)
        .map(|((_, target), count)| u64::from(target.weight) * factor / count)
        .collect();
    let largest = shares.iter().copied().max().unwrap_or(0);
    let most = u64::from(u16::MAX);
    for ((_, target), share) in found.iter_mut().zip(shares) {
        let scaled = match largest > most {
            true => share * most / largest,
            false => share,
        };
        // A small share stays more than none.
        target.weight = scaled.clamp(share.min(1), most) as u16;
    }
}

/// The least common multiple. Of counts that make at most 64 together, it is below 2²².
fn multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
