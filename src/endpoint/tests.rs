mod services;

use std::collections::HashSet;
use std::net::{SocketAddr, SocketAddrV6};

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => endpoint.to_string(),
        Err(error) => panic!("{error}"),
    }
}

fn refusal(text: &str) -> String {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => panic!("{text:?} was read as {endpoint}"),
        Err(error) => error.to_string(),
    }
}

/// Every spelling of one host has one form.
#[test]
fn s7_spellings_of_one_host_have_one_form() {
    let long_label = "a".repeat(63);
    let table = [
        ("github.io:443", "github.io:443"),
        ("GitHub.IO:443", "github.io:443"),
        ("GitHub.IO.:443", "github.io.:443"),
        ("localhost.:80", "localhost:80"),
        ("A.LocalHost.:80", "a.localhost:80"),
        ("a.onion.:80", "a.onion:80"),
        ("localhost:1", "localhost:1"),
        (
            "_http._tcp.example.org:65535",
            "_http._tcp.example.org:65535",
        ),
        ("r3---sn-abc.example:80", "r3---sn-abc.example:80"),
        ("BÜCHER.example:80", "xn--bcher-kva.example:80"),
        ("xn--bcher-kva.EXAMPLE:80", "xn--bcher-kva.example:80"),
        ("XN--BCHER-KVA.example:80", "xn--bcher-kva.example:80"),
        ("bücher。example。:80", "xn--bcher-kva.example.:80"),
        ("ｅｘａｍｐｌｅ.org:80", "example.org:80"),
        ("a\u{ad}b.example:80", "ab.example:80"),
        ("0x7f.example:80", "0x7f.example:80"),
        ("1.2.3.example:80", "1.2.3.example:80"),
        ("0xyz:80", "0xyz:80"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
        ("[0:0:0:0:0:0:0:1]:80", "[::1]:80"),
        ("[2001:DB8::00A0]:80", "[2001:db8::a0]:80"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7:80"),
        ("[::ffff:c000:207]:80", "192.0.2.7:80"),
        ("[fe80::1%2]:80", "[fe80::1%2]:80"),
    ];
    for (text, expected) in table {
        assert_eq!(canonical(text), expected, "{text}");
    }
    let text = format!(
        "{long_label}.{long_label}.{long_label}.{}:1",
        "b".repeat(61)
    );
    assert_eq!(canonical(&text), text);
}

/// A byte that has no place in a host or a port is named with its position.
#[test]
fn s12_a_byte_out_of_place_is_named() {
    let byte = |text: &str, at: usize, byte: &str, place: &str| {
        let expected = format!("endpoint {text:?}: byte {at} ({byte}) is not allowed in a {place}");
        assert_eq!(refusal(text), expected);
    };
    byte("a b:80", 1, "0x20", "host name");
    byte("a\0:80", 1, "0x00", "host name");
    byte("a\r\nb:80", 1, "0x0d", "host name");
    byte("\na:80", 0, "0x0a", "host name");
    byte("a\u{7f}:80", 1, "0x7f", "host name");
    byte("a\\b:80", 1, "0x5c", "host name");
    byte("user@a:80", 4, "0x40", "host name");
    byte("http://a:80", 5, "0x2f", "host name");
    byte("a%20b:80", 1, "0x25", "host name");
    byte("a]:80", 1, "0x5d", "host name");
    byte("a:80/", 4, "0x2f", "port");
    byte("a:80\n", 4, "0x0a", "port");
    byte("a:+80", 2, "0x2b", "port");
    byte("a: 80", 2, "0x20", "port");
    byte("a:８", 2, "0xef", "port");
    byte("[::1]:8x", 7, "0x78", "port");
}

const NO_PORT: &str = "the port is missing, expected host:port";
const RANGE: &str = "the port at byte 2 must be 1 to 65535 without leading zeros";
const NUMBER: &str = "the host ends in a number but is not an IPv4 address of four decimal numbers \
                  without leading zeros";
const ZONE: &str = "the zone must be the number of an interface, on a link-local address, \
                as in [fe80::1%2]:80";
const REFUSED: &[(&str, &str)] = &[
    ("", "the host is empty"),
    (":80", "the host is empty"),
    (".:80", "the host is empty"),
    ("\u{ad}:80", "the host is empty"),
    ("a", NO_PORT),
    ("a:", NO_PORT),
    ("[::1]", NO_PORT),
    ("[::1]:", NO_PORT),
    ("a:0", RANGE),
    ("a:65536", RANGE),
    ("a:080", RANGE),
    ("a:99999999999999999999", RANGE),
    (
        "::1:80",
        "byte 0 is a colon inside the host; an IPv6 address stands in brackets, as in [::1]:80",
    ),
    ("[::1:80", "byte 0 opens a bracket that is never closed"),
    (
        "[::1]80",
        "byte 5 follows the closing bracket and does not start a port",
    ),
    (
        "[::1].:80",
        "byte 5 follows the closing bracket and does not start a port",
    ),
    ("[127.0.0.1]:80", "the host is not an IPv6 address"),
    ("[a]:80", "the host is not an IPv6 address"),
    ("[]:80", "the host is not an IPv6 address"),
    ("[::1 ]:80", "the host is not an IPv6 address"),
    ("[fe80::1%eth0]:80", ZONE),
    ("[fe80::1%0]:80", ZONE),
    ("[fe80::1%02]:80", ZONE),
    ("[fe80::1%]:80", ZONE),
    ("[fe80::1%+2]:80", ZONE),
    ("[fe80::1%2%3]:80", ZONE),
    ("[fe80::1%4294967296]:80", ZONE),
    ("[::1%2]:80", ZONE),
    ("127.1:80", NUMBER),
    ("127.0.0.1.:80", NUMBER),
    ("2130706433:80", NUMBER),
    ("0x7f000001:80", NUMBER),
    ("0X7F000001:80", NUMBER),
    ("0x:80", NUMBER),
    ("0x7f.0.0.0x1:80", NUMBER),
    ("010.0.0.1:80", NUMBER),
    ("1.2.3.4.5:80", NUMBER),
    ("256.0.0.1:80", NUMBER),
    ("example.1:80", NUMBER),
    ("１２７.0.0.1:80", NUMBER),
    ("a..b:80", "label 1 of the host name is empty"),
    (".a:80", "label 0 of the host name is empty"),
    ("a..:80", "label 1 of the host name is empty"),
    (
        "-a:80",
        "label 0 of the host name starts or ends with a hyphen",
    ),
    (
        "b.a-:80",
        "label 1 of the host name starts or ends with a hyphen",
    ),
    (
        "a℀b:80",
        "the host is not a valid international name (UTS 46)",
    ),
    (
        "xn--a:80",
        "the host is not a valid international name (UTS 46)",
    ),
    (
        "xn--example-.com:80",
        "the host is not a valid international name (UTS 46)",
    ),
    (
        "a\u{202e}b:80",
        "the host is not a valid international name (UTS 46)",
    ),
    (
        "a：80",
        "the host is not a valid international name (UTS 46)",
    ),
    (
        "a：b:80",
        "the host is not a valid international name (UTS 46)",
    ),
];
/// Odd texts are refused, with the reason.
#[test]
fn s12_odd_texts_are_refused_with_the_reason() {
    for (text, reason) in REFUSED {
        assert_eq!(refusal(text), format!("endpoint {text:?}: {reason}"));
    }
}

#[test]
fn lengths_are_those_of_the_wire_form() {
    let label = "a".repeat(64);
    let long_label = "label 0 of the host name has 64 bytes, must be 1 to 63";
    assert!(refusal(&format!("{label}:80")).ends_with(long_label));
    let name = format!("{}b.c", "a123456789.".repeat(23));
    assert_eq!(name.len(), 256);
    let long_name = "the host name has 256 bytes, must be 1 to 253";
    assert!(refusal(&format!("{name}:80")).ends_with(long_name));
    let umlauts = "ü".repeat(60);
    assert!(refusal(&format!("{umlauts}:80")).contains("label 0 of the host name has"));
}

#[test]
fn s12_errors_are_escaped_short_and_of_kind_invalid_input() {
    let text = format!("\x1b[31m{}:80", "é".repeat(10_000));
    let error = Error::from(text.parse::<Endpoint>().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let line = error.to_string();
    assert!(line.starts_with(r#"endpoint "\u{1b}[31mé"#), "{line}");
    assert!(
        line.chars().count() < 200 && !line.contains(char::is_control),
        "{line}"
    );
}

#[test]
fn a_host_and_a_port_may_come_apart() {
    let new = |host: &str, port| Endpoint::new(host, port).map(|endpoint| endpoint.to_string());
    assert_eq!(new("A.example.", 80).unwrap(), "a.example.:80");
    assert_eq!(new("::1", 80).unwrap(), "[::1]:80");
    assert_eq!(new("[::1]", 80).unwrap(), "[::1]:80");
    let refused = [
        (
            "a b",
            80,
            r#"endpoint "a b": byte 1 (0x20) is not allowed in a host name"#,
        ),
        ("a", 0, r#"endpoint "a": port is 0, must be 1 to 65535"#),
        (
            "a:80",
            80,
            r#"endpoint "a:80": the host is not an IPv6 address"#,
        ),
        (
            "[::1]:80",
            80,
            "endpoint \"[::1]:80\": byte 5 follows the closing bracket and does not \
                          start a port",
        ),
        ("", 80, r#"endpoint "": the host is empty"#),
    ];
    for (host, port, message) in refused {
        assert_eq!(new(host, port).unwrap_err().to_string(), message);
    }
}

#[test]
fn every_conversion_leads_to_the_same_endpoint() {
    let endpoint = Endpoint::new("localhost", 80).unwrap();
    assert_eq!(Endpoint::try_from("localhost:80").unwrap(), endpoint);
    assert_eq!(
        Endpoint::try_from("localhost:80".to_owned()).unwrap(),
        endpoint
    );
    assert_eq!(
        Endpoint::try_from(&"localhost:80".to_owned()).unwrap(),
        endpoint
    );
    assert_eq!(Endpoint::try_from(("localhost", 80)).unwrap(), endpoint);
    assert_eq!(Endpoint::from(&endpoint), endpoint);
}

#[test]
fn s7_a_socket_address_becomes_the_endpoint_of_its_text() {
    let table = [
        "127.0.0.1:80",
        "[::1]:80",
        "[fe80::1%2]:80",
        "[::ffff:127.0.0.1]:80",
    ];
    for text in table {
        let address: SocketAddr = text.parse().unwrap();
        let endpoint = Endpoint::from(address);
        assert_eq!(endpoint, text.parse().unwrap());
        assert_eq!(
            endpoint
                .socket_addr()
                .map(|canonical| canonical.ip().to_canonical()),
            Some(address.ip().to_canonical())
        );
    }
    let labelled = SocketAddrV6::new("::1".parse().unwrap(), 80, 7, 3);
    assert_eq!(
        Endpoint::from(SocketAddr::V6(labelled)),
        "[::1]:80".parse().unwrap()
    );
    let zoned: Endpoint = "[fe80::1%2]:80".parse().unwrap();
    assert_eq!(zoned.socket_addr(), Some("[fe80::1%2]:80".parse().unwrap()));
    assert_eq!(zoned.host(), "fe80::1%2");
}

#[test]
fn s6_s7_a_name_is_never_equal_to_an_address_nor_one_partition_to_another() {
    let name: Endpoint = "localhost:80".parse().unwrap();
    assert_eq!(name.socket_addr(), None);
    let all = [
        "127.0.0.1:80".parse().unwrap(),
        "[::1]:80".parse().unwrap(),
        "localhost:81".parse().unwrap(),
        name.with_partition("a"),
        name.with_partition("b".to_owned()),
        name.with_partition(""),
        name.clone(),
    ];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(all[3].to_string(), "localhost:80");
    assert_eq!(
        format!("{:?}", all[3]),
        r#"Endpoint(localhost:80, Partition("a"))"#
    );
    assert_eq!(all[3].partition().map(Partition::as_str), Some("a"));
    assert_eq!(format!("{name:?}"), "Endpoint(localhost:80)");
}

/// Texts near the border between good and bad, which uniform strings never come near.
fn odd_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z0-9]{1,5}",
        "[A-Z]",
        "[0-9]{1,3}",
        "0x[0-9a-f]{0,4}",
        "xn--[a-z0-9]{1,6}",
        Just(".".to_owned()),
        Just(":".to_owned()),
        Just("::".to_owned()),
        Just("-".to_owned()),
        Just("_".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("%".to_owned()),
        Just(":80".to_owned()),
        Just("srv:".to_owned()),
        Just("https:".to_owned()),
        Just("_a._tcp.".to_owned()),
        Just("ffff".to_owned()),
        Just("fe80::".to_owned()),
        "[\u{0}-\u{20}/@\\\\]",
        "[äß。．：１\u{ad}\u{200d}\u{202e}℀İ]",
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// What holds for every text: it is refused with a clean message, or it has a canonical form that
/// is read again as the same endpoint.
fn check_text(text: &str) -> Result<(), TestCaseError> {
    let endpoint: Endpoint = match text.parse() {
        Ok(endpoint) => endpoint,
        Err(error) => {
            prop_assert!(!error.to_string().contains(char::is_control));
            return Ok(());
        }
    };
    let shown = endpoint.to_string();
    prop_assert_eq!(&shown.parse::<Endpoint>().unwrap(), &endpoint);
    prop_assert_eq!(shown.parse::<Endpoint>().unwrap().to_string(), shown);
    let dot = if endpoint.is_absolute() { "." } else { "" };
    let name = format!("{}{dot}", endpoint.host());
    let again = match endpoint.via() {
        Via::Address => Endpoint::new(&name, endpoint.port()),
        Via::Srv => Endpoint::srv(&name),
        Via::Https => Endpoint::https(&name),
    };
    prop_assert_eq!(&again.unwrap(), &endpoint);
    let host = endpoint.host();
    prop_assert!(host.is_ascii() && !host.contains(|c: char| c.is_ascii_uppercase()));
    prop_assert!(!host.contains(|c: char| c.is_control() || " /@\\".contains(c)));
    match endpoint.socket_addr() {
        Some(address) => prop_assert_eq!(Endpoint::from(address), endpoint),
        None => prop_assert!(host.len() <= 253 && !host.ends_with('.') && !host.contains(':')),
    }
    Ok(())
}

proptest! {
    #[test]
    fn s12_any_text_is_refused_cleanly_or_canonical(text in ".{0,40}") {
        check_text(&text)?;
    }

    #[test]
    fn s12_odd_texts_are_refused_cleanly_or_canonical(text in odd_text()) {
        check_text(&text)?;
        check_text(&format!("{text}:80"))?;
        let _ = Endpoint::new(&text, 80);
    }

    #[test]
    fn any_address_round_trips(ip in any::<std::net::IpAddr>(), port in 1..=u16::MAX) {
        let address = SocketAddr::new(ip, port);
        check_text(&address.to_string())?;
        prop_assert_eq!(Endpoint::from(address), address.to_string().parse::<Endpoint>().unwrap());
    }
}
