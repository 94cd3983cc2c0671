//! A response may hold anything beside the answer. [`judge`] takes what belongs to the question:
//! the records of the asked type at its name, or at the end of the aliases that begin there.
//!
//! Promise: everything else is as if it were not there (the scan finds records of class IN alone);
//! the work is bounded by what it let pass; at most [`MAX_ADDRESSES`] records are kept, and the same
//! ones in whatever order they come; names out of the records are host names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record};

use super::binding::bindings;
use super::packet::{Address, Packet};
use super::{Query, Verdict, record_type};
use crate::dns::MAX_ADDRESSES;
use crate::dns::record::{Kind, Records, Service};
use crate::dns::special::{Special, special};

/// Links of a chain of aliases.
const MAX_CHAIN: usize = 16;
/// Aliases that are looked at in one answer.
const MAX_ALIASES: usize = 2 * MAX_CHAIN;

/// Reads a response to `query`.
pub(super) fn judge(packet: &Packet<'_>, query: &Query) -> Verdict {
    let here = owned(packet, query.kind, &query.name);
    let end = match here.is_empty() {
        false => Some((&query.name, u32::MAX)),
        true => follow(&packet.answers, &query.name),
    };
    let Some((owner, way)) = end else {
        return Verdict::Refused("a chain of aliases without an end");
    };
    let negative = || negative_ttl(packet, owner).map(|ttl| ttl.min(way));
    if packet.code == ResponseCode::NXDomain {
        return Verdict::NxDomain { ttl: negative() };
    }
    let owned = match here.is_empty() {
        false => here,
        true => owned(packet, query.kind, owner),
    };
    let Some(ttl) = owned.ttl().map(|ttl| ttl.min(way)) else {
        return Verdict::NoData { ttl: negative() };
    };
    match owned.read() {
        Some(records) => Verdict::Found { records, ttl },
        None => Verdict::NoData { ttl: Some(ttl) },
    }
}

/// The records of one type at one name.
enum Owned<'a> {
    Addresses(Vec<&'a Address>),
    Services(Vec<&'a Record>),
    Bindings(Vec<&'a Record>),
}

/// Those of `kind` at `owner`.
fn owned<'a>(packet: &'a Packet<'_>, kind: Kind, owner: &Name) -> Owned<'a> {
    let is_here =
        |record: &&Record| record.record_type() == record_type(kind) && record.name == *owner;
    let records = packet.answers.iter().filter(is_here);
    match kind {
        Kind::A | Kind::Aaaa => Owned::Addresses(packet.addresses_of(owner).collect()),
        Kind::Srv => Owned::Services(records.collect()),
        Kind::Https => Owned::Bindings(records.collect()),
    }
}

impl Owned<'_> {
    fn is_empty(&self) -> bool {
        self.ttl().is_none()
    }

    /// The least of them.
    fn ttl(&self) -> Option<u32> {
        match self {
            Self::Addresses(all) => all.iter().map(|it| it.ttl).min(),
            Self::Services(all) | Self::Bindings(all) => all.iter().map(|it| it.ttl).min(),
        }
    }

    /// What of them can be used; `None` if nothing.
    fn read(&self) -> Option<Records> {
        match self {
            Self::Addresses(all) => {
                let addresses = all.iter().map(|it| it.ip);
                let kept = keep_some(addresses.filter(|address| is_usable(*address)));
                (!kept.is_empty()).then(|| Records::Addresses(kept.into()))
            }
            Self::Services(all) => {
                let kept = services(all);
                (!kept.is_empty()).then(|| Records::Services(kept.into()))
            }
            Self::Bindings(all) => {
                let kept = bindings(all);
                (!kept.is_empty()).then(|| Records::Bindings(kept.into()))
            }
        }
    }
}

/// Where the aliases that begin at `start` end, and the least TTL on the way; `None` if they do
/// not end.
fn follow<'a>(answers: &'a [Record], start: &'a Name) -> Option<(&'a Name, u32)> {
    let aliases = answers.iter().filter_map(|record| match &record.data {
        RData::CNAME(to) => Some((&record.name, &to.0, record.ttl)),
        _ => None,
    });
    let aliases: Vec<_> = aliases.take(MAX_ALIASES + 1).collect();
    if aliases.len() > MAX_ALIASES {
        return None;
    }
    let (mut at, mut least) = (start, u32::MAX);
    for _ in 0..=MAX_CHAIN {
        match aliases.iter().find(|(owner, _, _)| *owner == at) {
            Some(&(_, to, ttl)) => (at, least) = (to, least.min(ttl)),
            None => return Some((at, least)),
        }
    }
    None
}

/// Whether a connection to the address could mean what the name's owner may mean.
pub(super) fn is_usable(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// Each address once, at most [`MAX_ADDRESSES`]. If there are more, the same ones are kept
/// whatever the order in which they come.
pub(super) fn keep_some(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut kept = BTreeSet::new();
    let mut in_order = Vec::new();
    let mut are_too_many = false;
    for address in addresses {
        let key = (spread(&address), address);
        if kept.len() == MAX_ADDRESSES && kept.last().is_some_and(|last| key > *last) {
            are_too_many = true;
        } else if kept.insert(key) {
            in_order.push(address);
        }
        if kept.len() > MAX_ADDRESSES {
            kept.pop_last();
            are_too_many = true;
        }
    }
    match are_too_many {
        true => kept.into_iter().map(|(_, address)| address).collect(),
        false => in_order,
    }
}

/// FNV-1a: the same in every process.
fn spread(address: &IpAddr) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    match address {
        IpAddr::V4(v4) => v4.octets().iter().fold(start, mix),
        IpAddr::V6(v6) => v6.octets().iter().fold(start, mix),
    }
}

/// Those that can be connected to, or say that there is no service; the first by priority if
/// there are too many.
fn services(owned: &[&Record]) -> Vec<Service> {
    let read = |record: &&Record| match &record.data {
        RData::SRV(srv) => {
            let target = host_name(&srv.target)?;
            (srv.port != 0 || target.is_none()).then_some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target,
            })
        }
        _ => None,
    };
    let mut services: Vec<Service> = owned.iter().filter_map(read).collect();
    let key = |it: &Service| (it.priority, it.target.clone(), it.port, it.weight);
    services.sort_by_cached_key(key);
    services.dedup();
    services.truncate(MAX_ADDRESSES);
    services
}

/// The host that `name` is, in lower case; the inner `None` is the root. Names in records are
/// bytes, and not every name is a host's (CVE-2021-3672).
pub(super) fn host_name(name: &Name) -> Option<Option<Box<str>>> {
    if name.is_root() {
        return Some(None);
    }
    let mut text = String::new();
    for label in name.iter() {
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        if !label.iter().all(is_allowed) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
    }
    match special(&text) {
        // An address in the place of a name (RFC 2782) would be dialled unseen.
        Some(Special::Number) => None,
        _ => Some(Some(text.into())),
    }
}

/// How long it may be kept that there is nothing at `name` (RFC 2308): as its own zone says.
fn negative_ttl(packet: &Packet<'_>, name: &Name) -> Option<u32> {
    let soa = packet.authorities.iter().filter_map(|record| {
        let RData::SOA(soa) = &record.data else {
            return None;
        };
        let is_own = record.name.zone_of(name);
        is_own.then(|| record.ttl.min(soa.minimum))
    });
    soa.min()
}

#[cfg(test)]
mod tests;
