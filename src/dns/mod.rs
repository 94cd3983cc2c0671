//! A name's addresses come in packets that anyone may forge, cut or bend. This module turns names
//! into queries and packets into answers, and decides whom to ask next: bytes in, bytes out.
//!
//! Promise: no packet makes it panic or do unbounded work; a packet that does not answer what was
//! asked changes nothing; every lookup ends by its deadline, with addresses or an error that names
//! the server and what it said. Names are looked up as given, absolute: a search list is not used.

mod conf;
mod hosts;
mod lookup;
mod query;
mod scan;
mod special;

pub(crate) use conf::ResolverConfig;
pub(crate) use hosts::Hosts;
pub(crate) use lookup::{Action, Failed, Found, Lookup, QueryId};
pub(crate) use special::{Local, local};

/// How many addresses of one name are kept.
const MAX_ADDRESSES: usize = 64;
