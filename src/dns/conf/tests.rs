use proptest::prelude::*;

use super::*;

fn servers(text: &str) -> Vec<String> {
    let config = ResolverConfig::parse(text.as_bytes());
    config.servers.iter().map(ToString::to_string).collect()
}

fn search(text: &str, hostname: &str, local_domain: Option<&str>) -> Vec<String> {
    let around = Surroundings {
        hostname,
        local_domain,
        ..Surroundings::default()
    };
    ResolverConfig::read(text.as_bytes(), around).search
}

/// What differs from the defaults.
fn changed(text: &str, environment: Option<&str>) -> String {
    let around = Surroundings {
        options: environment,
        ..Surroundings::default()
    };
    let lines = |config: &ResolverConfig| {
        let text = format!("{config:#?}");
        text.lines()
            .map(str::trim)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let read = ResolverConfig::read(text.as_bytes(), around);
    let usual = lines(&ResolverConfig::default());
    let differs = lines(&read)
        .into_iter()
        .filter(|line| !usual.contains(line));
    differs.collect::<Vec<_>>().join(" ")
}

#[test]
fn servers_keep_their_order_and_their_zone() {
    let text = "nameserver 192.0.2.1\r\nnameserver 2001:db8::1\n; no\nnameserver fe80::1%3\n\
                nameserver fe80::2%no-such\nnameserver fe80::3%br-lan.7 # here\n\
                nameserver 192.0.2.1\n";
    let zone_of = |name: &str| (name == "br-lan.7").then_some(12);
    let around = Surroundings {
        zone_of: &zone_of,
        ..Surroundings::default()
    };
    let config = ResolverConfig::read(text.as_bytes(), around);
    let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
    let expected = [
        "192.0.2.1:53",
        "[2001:db8::1]:53",
        "[fe80::1%3]:53",
        "[fe80::3%12]:53",
    ];
    assert_eq!(servers, expected);
}

#[test]
fn without_a_usable_server_the_local_one_is_asked() {
    for text in ["", "nameserver\nnameserver nonsense\n", "search a.test"] {
        assert_eq!(servers(text), ["127.0.0.1:53"]);
    }
}

#[test]
fn every_value_is_brought_into_its_range() {
    let table = [
        (
            "options timeout:0 attempts:0 ndots:99",
            "timeout: 1s, attempts: 1, ndots: 15,",
        ),
        (
            "options timeout:4000000000 attempts:50",
            "timeout: 30s, attempts: 3,",
        ),
        ("options timeout:99999999999999999999", "timeout: 30s,"),
        ("options ndots:0", "ndots: 0,"),
        (
            "options ndots:-1 timeout:x attempts: ndots timeout:+3 ndots:1:2",
            "",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(changed(text, None), expected, "{text}");
    }
    let many: String = (0..20)
        .map(|n| format!("nameserver 192.0.2.{n}\n"))
        .collect();
    assert_eq!(self::servers(&many).len(), 8);
}

#[test]
fn options_are_switched_on_off_and_by_the_environment() {
    let table = [
        (
            "options rotate trust-ad\n",
            None,
            "rotate: true, trust_ad: true,",
        ),
        ("options use-vc", None, "use_tcp: true,"),
        ("options usevc", None, "use_tcp: true,"),
        ("options tcp", None, "use_tcp: true,"),
        ("options single-request", None, "single_request: true,"),
        (
            "options single-request-reopen",
            None,
            "single_request: true,",
        ),
        (
            "options no-aaaa strict-error",
            None,
            "no_aaaa: true, strict_error: true,",
        ),
        (
            "options no-tld-query\noptions no-reload",
            None,
            "no_tld_query: true, no_reload: true,",
        ),
        ("options edns0 unknown debug inet6 -unknown", None, ""),
        ("options -edns0", None, "edns: false,"),
        ("options rotate\noptions -rotate", None, ""),
        ("options -rotate rotate ; -rotate", None, "rotate: true,"),
        (
            "options rotate ndots:3",
            Some("-rotate ndots:2"),
            "ndots: 2,",
        ),
        ("optionsrotate\n option rotate\nOPTIONS rotate", None, ""),
        (
            "",
            Some("timeout:2 attempts:1"),
            "timeout: 2s, attempts: 1,",
        ),
    ];
    for (text, environment, expected) in table {
        assert_eq!(changed(text, environment), expected, "{text}");
    }
}

#[test]
fn the_last_list_wins_and_the_environment_over_it() {
    let table: [(&str, &str, Option<&str>, &[&str]); 12] = [
        (
            "search a.test B.test.\n",
            "h.c.test",
            None,
            &["a.test", "b.test"],
        ),
        ("search a.test\ndomain b.test\n", "", None, &["b.test"]),
        (
            "domain b.test\nsearch a.test c.test",
            "",
            None,
            &["a.test", "c.test"],
        ),
        ("search a.test\nsearch b.test", "", None, &["b.test"]),
        ("search a.test\nsearch\n", "", None, &["a.test"]),
        ("search a.test a.test A.TEST", "", None, &["a.test"]),
        ("search . a.test", "h.c.test", None, &["", "a.test"]),
        ("", "h.c.test", None, &["c.test"]),
        ("", "h", None, &[]),
        (
            "search a.test",
            "h.c.test",
            Some("x.test y.test"),
            &["x.test", "y.test"],
        ),
        ("search a.test", "h.c.test", Some(""), &[]),
        (
            "search a..b -- \u{e9}.test onion a.invalid",
            "",
            None,
            &["--"],
        ),
    ];
    for (text, hostname, environment, expected) in table {
        assert_eq!(search(text, hostname, environment), expected, "{text}");
    }
    let many: String = (0..100).map(|n| format!(" d{n}.test")).collect();
    assert_eq!(search(&format!("search{many}"), "", None).len(), 32);
}

#[test]
fn d30_a_broken_file_keeps_its_good_lines() {
    let text =
        b"\xef\xbb\xbfnameserver 192.0.2.1\r\n\0\0\nnameserver \xff\noptions bad:x timeout:x\n\
                 nameserver 192.0.2.2";
    assert_eq!(ResolverConfig::parse(text).servers.len(), 2);
    let huge = vec![b'x'; 2 * MAX_LEN];
    assert_eq!(ResolverConfig::parse(&huge), ResolverConfig::default());
}

#[test]
fn d30_a_file_of_a_megabyte_is_cut_after_a_whole_line() {
    let mut text = b"nameserver 192.0.2.1\n".to_vec();
    let comment = b"# nothing\n".repeat((MAX_LEN - text.len()) / 10);
    text.extend_from_slice(&comment);
    text.extend_from_slice(b"nameserver 192.0.2.2\n");
    text.resize(1024 * 1024, b'\n');
    let config = ResolverConfig::parse(&text);
    assert_eq!(config.servers, [SocketAddr::from(([192, 0, 2, 1], 53))]);
}

#[test]
fn d30_what_is_not_finished_is_told_from_a_file() {
    for good in [
        "nameserver 192.0.2.1",
        "\u{feff}# c\r\n search a.test\r\n",
        "options rotate\n",
    ] {
        assert_eq!(is_whole(good.as_bytes()), Ok(()), "{good}");
    }
    for bad in [
        "",
        "\n\n",
        "# only\n; comments\n",
        "names",
        "nameserver 192.0.2.1\n\0\0\0",
    ] {
        assert!(is_whole(bad.as_bytes()).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!ResolverConfig::parse(&bytes).servers.is_empty());
    }

    #[test]
    fn no_words_make_it_panic(
        text in "(nameserver|options|search|timeout:|%|:|-|[0-9]| |\n){0,40}",
    ) {
        let config = ResolverConfig::parse(text.as_bytes());
        prop_assert!((1..=MAX_SERVERS).contains(&config.servers.len()));
        prop_assert!((1..=MAX_ATTEMPTS).contains(&config.attempts));
        prop_assert!(config.search.len() <= MAX_SEARCH);
    }
}
