//! What a test says of names.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::SRV;

use super::NameServer;
use crate::error::{Error, ErrorKind, Result};
use crate::sim::World;

impl World {
    /// What the name servers say of `name` from now on. Without addresses the name exists and has
    /// none; a name that was never set does not exist.
    pub fn set_name(&self, name: &str, addresses: &[IpAddr], ttl: Duration) {
        self.zone.set(name, addresses, ttl);
    }

    /// Makes `name`, which was set before, another name for one that begins with `label`, whatever
    /// bytes that has; the addresses stay.
    pub fn set_alias(&self, name: &str, label: &[u8]) {
        self.zone.set_alias(name, label);
    }

    /// Makes `name` another name (CNAME) for `target`, which answers for itself if it was set.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `target` is no name.
    pub fn set_cname(&self, name: &str, target: &str, ttl: Duration) -> Result<()> {
        self.zone.set_link(name, read_name(target)?, ttl);
        Ok(())
    }

    /// Adds a service record (SRV, RFC 2782) to `name`; the target `.` says that there is no such
    /// service.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `target` is no name.
    pub fn add_srv(
        &self,
        name: &str,
        (priority, weight, port): (u16, u16, u16),
        target: &str,
        ttl: Duration,
    ) -> Result<()> {
        let record = SRV::new(priority, weight, port, read_name(target)?);
        self.zone.add_srv(name, record, ttl);
        Ok(())
    }

    /// Adds a record of any type to `name`: its number (65 is HTTPS) and its data, as it goes over
    /// the wire, well-formed or not.
    pub fn add_record(&self, name: &str, kind: u16, data: &[u8], ttl: Duration) {
        self.zone.add_record(name, kind, data, ttl);
    }

    /// Nothing is known of `name` any more: it does not exist.
    pub fn remove_name(&self, name: &str) {
        self.zone.remove(name);
    }

    /// The name servers, in the order in which the cores are told of them, unless their settings
    /// name others.
    pub fn name_servers(&self) -> &[NameServer] {
        &self.name_servers
    }

    /// How many questions the cores sent to the name servers, those included that were lost; each
    /// stream counts as one.
    pub fn questions(&self) -> usize {
        self.machine.questions()
    }
}

fn read_name(text: &str) -> Result<Name> {
    let name = Name::from_ascii(text).map(|mut name| {
        name.set_fqdn(true);
        name
    });
    name.map_err(|_| Error::new(ErrorKind::InvalidInput, format!("{text:?} is not a name")))
}
