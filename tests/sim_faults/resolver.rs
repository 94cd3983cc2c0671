//! Names: who asks for them, what becomes of their answers, and what serves when there is none.

use std::collections::BTreeMap;

use ringpool::sim::{Manner, Rcode};
use ringpool::{Answered, Resolve, Resolved, Resolver, Source};

use super::*;

/// A name whose addresses the pool resolves without connecting.
const HOST: &str = "a.test:7000";

fn a_name(world: &World, ttl: Duration) {
    world.set_name("a.test", &["10.0.0.1".parse().unwrap()], ttl);
}

/// How often each type was asked for at any of the servers.
fn asked(world: &World) -> BTreeMap<u16, usize> {
    let mut by_kind = BTreeMap::new();
    for asked in world.name_servers().iter().flat_map(|it| it.asked()) {
        *by_kind.entry(asked.kind).or_default() += 1;
    }
    by_kind
}

/// One question of each of the two families.
fn once_each() -> BTreeMap<u16, usize> {
    BTreeMap::from([(1, 1), (28, 1)])
}

fn resolve_on(world: &World, core: usize) -> Result<Resolved> {
    timed(world, core).0
}

/// The same, and how long it took.
fn timed(world: &World, core: usize) -> (Result<Resolved>, Duration) {
    let run = on(world, core, async |pool| {
        let before = sim::now().unwrap();
        let found = pool.resolve(HOST).await;
        Ok((found, sim::now().unwrap() - before))
    });
    run.unwrap()
}

/// `count` resolves on two cores at once: how each ended.
fn resolves_at_once(world: &World, count: usize) -> Rc<RefCell<Vec<Result<Resolved>>>> {
    let ended = Rc::new(RefCell::new(Vec::new()));
    for n in 0..count {
        let ended = ended.clone();
        world.spawn_on(n % 2, "resolve", async move {
            let endpoint = Pool::local().unwrap().endpoint(HOST).unwrap();
            let found = endpoint.resolve().await;
            ended.borrow_mut().push(found);
        });
    }
    ended
}

fn silent(world: &World) {
    for server in world.name_servers() {
        server.set(Manner::new().silent());
    }
}

fn sound(world: &World) {
    for server in world.name_servers() {
        server.set(Manner::new());
    }
}

#[test]
fn d26_waiters_of_all_cores_at_the_moment_of_expiry_ask_once() {
    seeds(10, |seed| {
        let config = Config {
            max_waiters: 5_000,
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        a_name(&world, secs(30));
        for core in [0, 1] {
            resolve_on(&world, core).unwrap();
        }
        assert_eq!(asked(&world), once_each(), "the second core knew it");
        let ttl = resolve_on(&world, 0).unwrap().ttl();
        // To the tick at which it expires, and a few around it.
        world.run_for(ttl).unwrap();
        world.run_for(Duration::from_nanos(seed)).unwrap();
        let ended = resolves_at_once(&world, 10_000 / 2);
        let more = resolves_at_once(&world, 10_000 / 2);
        world.run().unwrap();
        for ended in [ended, more] {
            assert_eq!(ended.borrow().len(), 5_000);
            assert!(ended.borrow().iter().all(Result::is_ok));
        }
        assert_eq!(asked(&world), BTreeMap::from([(1, 2), (28, 2)]));
        nothing_left(&world, &[]);
    });
}

#[test]
fn d23_a_ttl_of_nothing_is_asked_for_once_a_second_at_most() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        a_name(&world, Duration::ZERO);
        for _ in 0..50 {
            let ended = resolves_at_once(&world, 20);
            world.run().unwrap();
            assert!(ended.borrow().iter().all(Result::is_ok));
            world.run_for(ms(100)).unwrap();
        }
        let count = asked(&world)[&1];
        assert!((4..=6).contains(&count), "{count} in 5 s");
        nothing_left(&world, &[]);
    });
}

