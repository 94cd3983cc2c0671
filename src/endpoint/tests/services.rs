//! Endpoints whose records say where they are: SRV and HTTPS.

use std::collections::HashSet;

use super::super::{Endpoint, Via};
use super::{canonical, refusal};

#[test]
fn s7_services_and_https_hosts_have_one_form_that_round_trips() {
    let table = [
        ("srv:_redis._tcp.example.com", "srv:_redis._tcp.example.com"),
        ("SRV:_Redis._TCP.Example.COM", "srv:_redis._tcp.example.com"),
        (
            "srv:_redis._tcp.example.com.",
            "srv:_redis._tcp.example.com.",
        ),
        (
            "srv:_web._primary.service.consul",
            "srv:_web._primary.service.consul",
        ),
        ("srv:_ldap._tcp.dc._msdcs.a", "srv:_ldap._tcp.dc._msdcs.a"),
        (
            "srv:_x-1._tcp.b\u{fc}cher.example",
            "srv:_x-1._tcp.xn--bcher-kva.example",
        ),
        ("https:Example.com", "https:example.com"),
        ("HTTPS:example.com.", "https:example.com."),
        ("https:localhost.", "https:localhost"),
        ("https:b\u{fc}cher.example", "https:xn--bcher-kva.example"),
        // Hosts that are called so.
        ("srv:80", "srv:80"),
        ("https:443", "https:443"),
        ("https.:443", "https.:443"),
        ("srv.example:80", "srv.example:80"),
    ];
    for (text, expected) in table {
        assert_eq!(canonical(text), expected, "{text}");
        assert_eq!(canonical(expected), expected);
    }
}

#[test]
fn s12_odd_services_and_https_hosts_are_refused_with_the_reason() {
    let label = |index| {
        format!(
            "label {index} of the service name must be an underscore, then letters, digits and \
             inner hyphens, as in _redis._tcp.example.com"
        )
    };
    let no_name = "the host is an IP address, and SRV and HTTPS records are looked up at names";
    let port =
        |at| format!("byte {at} starts a port, and here the records of the name say which port");
    let byte = |at, byte| format!("byte {at} (0x{byte:02x}) is not allowed in a host name");
    let table = [
        ("srv:redis._tcp.example.com", label(0)),
        ("srv:_redis.tcp.example.com", label(1)),
        ("srv:_redis", label(1)),
        ("srv:_._tcp.example.com", label(0)),
        ("srv:__redis._tcp.example.com", label(0)),
        ("srv:_re_dis._tcp.example.com", label(0)),
        ("srv:_-a._tcp.example.com", label(0)),
        ("srv:_redis._.example.com", label(1)),
        ("srv:_redis._tcp", "no name follows the service and its protocol, as in _redis._tcp.example.com".into()),
        ("srv:_redis._tcp.", "no name follows the service and its protocol, as in _redis._tcp.example.com".into()),
        ("srv:_dns._udp.example.com", "the service is one over another protocol than TCP".into()),
        ("srv:_redis._tcp.example.com:80", port(27)),
        ("https:example.com:8443", port(17)),
        ("https:127.0.0.1", no_name.into()),
        ("https:[::1]", no_name.into()),
        ("https:::1", no_name.into()),
        ("srv:_a._tcp.b c", byte(13, 0x20)),
        ("https://example.com", byte(6, 0x2f)),
        ("https:a\0", byte(7, 0)),
        ("https:.", "the host is empty".into()),
        ("https:a..b", "label 1 of the host name is empty".into()),
        ("https:", "the port is missing, expected host:port".into()),
        ("srv:", "the port is missing, expected host:port".into()),
        ("https:127.1", "the host ends in a number but is not an IPv4 address of four decimal numbers without leading zeros".into()),
    ];
    for (text, reason) in table {
        assert_eq!(refusal(text), format!("endpoint {text:?}: {reason}"));
    }
    let error = Endpoint::srv("_a._tcp.b c").unwrap_err().to_string();
    assert_eq!(
        error,
        format!("endpoint \"_a._tcp.b c\": {}", byte(9, 0x20))
    );
    let error = Endpoint::https("a:443").unwrap_err().to_string();
    assert_eq!(error, format!("endpoint \"a:443\": {}", port(1)));
}

#[test]
fn s7_what_is_found_in_another_way_is_another_endpoint() {
    let all = [
        Endpoint::https("_a._tcp.b.example").unwrap(),
        Endpoint::https("_a._tcp.b.example.").unwrap(),
        Endpoint::srv("_a._tcp.b.example").unwrap(),
        Endpoint::srv("_a._tcp.b.example.").unwrap(),
        Endpoint::new("_a._tcp.b.example", 443).unwrap(),
        Endpoint::new("_a._tcp.b.example.", 443).unwrap(),
    ];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert!(
        all.iter()
            .all(|endpoint| endpoint.host() == "_a._tcp.b.example")
    );
    let ways = all.each_ref().map(Endpoint::via);
    assert_eq!(
        [ways[0], ways[2], ways[4]],
        [Via::Https, Via::Srv, Via::Address]
    );
    assert_eq!(
        all.each_ref().map(Endpoint::port),
        [443, 443, 0, 0, 443, 443]
    );
    let absolute = all.each_ref().map(Endpoint::is_absolute);
    assert_eq!(absolute, [false, true, false, true, false, true]);
    assert!(all.iter().all(|endpoint| endpoint.socket_addr().is_none()));
    let kept = all[2].with_partition("a");
    assert_eq!((kept.via(), kept == all[2]), (Via::Srv, false));
}

/// A name that no server is ever asked for has no search list either.
#[test]
fn s7_a_dot_at_the_end_counts_where_a_search_list_could() {
    for (text, is_absolute) in [
        ("a.example.:1", true),
        ("a.:1", true),
        ("a.example:1", false),
        ("localhost.:1", false),
        ("a.localhost.:1", false),
        ("a.invalid.:1", false),
        ("127.0.0.1:1", false),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.is_absolute(), is_absolute, "{text}");
        assert!(!endpoint.host().ends_with('.'));
    }
}
