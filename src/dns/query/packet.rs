//! What of a packet an answer may need, read: addresses where they lie, other records by the decoder,
//! one after the other.
//!
//! Promise: nothing that the scan did not find is read; one record that is not what it says it is
//! bends the whole packet; an owner is the same as a name whatever the letters' case.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::dns::record::Kind;
use crate::dns::scan::{At, Scanned, labels};

/// Something in a record breaks the format.
#[derive(Debug)]
pub(super) struct Bent;

/// The records of a response that may belong to its answer.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    bytes: &'a [u8],
    addresses: Vec<Address>,
    /// Aliases, and what was asked for if that is not an address.
    pub(super) answers: Vec<Record>,
    /// Those that say how long an absence lasts.
    pub(super) authorities: Vec<Record>,
    pub(super) code: ResponseCode,
}

/// An address record.
#[derive(Debug)]
pub(super) struct Address {
    owner: usize,
    pub(super) ttl: u32,
    pub(super) ip: IpAddr,
}

impl<'a> Packet<'a> {
    /// Reads what `scanned` found in `bytes`, an answer to a question for records of `kind`.
    pub(super) fn read(
        bytes: &'a [u8],
        scanned: &Scanned,
        kind: Kind,
        code: ResponseCode,
    ) -> Result<Self, Bent> {
        let addresses = scanned.addresses.iter().map(|at| address(bytes, at, kind));
        let record = |at: &u16| {
            let mut decoder = BinDecoder::new(bytes).clone(*at);
            Record::read(&mut decoder).map_err(|_| Bent)
        };
        Ok(Self {
            bytes,
            addresses: addresses.collect::<Result<_, _>>()?,
            answers: scanned
                .answers
                .iter()
                .map(record)
                .collect::<Result<_, _>>()?,
            authorities: scanned
                .authorities
                .iter()
                .map(record)
                .collect::<Result<_, _>>()?,
            code,
        })
    }

    /// The addresses of `name`.
    pub(super) fn addresses_of(&self, name: &Name) -> impl Iterator<Item = &Address> {
        let name: Vec<&[u8]> = name.iter().collect();
        let is_owner = move |it: &&Address| {
            let mut owner = labels(self.bytes, it.owner);
            let is_next = |own: &&[u8]| owner.next().is_some_and(|it| it.eq_ignore_ascii_case(own));
            name.iter().all(is_next) && owner.next().is_none()
        };
        self.addresses.iter().filter(is_owner)
    }
}

fn address(bytes: &[u8], at: &At, kind: Kind) -> Result<Address, Bent> {
    let data = bytes.get(at.data.0..at.data.1).ok_or(Bent)?;
    let ip = match kind {
        Kind::A => <[u8; 4]>::try_from(data).map_err(|_| Bent)?.into(),
        _ => <[u8; 16]>::try_from(data).map_err(|_| Bent)?.into(),
    };
    Ok(Address {
        owner: at.owner,
        ttl: at.ttl,
        ip,
    })
}
