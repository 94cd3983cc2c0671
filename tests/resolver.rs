//! What `resolve` finds and how: from a real name server on loopback, the user's own code, and what
//! is known without asking; by one core and by several.

mod support;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use ringpool::{
    Answered, Config, Endpoint, Error, ErrorKind, Group, NameTable, Pool, Resolve, Resolver,
    Result, Source, SystemFiles,
};
use support::names::{NameServer, add};
use support::{eventually, eventually_async, on_one_shard, shards};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One address for every name, and no other kind of record.
fn one_address(ttl: u32) -> NameServer {
    NameServer::new(move |name, kind, message| {
        if kind == RecordType::A {
            add(message, name, ttl, Ipv4Addr::LOCALHOST);
        }
        true
    })
}

fn with(resolver: Resolver) -> Config {
    Config {
        resolver,
        ..Config::default()
    }
}

#[test]
fn an_answer_says_where_it_came_from_and_how_long_it_holds() {
    let names = NameServer::four(60);
    let server = names.address;
    on_one_shard(with(names.resolver()), async move || {
        let pool = Pool::local()?;
        let first = pool.resolve("four.test:80").await?;
        assert_eq!(first.source(), Source::Server(server));
        assert_eq!(first.addresses().len(), 4);
        assert!(first.addresses().all(|address| address.port() == 80));
        assert!(first.ttl() <= Duration::from_secs(60) && first.ttl() > Duration::from_secs(50));
        assert!(first.is_complete() && !first.is_stale());
        let again = pool.resolve("four.test:80").await?;
        assert_eq!(again.source(), Source::Cache);
        assert!(again.addresses().eq(first.addresses()));
        // The same name at another port is another endpoint and the same question.
        let other = pool.resolve("four.test:81").await?;
        assert_eq!(other.source(), Source::Cache);
        assert_eq!(
            pool.resolve("192.0.2.1:80").await?.source(),
            Source::Literal
        );
        assert_eq!(pool.resolve("192.0.2.1:80").await?.ttl(), Duration::MAX);
        assert_eq!(
            pool.resolve("localhost:80").await?.source(),
            Source::Special
        );
        let error = pool.resolve("nowhere.test:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.to_string().contains("NXDOMAIN"), "{error}");
        Ok(())
    });
    assert_eq!(names.asked(), 4, "two names, two families");
}

#[test]
fn d26_ten_thousand_waiters_on_two_cores_ask_once() {
    let times = AtomicUsize::new(0);
    let names = NameServer::new(move |name, kind, message| {
        if kind == RecordType::A {
            // So slow that all of them wait, and good for long the second time.
            std::thread::sleep(ms(50)); // bounded: once per question
            let ttl = match times.fetch_add(1, Ordering::SeqCst) {
                0 => 1,
                _ => 60,
            };
            add(message, name, ttl, Ipv4Addr::LOCALHOST);
        }
        true
    });
    let config = Config {
        max_waiters: 5_000,
        ..with(names.resolver())
    };
    let shards = shards(2, config);
    let first = || async { Pool::local()?.resolve("many.test:80").await.map(drop) };
    for core in [0, 1] {
        shards.run_on(core, first).unwrap().wait().unwrap().unwrap();
    }
    assert_eq!(names.asked(), 2, "the second core knew it");
    let many = || async {
        let endpoint = Pool::local()?.endpoint("many.test:80")?;
        while endpoint.resolve().await?.ttl() > ms(20) {
            tokio::time::sleep(ms(1)).await; // bounded: by the TTL of a second
        }
        tokio::time::sleep(ms(25)).await; // bounded: to the moment of expiry
        let tasks: Vec<_> = (0..5_000)
            .map(|_| {
                let endpoint = endpoint.clone();
                ringpool::spawn(async move { endpoint.resolve().await.map(drop) })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, Error>(())
    };
    let running = [0, 1].map(|core| shards.run_on(core, many).unwrap());
    for core in running {
        core.wait().unwrap().unwrap();
    }
    assert_eq!(names.asked(), 4, "once per type at the expiry");
}

#[test]
fn d27_k2_who_follows_a_core_that_ends_asks_in_its_stead() {
    let (ready, is_ready) = mpsc::channel::<()>();
    let names = {
        let silent = AtomicUsize::new(2);
        NameServer::new(move |name, kind, message| {
            let left =
                silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if left.is_ok() {
                return false;
            }
            if kind == RecordType::A {
                add(message, name, 60, Ipv4Addr::LOCALHOST);
            }
            true
        })
    };
    let group = Group::new(with(names.resolver())).unwrap();
    let asked = names.asked.clone();
    let leader = {
        let group = group.clone();
        std::thread::spawn(move || {
            tokio_uring::start(async {
                let member = group.join().unwrap();
                let waits = ringpool::spawn(async {
                    Pool::local().unwrap().resolve("a.test:80").await.map(drop)
                });
                eventually_async("it asks", || asked.load(Ordering::SeqCst) == 2).await;
                ready.send(()).unwrap();
                tokio::time::sleep(ms(50)).await; // bounded: the other follows meanwhile
                drop(member);
                let error = waits.await.unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotOnShard);
            });
        })
    };
    tokio_uring::start(async {
        is_ready.recv().unwrap();
        let _member = group.join().unwrap();
        // How soon, the simulated world says.
        let found = Pool::local().unwrap().resolve("a.test:80").await.unwrap();
        assert_eq!(found.addresses().len(), 1);
    });
    leader.join().unwrap();
    assert_eq!(names.asked(), 4, "each core once per type");
}

#[test]
fn d28_a_family_that_is_never_answered_costs_50_ms() {
    let names = NameServer::new(|name, kind, message| {
        add(message, name, 60, Ipv4Addr::LOCALHOST);
        kind == RecordType::A
    });
    on_one_shard(with(names.resolver()), async move || {
        let began = Instant::now();
        let found = Pool::local()?.resolve("v4.test:80").await?;
        let took = began.elapsed();
        assert_eq!(found.addresses().len(), 1);
        assert!(!found.is_complete());
        // A name has 1.8 s if this rule does not shorten them.
        assert!((ms(50)..ms(1800)).contains(&took), "{took:?}");
        Ok(())
    });
}

#[test]
fn d37_a_name_that_nobody_answers_for_any_more_serves_marked() {
    let fails = Arc::new(AtomicBool::new(false));
    let names = {
        let fails = fails.clone();
        NameServer::new(move |name, kind, message| {
            if fails.load(Ordering::SeqCst) {
                message.metadata.response_code = ResponseCode::ServFail;
            } else if kind == RecordType::A {
                add(message, name, 1, Ipv4Addr::LOCALHOST);
            }
            true
        })
    };
    let server = names.address;
    on_one_shard(with(names.resolver()), async move || {
        let pool = Pool::local()?;
        pool.resolve("old.test:80").await?;
        fails.store(true, Ordering::SeqCst);
        tokio::time::sleep(ms(1050)).await; // bounded: the TTL
        let found = pool.resolve("old.test:80").await?;
        assert_eq!(found.source(), Source::Stale(server));
        assert!(found.is_stale() && !found.is_complete());
        assert!(found.ttl() > Duration::from_secs(20), "{:?}", found.ttl());
        assert_eq!(found.addresses().len(), 1);
        let error = pool.resolve("new.test:80").await.unwrap_err();
        assert!(error.to_string().contains("SERVFAIL"), "{error}");
        Ok(())
    });
}

#[test]
fn a_table_and_denied_addresses() {
    let table = NameTable::new().with("db.test", [Ipv4Addr::LOCALHOST.into()]);
    on_one_shard(with(Resolver::Table(table.unwrap())), async move || {
        let pool = Pool::local()?;
        assert_eq!(pool.resolve("db.test:80").await?.source(), Source::Table);
        let error = pool.resolve("other.test:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        Ok(())
    });
    let names = NameServer::four(60);
    let mut config = with(names.resolver());
    config.resolver_options.deny = vec!["127.0.77.2/31".parse().unwrap()];
    on_one_shard(config, async move || {
        let found = Pool::local()?.resolve("four.test:80").await?;
        let last: Vec<_> = found.addresses().map(|it| it.ip()).collect();
        assert!(
            last.contains(&IpAddr::from([127, 0, 77, 1])) && last.len() == 2,
            "{last:?}"
        );
        Ok(())
    });
    let mut config = with(names.resolver());
    config.resolver_options.deny = vec!["127.0.0.0/8".parse().unwrap()];
    on_one_shard(config, async move || {
        let error = Pool::local()?.resolve("four.test:80").await.unwrap_err();
        assert!(error.to_string().contains("denied"), "{error}");
        Ok(())
    });
}

/// A resolver of the user's own, which counts.
#[derive(Debug, Default)]
struct Own {
    asked: AtomicUsize,
}

impl Resolve for Own {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Answered>> + 'a>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match host {
                "shard.db" => Ok(Answered::new(Duration::from_secs(60))
                    .with_address([192, 0, 2, 1].into())
                    .with_target(([192, 0, 2, 2], 5433).into(), 1, 10)),
                "empty.db" => Ok(Answered::new(Duration::from_secs(60))),
                "bad.db" => panic!("as the test wants it"),
                "slow.db" => std::future::pending().await,
                _ => Err(Error::new(ErrorKind::Resolve, "no such shard")),
            }
        })
    }
}

