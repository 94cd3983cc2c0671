//! Names: asked of a real name server on loopback, cached for all cores, balanced over all their
//! addresses.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use ringpool::{Config, ErrorKind, Pool, Protocol, Result, Stream};
use support::names::{NameServer, add};
use support::{Server, eventually_async, on_one_shard, shards, short_pauses};

/// An echo server on each of the four addresses, all at one port.
fn four_servers() -> (Vec<Server>, u16) {
    loop {
        let address = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 77, last));
        let first = Server::start(address(1), 0, support::echo);
        let port = first.address().port();
        let free = (2..=4).all(|last| std::net::TcpListener::bind((address(last), port)).is_ok());
        if free {
            let rest = (2..=4).map(|last| Server::start(address(last), port, support::echo));
            let servers = std::iter::once(first).chain(rest).collect();
            return (servers, port);
        }
    }
}

/// What each server has accepted, once it is `all` together: servers accept when they get to it.
fn accepted(servers: &[Server], all: usize) -> Vec<usize> {
    let count = || servers.iter().map(Server::accepted);
    support::eventually("all are accepted", || count().sum::<usize>() >= all);
    count().collect()
}

#[test]
fn a_name_is_asked_once_per_type_and_its_connections_balanced() {
    let names = NameServer::four(60);
    let (servers, port) = four_servers();
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(pool.get(("four.test", port)).await?);
        }
        let stats = pool.stats(("four.test", port))?;
        assert_eq!(stats.addresses.len(), 4);
        assert!(stats.addresses.iter().all(|at| at.open == 4), "{stats:?}");
        held.into_iter().for_each(ringpool::Conn::release);
        Ok(())
    });
    assert_eq!(accepted(&servers, 16), [4; 4]);
    assert_eq!(names.asked(), 2, "A and AAAA, once");
}

#[test]
fn cores_balance_on_what_all_of_them_hold_and_share_what_they_learned() {
    let names = NameServer::four(60);
    let (servers, port) = four_servers();
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    let shards = shards(2, config);
    let take = move || async move {
        let pool = Pool::local()?;
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(pool.get(("four.test", port)).await?);
        }
        held.into_iter().for_each(ringpool::Conn::release);
        Ok::<_, ringpool::Error>(())
    };
    shards.run_on(0, take).unwrap().wait().unwrap().unwrap();
    shards.run_on(1, take).unwrap().wait().unwrap().unwrap();
    assert_eq!(
        accepted(&servers, 20),
        [5; 4],
        "each core took two or three of each"
    );
    assert_eq!(names.asked(), 2, "the second core knew it from the first");
}

#[test]
fn c1_c15_one_dead_address_of_four_fails_no_get() {
    let names = NameServer::four(60);
    let (mut servers, port) = four_servers();
    drop(servers.remove(2));
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let mut held = Vec::new();
        for _ in 0..12 {
            held.push(pool.get(("four.test", port)).await?);
        }
        assert!(pool.stats(("four.test", port))?.errors >= 1);
        held.into_iter().for_each(ringpool::Conn::release);
        Ok(())
    });
}

#[test]
fn an_expired_name_is_asked_again() {
    let names = NameServer::four(1);
    let (_servers, port) = four_servers();
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let first = pool.get(("four.test", port)).await?;
        tokio::time::sleep(Duration::from_millis(1100)).await; // bounded: the TTL
        let second = pool.get(("four.test", port)).await?;
        first.release();
        second.release();
        Ok(())
    });
    assert_eq!(names.asked(), 4);
}

#[test]
fn k2_k3_a_get_dropped_while_its_name_is_asked_for_leaks_nothing() {
    let server = Server::echo();
    let port = server.address().port();
    let names = NameServer::new(|name, kind, message| {
        if kind == RecordType::A {
            add(message, name, 60, Ipv4Addr::LOCALHOST);
        }
        true
    });
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        for times in 1..30 {
            // A new name each time, so that each drop meets another point of the lookup.
            let host = format!("n{times}.test");
            drop(support::poll_times(pool.get((&*host, port)), times).await);
            pool.get((&*host, port)).await?.release();
            eventually_async("all settles", || {
                let stats = pool.stats((&*host, port)).unwrap();
                stats.waiters + stats.connecting + stats.in_use + stats.closing == 0
                    && stats.permits == stats.idle
            })
            .await;
        }
        Ok(())
    });
}

#[test]
fn a_name_that_does_not_exist_says_so() {
    let names = NameServer::four(60);
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    let server = names.address;
    on_one_shard(config, async move || {
        let error = Pool::local()?.get("nowhere.test:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("NXDOMAIN") && text.contains(&server.to_string()),
            "{text}"
        );
        assert!(text.contains("resolving nowhere.test"), "{text}");
        Ok(())
    });
}

#[test]
fn d2_a_silent_name_server_is_an_error_in_time() {
    let names = NameServer::new(|_, _, _| false);
    let config = Config {
        resolver: names.resolver(),
        get_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let error = Pool::local()?.get("silent.test:80").await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Resolve | ErrorKind::GetTimeout),
            "{error}"
        );
        Ok(())
    });
}