#[test]
fn d27_k2_when_the_core_that_asks_ends_another_asks_and_nobody_fails() {
    seeds(50, |seed| {
        let world = two_cores(seed).build().unwrap();
        a_name(&world, secs(60));
        for server in world.name_servers() {
            server.set(Manner::new().wait(ms(100)));
        }
        // Core 0 leads.
        let first = world.spawn_on(0, "leader", async {
            Pool::local().unwrap().resolve(HOST).await.map(drop)
        });
        world.run_for(ms(5)).unwrap();
        let second = Rc::new(RefCell::new(None));
        let place = second.clone();
        world.spawn_on(1, "follower", async move {
            let before = sim::now().unwrap();
            let found = Pool::local().unwrap().resolve(HOST).await;
            *place.borrow_mut() = Some((found, sim::now().unwrap() - before));
        });
        world.run_for(Duration::from_micros(seed * 2_000)).unwrap();
        match seed % 3 {
            0 => world.leave(0),
            1 => world.end_core(0),
            _ => world.break_ring(0),
        }
        drop(first);
        world.run().unwrap();
        let (found, took) = second.borrow_mut().take().expect("it ended");
        assert!(found.is_ok(), "{found:?}");
        assert!(took < ms(500), "{took:?}");
        world.audit().unwrap();
    });
}

#[test]
fn d27_k2_a_core_whose_ring_is_dead_asks_nothing_any_more() {
    seeds(20, |seed| {
        let world = two_cores(seed).build().unwrap();
        let host = |n: usize| format!("n{n}.test:7000");
        for n in 0..40 {
            let name = format!("n{n}.test");
            world.set_name(&name, &["10.0.0.1".parse().unwrap()], secs(60));
        }
        for server in world.name_servers() {
            server.set(Manner::new().wait(ms(100)));
        }
        // More than a core asks at once: the rest is in line when its ring dies.
        let ended = Rc::new(RefCell::new(Vec::new()));
        for n in 0..40 {
            let ended = ended.clone();
            world.spawn_on(0, "resolve", async move {
                let found = Pool::local().unwrap().resolve(host(n)).await;
                ended.borrow_mut().push(found.is_ok());
            });
        }
        world.run_for(ms(5)).unwrap();
        // When it runs again, something of its lookups is due.
        world.freeze(0, ms(400));
        world.run_for(Duration::from_micros(seed * 20_000)).unwrap();
        world.break_ring(0);
        for _ in 0..450 {
            world.run_for(ms(1)).unwrap();
            // Never: a question of a core that is dead.
            world.audit().unwrap();
        }
        let slowest = on(&world, 1, async move |pool| {
            let mut slowest = Duration::ZERO;
            for n in 0..40 {
                let before = sim::now().unwrap();
                pool.resolve(host(n)).await?;
                slowest = slowest.max(sim::now().unwrap() - before);
            }
            Ok(slowest)
        });
        let slowest = slowest.unwrap();
        assert!(slowest < ms(200), "it waited for the dead: {slowest:?}");
        world.run().unwrap();
        assert_eq!(ended.borrow().len(), 40, "each hears of it");
        assert!(ended.borrow().contains(&false));
        world.audit().unwrap();
    });
}

/// A resolver of the user's own that hangs on core 0.
#[derive(Debug, Default)]
struct Hangs(std::sync::atomic::AtomicUsize);

impl Resolve for Hangs {
    fn resolve<'a>(
        &'a self,
        _host: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Answered>> + 'a>> {
        let times = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(async move {
            after(if times == 0 { secs(4) } else { ms(1) }).await;
            Ok(Answered::new(secs(60)).with_address([10, 0, 0, 1].into()))
        })
    }
}