#[test]
fn the_users_own_resolver_is_asked_once_and_its_troubles_are_its_own() {
    let own = Arc::new(Own::default());
    let config = Config {
        get_timeout: ms(300),
        ..with(Resolver::Custom(own.clone()))
    };
    let shards = shards(2, config);
    let ask = || async {
        let pool = Pool::local()?;
        let found = pool.resolve("shard.db:5432").await?;
        let shown: Vec<_> = found.addresses().map(|it| it.to_string()).collect();
        assert_eq!(shown, ["192.0.2.1:5432", "192.0.2.2:5433"]);
        assert_eq!(found.source(), Source::Custom);
        let last = found.places().last().unwrap();
        assert_eq!((last.priority, last.weight), (1, 10));
        Ok::<_, Error>(())
    };
    for core in [0, 1] {
        shards.run_on(core, ask).unwrap().wait().unwrap().unwrap();
    }
    assert_eq!(own.asked.load(Ordering::SeqCst), 1, "for both cores");
    let troubles = || async {
        let pool = Pool::local()?;
        let mut shown = Vec::new();
        for host in ["empty.db", "bad.db", "slow.db", "other.db"] {
            let error = pool.resolve(Endpoint::new(host, 80)?).await.unwrap_err();
            assert!(error.to_string().contains(host), "{error}");
            shown.push(format!("{:?}: {error}", error.kind()));
        }
        Ok::<_, Error>(shown)
    };
    let shown = shards.run_on(0, troubles).unwrap().wait().unwrap().unwrap();
    assert!(shown[0].contains("leads nowhere"), "{shown:?}");
    assert!(shown[1].starts_with("Panicked"), "{shown:?}");
    assert!(shown[2].starts_with("Resolve"), "{shown:?}");
    assert!(shown[3].contains("no such shard"), "{shown:?}");
}

