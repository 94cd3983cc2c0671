//! unbound, named and dnsmasq on loopback, each with the zone of `zone.rs`: what ringpool makes of
//! their answers is what the zone says, and what dig(1) makes of them.
//!
//! They are programs of the system, so these tests run when they are named alone:
//! `cargo test --features cli --test real_dns`. A program that is missing is a failure.

mod cases;
mod dig;
mod living;
mod ringpool;
mod servers;
mod zone;

use cases::agree;
use servers::Kind;

#[test]
fn d14_d21_d34_d35_unbound_dig_and_ringpool_agree() {
    agree(Kind::Unbound);
}

#[test]
fn d14_d21_d34_d35_named_dig_and_ringpool_agree() {
    agree(Kind::Named);
}

#[test]
fn d14_d21_d34_d35_dnsmasq_dig_and_ringpool_agree() {
    agree(Kind::Dnsmasq);
}

#[test]
fn d14_d21_d34_d35_dnsmasq_as_authority_dig_and_ringpool_agree() {
    agree(Kind::DnsmasqAuthority);
}