#[test]
fn d27_k2_a_users_resolver_that_ends_with_its_core_has_not_panicked() {
    seeds(10, |seed| {
        let own = std::sync::Arc::new(Hangs::default());
        let config = Config {
            resolver: Resolver::Custom(own.clone()),
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        let second = Rc::new(RefCell::new(None));
        for core in 0..2 {
            let second = second.clone();
            world.spawn_on(core, "resolve", async move {
                let found = Pool::local().unwrap().resolve(HOST).await;
                *second.borrow_mut() = Some((core, found, sim::now().unwrap()));
            });
            world.run_for(ms(5)).unwrap();
        }
        match seed % 2 {
            0 => world.end_core(0),
            _ => world.leave(0),
        }
        world.run().unwrap();
        let (core, found, at) = second.borrow_mut().take().expect("it ended");
        assert_eq!(core, 1);
        assert!(found.is_ok(), "{found:?}");
        // Nobody waits for a lease, or for a pause after a failure.
        assert!(at < ms(1_500), "{at:?}");
        assert_eq!(own.0.load(std::sync::atomic::Ordering::Relaxed), 2);
        nothing_left(&world, &[]);
    });
}

/// How long a name takes that is known.
async fn known(pool: Pool) -> Result<Duration> {
    let before = sim::now().unwrap();
    pool.resolve("known.test:7000").await?;
    Ok(sim::now().unwrap() - before)
}

#[test]
fn d27_x8_a_core_that_asks_and_stands_still_loses_its_place_and_known_names_are_served() {
    seeds(20, |seed| {
        let world = two_cores(seed).build().unwrap();
        a_name(&world, secs(60));
        world.set_name("known.test", &["10.0.0.2".parse().unwrap()], secs(60));
        on(&world, 0, known).unwrap();
        for server in world.name_servers() {
            server.set(Manner::new().wait(ms(20)));
        }
        world.spawn_on(0, "leader", async {
            Pool::local().unwrap().resolve(HOST).await.unwrap();
        });
        world.run_for(ms(5)).unwrap();
        world.freeze(0, secs(4));
        let took = on(&world, 1, known).unwrap();
        assert!(took < ms(5), "a name that is known took {took:?}");
        let (found, took) = timed(&world, 1);
        assert!(found.is_ok(), "{found:?}");
        assert!(took < ms(1_500), "{took:?}");
        nothing_left(&world, &[]);
    });
}

#[test]
fn d37_with_every_server_down_old_addresses_serve_marked_and_servers_are_left_alone() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        a_name(&world, secs(10));
        resolve_on(&world, 0).unwrap();
        silent(&world);
        world.run_for(secs(11)).unwrap();
        let (found, took) = timed(&world, 0);
        let found = found.unwrap();
        assert!(found.is_stale(), "{found:?}");
        assert!(matches!(found.source(), Source::Stale(_)), "{found:?}");
        assert_eq!(found.addresses().count(), 1);
        assert!((ms(1_800)..ms(1_900)).contains(&took), "{took:?}");
        // The lookup goes on and fails; from then on it is told at once, and nobody is asked.
        world.run_for(secs(10)).unwrap();
        let questions = world.questions();
        for core in [0, 1, 0, 1] {
            let (found, took) = timed(&world, core);
            assert!(found.unwrap().is_stale());
            assert!(took < ms(1), "not at once: {took:?}");
            world.run_for(secs(4)).unwrap();
        }
        assert_eq!(world.questions(), questions, "30 s of peace");
        // They are back: the next who may ask is told what is true.
        sound(&world);
        world.set_name("a.test", &["10.0.0.9".parse().unwrap()], secs(10));
        world.run_for(secs(40)).unwrap();
        for core in [0, 1] {
            let found = resolve_on(&world, core).unwrap();
            assert!(!found.is_stale(), "{found:?}");
            assert_eq!(
                found.addresses().next().unwrap().ip().to_string(),
                "10.0.0.9"
            );
        }
        nothing_left(&world, &[]);
    });
}

#[test]
fn d25_d37_live_traffic_goes_on_while_every_server_fails() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        exchange_on(&world).unwrap();
        for server in world.name_servers() {
            server.set(Manner::new().code(Rcode::ServFail));
        }
        for _ in 0..30 {
            exchange_on(&world).unwrap();
            let ended = gets_at_once(&world, 2, 8);
            world.run().unwrap();
            assert!(ended.borrow().iter().all(Result::is_ok), "{ended:?}");
            world.run_for(secs(10)).unwrap();
        }
        let stats = stats(&world);
        assert_eq!(stats.errors, 0, "{stats:?}");
        nothing_left(&world, &servers);
    });
}

