use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> String {
    match text.parse::<IpPrefix>() {
        Ok(prefix) => prefix.to_string(),
        Err(error) => error.to_string().split_once(": ").unwrap().1.to_owned(),
    }
}

#[test]
fn s12_a_prefix_is_read_whole_or_refused() {
    let table = [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("FC00::/7", "fc00::/7"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("10.0.0.0/33", "the length must be 0 to 32"),
        ("::/129", "the length must be 0 to 128"),
        ("10.0.0.0/08", "the length must be 0 to 32"),
        ("10.0.0.0/+8", "the length must be 0 to 32"),
        ("10.0.0.0/", "the length must be 0 to 32"),
        ("10.0.0.0/8 ", "the length must be 0 to 32"),
        (
            "fc01::/7",
            "bits after the first 7 are set, expected fc00::/7",
        ),
        ("10/8", "what is before the / is not an address"),
        ("", "what is before the / is not an address"),
        ("010.0.0.0/8", "what is before the / is not an address"),
    ];
    for (text, expected) in table {
        assert_eq!(prefix(text), expected, "{text}");
    }
    let long = "x".repeat(10_000) + "\n";
    assert!(long.parse::<IpPrefix>().unwrap_err().to_string().len() < 200);
}

#[test]
fn d33_denied_addresses_are_denied_in_every_dress() {
    let deny = ["127.0.0.0/8", "::1", "169.254.0.0/16", "fe80::/10"];
    let options = ResolverOptions {
        deny: deny.iter().map(|text| text.parse().unwrap()).collect(),
        ..ResolverOptions::default()
    };
    let denied = [
        "127.0.0.1",
        "127.255.255.255",
        "::ffff:127.0.0.1",
        "::1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
    ];
    for address in denied {
        assert!(!options.allows(ip(address)), "{address}");
    }
    for address in ["126.255.255.255", "128.0.0.0", "::2", "fec0::1"] {
        assert!(options.allows(ip(address)), "{address}");
    }
    assert!(ResolverOptions::default().allows(ip("127.0.0.1")));
}

#[test]
fn ports_that_are_avoided_are_not_used() {
    let options = ResolverOptions {
        avoid_ports: vec![5353..=5353, 8000..=8999],
        ..ResolverOptions::default()
    };
    for port in [0, 53, 1023, 5353, 8000, 8999] {
        assert!(!options.allows_port(port), "{port}");
    }
    for port in [1024, 5352, 5354, 9000, 65_535] {
        assert!(options.allows_port(port), "{port}");
    }
}

#[test]
fn s12_a_table_takes_names_alone_and_a_bounded_number_of_addresses() {
    let refused = |name: &str| {
        let table = NameTable::new().with(name, [ip("192.0.2.1")]);
        table.unwrap_err().to_string()
    };
    assert_eq!(refused("192.0.2.1"), "192.0.2.1 is an address, not a name");
    assert_eq!(refused("[::1]"), "::1 is an address, not a name");
    assert_eq!(
        refused("a\r\nb"),
        r#"endpoint "a\r\nb": byte 1 (0x0d) is not allowed in a host name"#
    );
    let many = (0..65).map(|n| IpAddr::from([192, 0, 2, n]));
    let error = NameTable::new().with("a.test", many).unwrap_err();
    assert_eq!(error.to_string(), "a.test has more than 64 addresses");

    let table = NameTable::new()
        .with("A.test", [ip("192.0.2.1"), ip("192.0.2.1")])
        .and_then(|table| table.with("a.test.", [ip("::1")]))
        .unwrap();
    assert_eq!(table.get("a.test"), [ip("192.0.2.1"), ip("::1")]);
    assert!(table.get("b.test").is_empty() && table.get("\0").is_empty());
}

#[test]
fn an_answer_keeps_64_places_each_once() {
    let mut answered = Answered::new(Duration::from_secs(1));
    for n in 0..=255 {
        answered = answered
            .with_address([192, 0, 2, n].into())
            .with_address([192, 0, 2, 0].into());
    }
    assert_eq!(answered.targets(80).count(), 64);
    let answered = Answered::new(Duration::ZERO).with_target(([192, 0, 2, 1], 81).into(), 2, 3);
    let targets: Vec<Target> = answered.targets(80).collect();
    assert_eq!(
        targets,
        [Target {
            address: ([192, 0, 2, 1], 81).into(),
            priority: 2,
            group: 0,
            weight: 3
        }]
    );
}

proptest! {
    #[test]
    fn a_prefix_reads_itself_and_holds_its_first_address(bits: u128, len in 0u8..=128, v4: bool) {
        let (address, len) = match v4 {
            true => (IpAddr::V4((bits as u32).into()), len % 33),
            false => (IpAddr::V6(bits.into()), len),
        };
        let refused = format!("{address}/{len}").parse::<IpPrefix>();
        let first = match &refused {
            Ok(_) => format!("{address}/{len}"),
            Err(error) => error.to_string().rsplit_once(' ').unwrap().1.to_owned(),
        };
        let prefix: IpPrefix = first.parse().unwrap();
        prop_assert!(prefix.contains(address));
        prop_assert_eq!(prefix.to_string().parse::<IpPrefix>().unwrap(), prefix);
    }
}
