//! What needs a pool that lives on: names whose addresses change, absences that are kept.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use ringpool::{Config, ErrorKind, Pool, Resolver, Result, Shards};

use super::ringpool::resolve;
use super::servers::{Kind, Server};
use super::zone::ORIGIN;

/// A pool on one shard that asks `server`.
fn pool(server: SocketAddr) -> Shards {
    let config = Config {
        resolver: Resolver::Servers(vec![server]),
        ..Config::default()
    };
    Shards::builder()
        .shards(NonZeroUsize::MIN)
        .config(config)
        .build()
        .unwrap()
}

/// The addresses of a name of the zone, sorted.
fn ask(shards: &Shards, name: &str) -> Result<BTreeSet<String>> {
    let name = format!("{name}.{ORIGIN}");
    let asked = shards.run_on(0, move || async move {
        let resolved = Pool::local()?.resolve((&*name, 80)).await?;
        Ok(resolved.addresses().map(|it| it.ip().to_string()).collect())
    });
    asked.unwrap().wait().unwrap()
}

fn ips(shards: &Shards, name: &str) -> BTreeSet<String> {
    ask(shards, name).unwrap()
}

fn set<const N: usize>(ips: [&str; N]) -> BTreeSet<String> {
    ips.into_iter().map(ToOwned::to_owned).collect()
}

/// The zone is loaded again with other addresses: they are known when the TTL has run out.
fn a_reloaded_zone_is_seen(kind: Kind) {
    let mut server = Server::start(kind, &[21, 22]);
    let shards = pool(server.address());
    assert_eq!(ips(&shards, "moved"), set(["192.0.2.21", "192.0.2.22"]));
    server.reload(&[31]);
    // Another process knows nothing of before.
    let name = format!("moved.{ORIGIN}");
    assert_eq!(resolve(server.address(), &name, None).ips(), ["192.0.2.31"]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while ips(&shards, "moved") != set(["192.0.2.31"]) {
        assert!(Instant::now() < deadline, "the old addresses stay");
        // bounded: by the deadline
        std::thread::sleep(Duration::from_millis(50));
    }
    shards.shutdown();
}

#[test]
fn d25_unbound_reloads_its_zone() {
    a_reloaded_zone_is_seen(Kind::Unbound);
}

#[test]
fn d25_named_reloads_its_zone() {
    a_reloaded_zone_is_seen(Kind::Named);
}

#[test]
fn d25_dnsmasq_comes_back_with_another_zone() {
    a_reloaded_zone_is_seen(Kind::Dnsmasq);
}

/// One family absent says nothing of the other, now and when it is known already.
#[test]
fn d21_a_family_that_is_absent_does_not_hide_the_other() {
    for kind in [Kind::Unbound, Kind::Named, Kind::Dnsmasq] {
        let server = Server::start(kind, &[21]);
        let shards = pool(server.address());
        for _known_already in [false, true] {
            assert_eq!(ips(&shards, "v4only"), set(["192.0.2.6"]), "{kind:?}");
            assert_eq!(ips(&shards, "v6only"), set(["2001:db8::7"]), "{kind:?}");
            let error = ask(&shards, "text").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Resolve);
            let text = error.to_string();
            assert!(
                text.contains("NODATA") && !text.contains("NXDOMAIN"),
                "{text}"
            );
        }
        shards.shutdown();
    }
}

/// Of 4000 addresses the same 64 are kept each time, and no more.
#[test]
fn d36_of_thousands_of_addresses_the_same_few_are_kept() {
    let server = Server::start(Kind::Unbound, &[21]);
    let dug = server.dig("huge", "A");
    assert_eq!((dug.data("A").len(), dug.was_cut), (4000, true));
    let all: BTreeSet<_> = dug.data("A").into_iter().collect();
    let name = format!("huge.{ORIGIN}");
    let first = resolve(server.address(), &name, Some("A"));
    assert_eq!(first.error(), None);
    let kept: BTreeSet<_> = first.ips().into_iter().collect();
    assert_eq!((kept.len(), first.ips().len()), (64, 64));
    assert!(kept.is_subset(&all));
    // unbound turns its records; another process draws other numbers.
    let again = resolve(server.address(), &name, Some("A")).ips();
    assert_eq!(again.into_iter().collect::<BTreeSet<_>>(), kept);
}

/// Parameters out of their order make the record malformed (RFC 9460 2.2): the host's addresses
/// are left.
#[test]
fn d34_a_malformed_https_record_leaves_the_host_itself() {
    let server = Server::start(Kind::Dnsmasq, &[21]);
    let resolved = resolve(server.address(), &format!("broken.{ORIGIN}"), Some("HTTPS"));
    assert_eq!(resolved.error(), None);
    assert_eq!(resolved.ips(), ["192.0.2.13"]);
    assert_eq!(resolved.addresses()[0].port, Some(443));
}
