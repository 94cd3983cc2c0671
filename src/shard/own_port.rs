//! Two sockets that connect to each other's port at the same moment become one connection (RFC 9293,
//! section 3.5), and one socket can be both: a connect to a port of this host where nobody listens
//! meets itself if the kernel happens to choose that port for the own end too (C8). It looks like a
//! server that echoes. So where it could happen, the port is kept out of the kernel's choice.
//!
//! Promise: a connect to an own address never comes from the port that it goes to, from Linux 6.3
//! on (`IP_LOCAL_PORT_RANGE`, ip(7)); other connects do not pay for that.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::host::Host;
use crate::time::Tick;

use super::routes::Routes;

/// What the kernel's choice is where it does not say (ip(7), `ip_local_port_range`).
const USUAL: RangeInclusive<u16> = 32_768..=60_999;

/// The ports that the kernel chooses from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalPorts(RangeInclusive<u16>);

impl LocalPorts {
    /// From the words of `ip_local_port_range`: `32768 60999`.
    pub(crate) fn new(text: &str) -> Self {
        let mut ports = text.split_whitespace().map(str::parse);
        match (ports.next(), ports.next()) {
            (Some(Ok(first)), Some(Ok(last))) if first <= last => Self(first..=last),
            _ => Self(USUAL),
        }
    }

    /// The larger part of them on one side of `port`; nothing if `port` is not one of them, or the
    /// only one.
    fn beside(&self, port: u16) -> Option<RangeInclusive<u16>> {
        let (first, last) = (*self.0.start(), *self.0.end());
        if !self.0.contains(&port) || first == last {
            return None;
        }
        if port - first > last - port {
            return Some(first..=port - 1);
        }
        Some(port + 1..=last)
    }

    /// The ports that a connect to `to` may come from, if they are not all.
    pub(crate) fn for_connect(
        &self,
        to: std::net::SocketAddr,
        is_own: impl FnOnce(IpAddr) -> bool,
    ) -> Option<RangeInclusive<u16>> {
        self.beside(to.port()).filter(|_| is_own(to.ip()))
    }
}

impl Routes {
    /// Whether `to` is an address of this host: it would be its own sender.
    pub(crate) fn is_own(&mut self, now: Tick, host: &Host, to: IpAddr) -> bool {
        to.is_loopback() || self.source_of(now, to, host) == Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood_and_others_mean_the_usual_range() {
        assert_eq!(
            LocalPorts::new("1024\t65535\n"),
            LocalPorts(1024..=u16::MAX)
        );
        for odd in ["", "5", "a b", "9 8", "1 70000"] {
            assert_eq!(LocalPorts::new(odd), LocalPorts(USUAL), "{odd:?}");
        }
    }

    #[test]
    fn c8_the_port_itself_is_never_left_and_the_larger_side_is() {
        let ports = LocalPorts(100..=110);
        assert_eq!(ports.beside(99), None);
        assert_eq!(ports.beside(111), None);
        assert_eq!(ports.beside(100), Some(101..=110));
        assert_eq!(ports.beside(104), Some(105..=110));
        assert_eq!(ports.beside(106), Some(100..=105));
        assert_eq!(ports.beside(110), Some(100..=109));
        assert_eq!(LocalPorts(7..=7).beside(7), None);
        let edge = LocalPorts(u16::MAX - 1..=u16::MAX);
        assert_eq!(edge.beside(u16::MAX), Some(u16::MAX - 1..=u16::MAX - 1));
        assert_eq!(edge.beside(u16::MAX - 1), Some(u16::MAX..=u16::MAX));
    }

    #[test]
    fn c8_only_own_addresses_are_asked_for_and_only_at_ports_of_the_range() {
        let ports = LocalPorts(100..=110);
        let to = |port| (IpAddr::from([192, 0, 2, 1]), port).into();
        assert_eq!(ports.for_connect(to(105), |_| true), Some(106..=110));
        assert_eq!(ports.for_connect(to(105), |_| false), None);
        assert_eq!(ports.for_connect(to(80), |_| panic!("asked")), None);
    }

    #[test]
    fn c8_loopback_is_own_and_so_is_what_is_its_own_source() {
        let mut routes = Routes::default();
        let mut is_own = |to: IpAddr| routes.is_own(Tick::ZERO, &Host::Thread, to);
        assert!(is_own([127, 9, 9, 9].into()));
        assert!(is_own("::1".parse().unwrap()));
        // Documentation's addresses (RFC 5737) are nobody's.
        assert!(!is_own([192, 0, 2, 1].into()));
    }
}