#[test]
fn i12_a_server_that_fails_is_no_absence_and_is_asked_less_and_less() {
    let world = two_cores(3).build().unwrap();
    a_name(&world, secs(10));
    for server in world.name_servers() {
        server.set(Manner::new().code(Rcode::ServFail));
    }
    for _ in 0..120 {
        let error = resolve_on(&world, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(!error.to_string().contains("NXDOMAIN"), "{error}");
        world.run_for(secs(1)).unwrap();
    }
    let lookups = asked(&world).values().max().copied().unwrap();
    // 1 + 2 + 4 + 8 + 16 + 30 + 30 + 30 s; each asks both servers, up to twice.
    assert!(
        lookups <= 4 * 10,
        "{lookups} questions of a type in two minutes"
    );
    sound(&world);
    world.run_for(secs(31)).unwrap();
    assert!(resolve_on(&world, 1).is_ok());
    nothing_left(&world, &[]);
}

#[test]
fn d2_d3_lost_questions_are_asked_again_and_the_next_server_is_asked() {
    seeds(20, |seed| {
        let world = two_cores(seed).build().unwrap();
        a_name(&world, secs(10));
        let [first, second] = world.name_servers() else {
            panic!("there are two");
        };
        first.set(Manner::new().silent());
        if seed % 2 == 0 {
            second.next(Manner::new().silent());
        }
        let (found, took) = timed(&world, 0);
        assert!(found.is_ok(), "{found:?}");
        assert!(took < secs(5), "within a get's time");
        // A question that nobody waits for any more still ends.
        world.run_for(secs(11)).unwrap();
        for server in [first, second] {
            for kind in [1, 28] {
                let asked = server.asked().into_iter().filter(|it| it.kind == kind);
                assert!(asked.count() <= 3, "RFC 9520");
            }
        }
        nothing_left(&world, &[]);
    });
}

#[test]
fn d4_d5_an_answer_that_comes_late_or_twice_is_used_once() {
    seeds(20, |seed| {
        let world = two_cores(seed).build().unwrap();
        a_name(&world, secs(10));
        let [first, second] = world.name_servers() else {
            panic!("there are two");
        };
        first.set(Manner::new().wait(ms(700)).twice());
        second.set(Manner::new().wait(ms(900)).twice());
        let ended = resolves_at_once(&world, 100);
        world.run().unwrap();
        assert_eq!(ended.borrow().len(), 100, "each once");
        assert!(ended.borrow().iter().all(Result::is_ok));
        nothing_left(&world, &[]);
    });
}

#[test]
fn a_name_in_use_is_renewed_ahead_of_time_and_nobody_waits_for_it() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        let server = ponging(&world);
        world.set_name("service.test", &[server.addresses()[0].ip()], secs(20));
        let conn = on(&world, 0, async |pool| pool.get(NAME).await).unwrap();
        for name_server in world.name_servers() {
            name_server.set(Manner::new().wait(ms(200)));
        }
        let slowest = on(&world, 0, async |pool| {
            let mut slowest = Duration::ZERO;
            for _ in 0..600 {
                let before = sim::now().unwrap();
                let found = pool.resolve(NAME).await?;
                assert!(!found.is_stale());
                slowest = slowest.max(sim::now().unwrap() - before);
                after(ms(100)).await;
            }
            Ok(slowest)
        });
        assert!(slowest.unwrap() < ms(1), "somebody waited");
        let times = asked(&world)[&1];
        assert!((3..=5).contains(&times), "asked {times} times in a minute");
        on(&world, 0, async move |_| {
            conn.release();
            Ok(())
        })
        .unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn a_name_is_renewed_although_too_much_is_asked_when_it_is_time() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        let server = ponging(&world);
        world.set_name("service.test", &[server.addresses()[0].ip()], secs(40));
        let conn = on(&world, 0, async |pool| pool.get(NAME).await).unwrap();
        for name_server in world.name_servers() {
            name_server.set(Manner::new().wait(ms(300)));
        }
        let slowest = on(&world, 0, async |pool| {
            let begun = sim::now().unwrap();
            after(begun + ms(35_900) - sim::now().unwrap()).await;
            for n in 0..10 {
                ringpool::spawn(async move {
                    let _absent = Pool::local()?.resolve(format!("n{n}.test:80")).await;
                    Ok::<_, Error>(())
                });
            }
            let mut slowest = Duration::ZERO;
            for _ in 0..60 {
                let before = sim::now().unwrap();
                let found = pool.resolve(NAME).await?;
                assert!(!found.is_stale());
                slowest = slowest.max(sim::now().unwrap() - before);
                after(ms(100)).await;
            }
            Ok(slowest)
        });
        assert!(slowest.unwrap() < ms(1), "somebody waited");
        on(&world, 0, async move |_| {
            conn.release();
            Ok(())
        })
        .unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn d37_a_renewal_that_nobody_answers_keeps_nobody_waiting() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        let server = ponging(&world);
        world.set_name("service.test", &[server.addresses()[0].ip()], secs(20));
        let conn = on(&world, 0, async |pool| pool.get(NAME).await).unwrap();
        silent(&world);
        let waits = on(&world, 0, async |pool| {
            let mut waits = Vec::new();
            let begun = sim::now().unwrap();
            // The same question for other endpoints, while it is being asked ahead of time.
            for (port, at) in [(7000, 18_500), (81, 18_600), (82, 20_200)] {
                after((begun + ms(at)).saturating_sub(sim::now().unwrap())).await;
                let before = sim::now().unwrap();
                let found = pool.resolve(format!("service.test:{port}")).await?;
                waits.push((found.is_stale(), sim::now().unwrap() - before));
            }
            Ok(waits)
        });
        let waits = waits.unwrap();
        assert_eq!(waits.len(), 3);
        for (is_stale, wait) in &waits[..2] {
            assert!(
                !is_stale && *wait < ms(1),
                "known, and waited for: {wait:?}"
            );
        }
        let (is_stale, wait) = waits[2];
        assert!(is_stale && wait <= ms(1_800), "{wait:?}");
        sound(&world);
        world.run_for(secs(10)).unwrap();
        on(&world, 0, async move |_| {
            conn.release();
            Ok(())
        })
        .unwrap();
        nothing_left(&world, &[server]);
    });
}

