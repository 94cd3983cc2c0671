//! Which of this host's addresses would be the sender's is the routing table's to say. A datagram
//! socket that is connected and never used asks it (RFC 6724, section 5; getsockname(2)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// A port that says nothing: no packet goes there (discard, RFC 863).
const NO_MATTER: u16 = 9;

/// The address from which this host would send to `to`; `None` if it has no way there. Four system
/// calls, none of which waits or sends.
pub(crate) fn source_of(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, NO_MATTER)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback_and_multicast_port_zero_from_nowhere() {
        let to = IpAddr::from([127, 0, 0, 5]);
        let source = source_of(to).unwrap();
        assert!(source.is_loopback());
        // No address of a host that has none of its family, or no route.
        let nowhere = IpAddr::from([0xFE80, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            source_of(nowhere),
            None,
            "a link-local address without its link"
        );
    }
}