#[test]
fn many_names_at_once_wait_in_line_for_the_sockets() {
    let names = NameServer::new(|name, kind, message| {
        if kind == RecordType::A {
            add(message, name, 60, Ipv4Addr::LOCALHOST);
        }
        true
    });
    let server = Server::echo();
    let port = server.address().port();
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let pool = pool.clone();
                ringpool::spawn(async move {
                    pool.get((&*format!("n{n}.test"), port)).await?.release();
                    Ok::<_, ringpool::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    });
    assert_eq!(names.asked(), 200);
}

#[test]
fn c3_an_address_without_a_route_costs_no_get_and_not_the_name() {
    let server = Server::echo();
    let port = server.address().port();
    let names = NameServer::new(|name, kind, message| {
        match kind {
            RecordType::A => add(message, name, 60, Ipv4Addr::LOCALHOST),
            _ => {
                // A link-local address without its interface: EINVAL, or no such family.
                let address = rdata::AAAA::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
                let owner = Name::from_ascii(name).unwrap();
                message.add_answer(Record::from_rdata(owner, 60, RData::AAAA(address)));
            }
        }
        true
    });
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(pool.get(("odd.test", port)).await?);
        }
        let stats = pool.stats(("odd.test", port))?;
        // Where there is no way to comes last (RFC 6724, rule 1).
        assert_eq!(stats.errors, 0, "{stats:?}");
        assert_eq!(stats.created, 8);
        held.into_iter().for_each(ringpool::Conn::release);
        Ok(())
    });
    assert_eq!(names.asked(), 2);
}

#[test]
fn k2_who_waits_for_a_name_gets_it_although_the_first_to_ask_has_gone() {
    let (go, going) = std::sync::mpsc::channel::<()>();
    // Answers nothing before it is told to.
    let names = NameServer::new(move |name, kind, message| {
        if kind == RecordType::A {
            going.recv().unwrap();
            add(message, name, 60, Ipv4Addr::LOCALHOST);
        }
        true
    });
    let server = Server::echo();
    let port = server.address().port();
    let config = Config {
        resolver: names.resolver(),
        ..Config::default()
    };
    let asked = names.asked.clone();
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let first = ringpool::spawn({
            let pool = pool.clone();
            async move { pool.get(("late.test", port)).await.map(drop) }
        });
        eventually_async("the name is asked for", || asked.load(Ordering::SeqCst) > 0).await;
        let second = ringpool::spawn({
            let pool = pool.clone();
            async move { pool.get(("late.test", port)).await.map(drop) }
        });
        eventually_async("both wait", || {
            pool.stats(("late.test", port)).unwrap().waiters == 2
        })
        .await;
        first.abort();
        eventually_async("one has gone", || {
            pool.stats(("late.test", port)).unwrap().waiters == 1
        })
        .await;
        go.send(()).unwrap();
        second.await??;
        Ok(())
    });
    assert_eq!(names.asked(), 2, "A and AAAA, once");
}

#[test]
fn s13_control_bytes_in_names_from_the_network_are_shown_nowhere() {
    let names = NameServer::new(|name, _, message| {
        let odd = Name::from_labels(["evil\n\x1b[31m".as_bytes(), b"te\0st"]).unwrap();
        let owner = Name::from_ascii(name).unwrap();
        let alias = RData::CNAME(rdata::CNAME(odd));
        message.add_answer(Record::from_rdata(owner, 60, alias));
        true
    });
    let config = Config {
        resolver: names.resolver(),
        ..short_pauses()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        pool.start_trace(100);
        let error = pool.get("alias.test:80").await.unwrap_err();
        let mut shown = vec![error.to_string(), format!("{error:?}")];
        let records = pool.take_trace().records.into_iter();
        shown.extend(records.map(|record| record.what.to_string()));
        shown.push(format!("{:?}", pool.all_stats()));
        for text in shown {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        Ok(())
    });
    assert!(names.asked() >= 2);
}

/// Sends more than a packet holds, and waits for it to come back.
struct Large;

impl Protocol for Large {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, stream: Stream) -> Result<()> {
        stream.write_all(&[7; 4000]).await?;
        stream.read_exact(&mut [0; 4000]).await
    }
}

#[test]
fn c13_an_address_that_takes_connections_and_nothing_else_is_left_at_the_deadline() {
    let names = NameServer::four(60);
    let (mut servers, port) = four_servers();
    let silent = servers.remove(2);
    let ip = silent.address().ip();
    drop(silent);
    let silent = Server::start(ip, port, support::swallow);
    let config = Config {
        resolver: names.resolver(),
        connect_timeout: Duration::from_millis(200),
        // On a busy machine the others may be too slow for that now and then.
        connect_retry_count: 100,
        ..short_pauses()
    };
    let errors = on_one_shard(config, async move || {
        let pool = Pool::local()?.protocol(Large);
        let mut held = Vec::new();
        for _ in 0..12 {
            held.push(pool.get(("four.test", port)).await?);
        }
        assert!(held.iter().all(|conn| conn.peer_addr().unwrap().ip() != ip));
        let stats = pool.stats(("four.test", port))?;
        assert_eq!(stats.created, 12);
        held.into_iter().for_each(ringpool::Conn::release);
        Ok(stats.errors)
    });
    let tries = silent.accepted() as u64;
    let of_others = errors.saturating_sub(tries);
    assert!(tries >= 1);
    assert!(tries < 6 + of_others, "{tries} tries, it is not avoided");
}