/// A connection of each core to a name that is good for a day; then all cores rest.
fn used_for_a_day(world: &World) -> (Server, Server) {
    let old = world.server("old.test:7000", &["10.0.0.1"]).unwrap();
    let new = world.server("new.test:7000", &["10.0.0.2"]).unwrap();
    old.on_connect(pongs());
    new.on_connect(pongs());
    world.set_name("service.test", &[old.addresses()[0].ip()], secs(86_400));
    for core in [0, 1] {
        let conn = on(world, core, async |pool| pool.get(NAME).await).unwrap();
        on(world, core, async move |_| {
            conn.release();
            Ok(())
        })
        .unwrap();
    }
    world.run_for(secs(12)).unwrap();
    assert_eq!(asked(world), once_each());
    world.set_name("service.test", &[new.addresses()[0].ip()], secs(86_400));
    (old, new)
}

#[test]
fn d30_d31_when_the_files_change_names_in_use_are_asked_for_again_and_not_at_the_end_of_their_time()
{
    let config = || Config {
        min_idle: 1,
        max_idle_time: secs(600),
        ..Config::default()
    };
    let changes: [(&str, &[u8]); 3] = [
        (
            "/etc/resolv.conf",
            b"nameserver 10.53.0.2\noptions timeout:3\n",
        ),
        ("/etc/hosts", b"10.0.0.77 another.test\n"),
        ("/etc/nsswitch.conf", b"hosts: dns files\n"),
    ];
    for (path, content) in changes {
        seeds(4, |seed| {
            let world = two_cores(seed).config(config()).build().unwrap();
            let (old, new) = used_for_a_day(&world);
            world.set_file(path, content);
            // Two looks, and the second within which each core asks.
            world.run_for(secs(7)).unwrap();
            for core in [0, 1] {
                let both = on(&world, core, async |pool| {
                    let conns = [pool.get(NAME).await?, pool.get(NAME).await?];
                    conns.into_iter().for_each(Conn::release);
                    Ok(())
                });
                both.unwrap();
            }
            assert!(new.connects() >= 2, "{path}: each core knows");
            assert_eq!(asked(&world)[&1], 2, "{path}: asked once for both");
            nothing_left(&world, &[old, new]);
        });
    }
}