#[test]
fn k2_a_resolve_that_is_dropped_takes_nothing_from_the_others() {
    let names = one_address(60);
    on_one_shard(with(names.resolver()), async move || {
        let pool = Pool::local()?;
        for times in 1..30 {
            let host = format!("n{times}.test");
            drop(support::poll_times(pool.resolve((&*host, 80)), times).await);
            assert_eq!(pool.resolve((&*host, 80)).await?.addresses().len(), 1);
        }
        Ok(())
    });
    eventually("all were asked", || names.asked() == 2 * 29);
}

#[test]
fn a_task_that_resolves_what_is_known_without_waiting_starves_nobody() {
    let names = NameServer::four(60);
    on_one_shard(with(names.resolver()), async move || {
        let endpoint = Pool::local()?.endpoint("four.test:80")?;
        endpoint.resolve().await?;
        let stop = std::rc::Rc::new(std::cell::Cell::new(false));
        let looping = ringpool::spawn({
            let stop = stop.clone();
            async move {
                let mut hits = 0u64;
                while !stop.get() {
                    endpoint.resolve().await?;
                    hits += 1;
                }
                Ok::<_, Error>(hits)
            }
        });
        // A timer must fire, and the driver must ask for another name, while it loops.
        tokio::time::sleep(ms(20)).await; // bounded: what is tested
        assert!(Pool::local()?.resolve("five.test:80").await.is_err());
        stop.set(true);
        assert!(looping.await?? > 0);
        Ok(())
    });
}

/// Writes a file beside `path` and moves it there.
fn put_in_place(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn d31_a_changed_hosts_file_reaches_names_in_use_whose_answer_is_good_for_ever() {
    let folder = std::env::temp_dir().join(format!("ringpool-hosts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let hosts = folder.join("hosts");
    put_in_place(&hosts, "");
    let config = with(Resolver::Files(SystemFiles {
        resolv_conf: folder.join("resolv.conf"),
        hosts: hosts.clone(),
        nsswitch: folder.join("nsswitch.conf"),
    }));
    let old = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = old.local_addr().unwrap().port();
    let new = std::net::TcpListener::bind(("127.0.77.9", port)).unwrap();
    let goes_to = |conn: &ringpool::Conn| conn.stream().peer_addr().unwrap();
    on_one_shard(config, async move || {
        // What it means is known without asking, and does not expire.
        let pool = Pool::local()?;
        let endpoint = pool.endpoint(format!("service.localhost:{port}"))?;
        assert_eq!(endpoint.resolve().await?.ttl(), Duration::MAX);
        let kept = endpoint.get().await?;
        assert_eq!(goes_to(&kept), old.local_addr().unwrap());
        put_in_place(&hosts, "127.0.77.9 service.localhost\n");
        let begun = Instant::now();
        while goes_to(&endpoint.get().await?) != new.local_addr().unwrap() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "it is never found"
            );
            tokio::time::sleep(ms(50)).await; // bounded: by the assertion above
        }
        assert_eq!(endpoint.resolve().await?.source(), Source::Hosts);
        Ok(())
    });
    std::fs::remove_dir_all(&folder).unwrap();
}
