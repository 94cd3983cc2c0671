//! The names of the zone, what must be made of each, and what dig and ringpool do make of them.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::dig::Dug;
use super::ringpool::{Address, Resolved, resolve};
use super::servers::{Kind, Server};
use super::zone::{NEGATIVE_TTL, ORIGIN, TTL};

/// How a question ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Found { ips: BTreeSet<String>, ttl: u32 },
    NoData,
    NxDomain,
}

/// A name, a type of address, and how the question must end.
type Case = (&'static str, &'static str, End);

fn found<const N: usize>(ips: [&str; N], ttl: u32) -> End {
    let ips = ips.into_iter().map(ToOwned::to_owned).collect();
    let ttl = rounded(ttl);
    End::Found { ips, ttl }
}

/// What the zone says.
fn cases(kind: Kind) -> Vec<Case> {
    let mut cases = vec![
        (
            "four",
            "A",
            found(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"], TTL),
        ),
        ("four", "AAAA", End::NoData),
        ("both", "A", found(["192.0.2.5"], 120)),
        ("both", "AAAA", found(["2001:db8::5"], 240)),
        ("v4only", "A", found(["192.0.2.6"], 150)),
        ("v4only", "AAAA", End::NoData),
        ("v6only", "A", End::NoData),
        ("v6only", "AAAA", found(["2001:db8::7"], 160)),
        ("zero", "A", found(["192.0.2.9"], 0)),
        ("moved", "A", found(["192.0.2.21", "192.0.2.22"], 1)),
        ("alias3", "A", found(["192.0.2.6"], 70)),
        ("text", "A", End::NoData),
        ("text", "AAAA", End::NoData),
        ("missing", "A", End::NxDomain),
        ("missing", "AAAA", End::NxDomain),
    ];
    let large = (1..=60)
        .map(|last| format!("2001:db8::{:x}", 0x100 + last))
        .collect();
    cases.push((
        "large",
        "AAAA",
        End::Found {
            ips: large,
            ttl: 90,
        },
    ));
    // As an authority, dnsmasq follows the first alias alone.
    if kind != Kind::DnsmasqAuthority {
        cases.push(("alias", "A", found(["192.0.2.5"], 50)));
        cases.push(("alias", "AAAA", found(["2001:db8::5"], 50)));
    }
    // dnsmasq says nothing of the target, the others that there is none.
    let dangling = match kind {
        Kind::Unbound | Kind::Named => End::NxDomain,
        Kind::Dnsmasq | Kind::DnsmasqAuthority => End::NoData,
    };
    cases.push(("dangling", "A", dangling));
    if kind == Kind::DnsmasqAuthority {
        for (_, _, end) in &mut cases {
            if let End::Found { ttl, .. } = end {
                *ttl = NEGATIVE_TTL;
            }
        }
    }
    cases
}

/// Starts a server, and asks it for everything in both ways.
pub(crate) fn agree(kind: Kind) {
    let server = Server::start(kind, &[21, 22]);
    let mut wrong = Vec::new();
    for (name, of, expected) in cases(kind) {
        let dug = server.dig(name, of);
        let resolved = resolve(server.address(), &format!("{name}.{ORIGIN}"), Some(of));
        let what = format!("{kind:?}, {name} {of}");
        // 60 addresses of 28 bytes do not fit into 1232.
        check(
            &mut wrong,
            &format!("{what}, cut"),
            &dug.was_cut,
            &(name == "large"),
        );
        check(
            &mut wrong,
            &format!("{what}, by dig"),
            &dug_end(&dug, of),
            &expected,
        );
        if name == "zero" && kind != Kind::DnsmasqAuthority {
            check(&mut wrong, &format!("{what}, TTL"), &dug.ttl(), &Some(0));
        }
        check_negative_ttl(&mut wrong, kind, &what, &dug);
        match resolved_end(&resolved) {
            Ok(end) => check(&mut wrong, &format!("{what}, by ringpool"), &end, &expected),
            Err(reason) => wrong.push(format!("{what}, by ringpool: {reason}")),
        }
    }
    services(&server, &mut wrong);
    bindings(&server, &mut wrong);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn check<T: Debug + PartialEq>(wrong: &mut Vec<String>, what: &str, found: &T, expected: &T) {
    if found != expected {
        wrong.push(format!(
            "{what}:\n  found    {found:?}\n  expected {expected:?}"
        ));
    }
}

/// An absence has an SOA, and so a TTL, from all but dnsmasq when it is no authority.
fn check_negative_ttl(wrong: &mut Vec<String>, kind: Kind, what: &str, dug: &Dug) {
    if dug.answers.is_empty() {
        let expected = (kind != Kind::Dnsmasq).then_some(NEGATIVE_TTL);
        let ttl = dug.negative_ttl().map(rounded);
        check(wrong, &format!("{what}, negative TTL"), &ttl, &expected);
    }
}

fn dug_end(dug: &Dug, of: &str) -> End {
    let ips: BTreeSet<_> = dug.data(of).into_iter().collect();
    match (&*dug.status, ips.is_empty()) {
        ("NXDOMAIN", true) => End::NxDomain,
        ("NOERROR", true) => End::NoData,
        _ => End::Found {
            ips,
            ttl: rounded(dug.ttl().expect("there are records")),
        },
    }
}

fn resolved_end(resolved: &Resolved) -> Result<End, String> {
    match (resolved.status, resolved.error()) {
        (0, None) => Ok(End::Found {
            ips: resolved.ips().into_iter().collect(),
            ttl: rounded(resolved.ttl().ok_or("there is no TTL")?),
        }),
        (1, Some((_, text))) if !resolved.errors.contains(&text) => {
            Err(format!("{text:?} is not in {:?}", resolved.errors))
        }
        (1, Some((_, text))) if text.contains("NXDOMAIN") => Ok(End::NxDomain),
        (1, Some((_, text))) if text.contains("NODATA") => Ok(End::NoData),
        other => Err(format!("{other:?}")),
    }
}

/// unbound counts its TTLs down while the tests run, so those of the zone are ten seconds apart.
/// However short one is, ringpool asks once in a second at most.
fn rounded(ttl: u32) -> u32 {
    match ttl {
        0 | 1 => 1,
        ttl => ttl.next_multiple_of(10),
    }
}

/// `ip port priority weight`, sorted.
fn shown(addresses: &[Address]) -> Vec<String> {
    let show = |it: &Address| {
        let port = it.port.map_or("-".to_owned(), |port| port.to_string());
        format!("{} {port} {} {}", it.ip, it.priority, it.weight)
    };
    let mut shown: Vec<_> = addresses.iter().map(show).collect();
    shown.sort();
    shown
}

/// What must come of the SRV records of a name: lines as [`shown`], or an error with its kind.
type Leads = Result<Vec<&'static str>, (&'static str, &'static str)>;

fn services(server: &Server, wrong: &mut Vec<String>) {
    // Of 60 each of four addresses gets a quarter, all multiplied by four.
    let redis = vec![
        "192.0.2.1 6379 10 60",
        "192.0.2.2 6379 10 60",
        "192.0.2.3 6379 10 60",
        "192.0.2.4 6379 10 60",
        "192.0.2.5 6380 10 0",
        "192.0.2.6 6381 20 4",
        "2001:db8::5 6380 10 0",
    ];
    let table: Vec<(&str, Leads)> = vec![
        ("_redis._tcp", Ok(redis)),
        (
            "_none._tcp",
            Err(("NoService", "the service is not available")),
        ),
        ("_odd._tcp", Ok(vec!["192.0.2.6 7000 1 5"])),
        ("_portless._tcp", Err(("Resolve", "port"))),
        ("_missing._tcp", Err(("Resolve", "NXDOMAIN"))),
        ("_plain._tcp", Err(("Resolve", "NODATA"))),
        ("_alias._tcp", Ok(vec!["192.0.2.6 7001 0 5"])),
    ];
    for (name, expected) in table {
        let what = format!("{:?}, {name} SRV", server.kind());
        let resolved = resolve(server.address(), &format!("{name}.{ORIGIN}"), Some("SRV"));
        compare(wrong, &what, &resolved, &expected);
        let by_dig = dug_services(server, name);
        let ours = resolved.addresses().into_iter();
        let ours: BTreeSet<_> = ours.map(|it| (it.ip, it.port, it.priority)).collect();
        check(wrong, &format!("{what}, as dig says"), &ours, &by_dig);
        let addresses = resolved.addresses();
        if !addresses.is_sorted_by_key(|it| it.priority) {
            wrong.push(format!(
                "{what}: not in the order of priorities: {addresses:?}"
            ));
        }
    }
}

/// Where the SRV records lead according to dig.
fn dug_services(server: &Server, name: &str) -> BTreeSet<(String, Option<u64>, u64)> {
    let mut all = BTreeSet::new();
    for record in server.dig(name, "SRV").data("SRV") {
        let words: Vec<&str> = record.split(' ').collect();
        let [priority, _, port, target] = words[..] else {
            panic!("{record}")
        };
        let number = |text: &str| text.parse::<u64>().expect("dig prints numbers");
        let Some(target) = target.strip_suffix(&format!(".{ORIGIN}.")) else {
            continue;
        };
        if port == "0" {
            continue;
        }
        for kind in ["A", "AAAA"] {
            for ip in server.dig(target, kind).data(kind) {
                all.insert((ip, Some(number(port)), number(priority)));
            }
        }
    }
    all
}

fn compare(wrong: &mut Vec<String>, what: &str, resolved: &Resolved, expected: &Leads) {
    match (resolved.error(), expected) {
        (None, Ok(expected)) => {
            let expected: Vec<_> = expected.iter().map(|&it| it.to_owned()).collect();
            check(wrong, what, &shown(&resolved.addresses()), &expected);
            check(wrong, &format!("{what}, status"), &resolved.status, &0);
        }
        (Some((kind, text)), Err((of_kind, with_text))) => {
            check(wrong, &format!("{what}, status"), &resolved.status, &1);
            if kind != *of_kind || !text.contains(with_text) {
                wrong.push(format!("{what}: {kind}: {text}, expected {expected:?}"));
            }
        }
        other => wrong.push(format!("{what}: {other:?}")),
    }
}

fn bindings(server: &Server, wrong: &mut Vec<String>) {
    let web = vec![
        "192.0.2.10 443 2 1",
        "192.0.2.10 8443 0 1",
        "192.0.2.6 443 1 1",
    ];
    let named = vec![
        "192.0.2.10 443 2 1",
        "192.0.2.10 8443 0 1",
        "192.0.2.12 443 3 1",
        "192.0.2.6 443 1 1",
    ];
    let table: Vec<(&str, &[&str], Leads)> = vec![
        (
            "web",
            &["1 . alpn=\"h2\" port=8443", "2 v4only.real.test."],
            Ok(web),
        ),
        ("named", &["0 web.real.test."], Ok(named)),
        // A mandatory key that nobody knows: as if the record were not there.
        (
            "odd",
            &["1 four.real.test. mandatory=key65400 key65400=\"x\""],
            Ok(vec!["192.0.2.11 443 0 1"]),
        ),
        // No such records.
        ("v4only", &[], Ok(vec!["192.0.2.6 443 0 1"])),
        ("missing", &[], Err(("Resolve", "NXDOMAIN"))),
        ("text", &[], Err(("Resolve", "NODATA"))),
    ];
    for (name, records, expected) in table {
        let what = format!("{:?}, {name} HTTPS", server.kind());
        let mut dug = server.dig(name, "HTTPS").data("HTTPS");
        dug.sort();
        check(
            wrong,
            &format!("{what}, by dig"),
            &dug,
            &records.iter().map(|&it| it.to_owned()).collect(),
        );
        let resolved = resolve(server.address(), &format!("{name}.{ORIGIN}"), Some("HTTPS"));
        compare(wrong, &what, &resolved, &expected);
    }
}
