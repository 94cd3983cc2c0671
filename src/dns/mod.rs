//! A name's addresses come in packets that anyone may forge, cut or bend. This module turns names
//! into queries and packets into answers, and decides whom to ask next: bytes in, bytes out.
//!
//! Promise: no packet makes it panic or do unbounded work; a packet that does not answer what was
//! asked changes nothing; every lookup ends by its deadline, with addresses or an error that names
//! the server and what it said.

#[cfg(any(test, fuzzing))]
pub(crate) mod bytes;
mod conf;
mod health;
mod hosts;
mod known;
mod lookup;
#[cfg(any(test, fuzzing))]
pub(crate) mod network;
mod nsswitch;
mod order;
mod port;
mod query;
mod record;
mod resolution;
mod scan;
mod search;
mod service;
mod sources;
mod special;

pub(crate) use conf::{MAX_LEN as RESOLV_CONF_MOST, ResolverConfig, Surroundings, is_whole};
pub(crate) use health::Health;
pub(crate) use hosts::{Hosts, MAX_LEN as HOSTS_MOST};
pub(crate) use known::{Known, Old};
pub(crate) use lookup::{Action, Lookup, QueryId, Transport};
pub(crate) use nsswitch::{MAX_LEN as NSSWITCH_MOST, SourceOrder};
pub(crate) use order::{Ranked, order};
pub(crate) use port::{Avoided, draw as draw_ports};
#[cfg(test)]
pub(crate) use record::Service;
pub(crate) use record::{Answer, Kind, Question, Records};
pub(crate) use resolution::{Outcome, Resolution, Want, Wanted, Whence};
pub(crate) use service::targets;
#[cfg(test)]
pub(crate) use sources::Local;
pub(crate) use sources::{Origin, Sources};

use crate::resolver::MAX_ADDRESSES;
