//! Several cores share the addresses of one name: what each of them does for the balance must add up,
//! also where all act at once, or on figures that are seconds old.

use super::*;

use std::cell::Cell;

use ringpool::{Balance, CloseReason};

pub(super) const FOUR: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];

/// A world where no connection closes for its age or because nobody needs it.
pub(super) fn lasting(seed: u64, cores: usize, limit: usize) -> World {
    let config = Config {
        max_connections_per_endpoint: limit,
        max_idle_time: secs(7200),
        shrink_interval: secs(7200),
        max_connection_lifetime: secs(36_000),
        get_timeout: secs(60),
        connect_retry_count: 1000,
        ..Config::default()
    };
    let world = World::builder(seed).cores(cores).config(config);
    world.build().unwrap()
}

/// How many connections each server has.
pub(super) fn counts(servers: &[Server]) -> Vec<usize> {
    servers.iter().map(|server| open_at([server])).collect()
}

/// By how many connections they differ.
pub(super) fn apart(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// Opens `count` connections on the core, all at once, and leaves them idle.
pub(super) fn fill(world: &World, core: usize, count: usize) {
    for _ in 0..count {
        world.spawn_on(core, "fill", async {
            let conn = Pool::local().unwrap().get(NAME).await.unwrap();
            after(ms(100)).await;
            conn.release();
        });
    }
}

/// Clients that go on until they are told to stop.
pub(super) struct Clients {
    stop: Rc<Cell<bool>>,
    served: Rc<Cell<usize>>,
}

impl Clients {
    /// `count` on the cores in turn: each uses a connection for `time`, and rests for `pause`.
    pub(super) fn start(world: &World, count: usize, time: Duration, pause: Duration) -> Self {
        let (stop, served) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        for n in 0..count {
            let (stop, served) = (stop.clone(), served.clone());
            world.spawn_on(n % world.cores(), &format!("client {n}"), async move {
                while !stop.get() {
                    let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                    after(time).await;
                    conn.release();
                    served.set(served.get() + 1);
                    after(pause).await;
                }
            });
        }
        Self { stop, served }
    }

    /// How often they had a connection.
    pub(super) fn served(&self) -> usize {
        self.served.get()
    }

    pub(super) fn stop(self, world: &World) {
        self.stop.set(true);
        world.run().unwrap();
    }
}

/// How many connections closed to lie elsewhere.
pub(super) fn moved(pool: &Pool) -> u64 {
    let stats = pool.stats(NAME).unwrap();
    stats.closed_by(CloseReason::Rebalanced)
}

/// Runs `cores` cores that open `each` connections in one moment; how they lie over four addresses.
fn opened_at_once(seed: u64, balance: Balance, cores: usize, each: usize) -> Vec<usize> {
    let config = Config {
        balance,
        ..Config::default()
    };
    let world = World::builder(seed).cores(cores).config(config);
    let world = world.build().unwrap();
    let all = servers(&world, &FOUR);
    (0..cores).for_each(|core| fill(&world, core, each));
    world.run_for(ms(50)).unwrap();
    let counts = counts(&all);
    assert_eq!(counts.iter().sum::<usize>(), cores * each);
    world.run().unwrap();
    nothing_left(&world, &all);
    counts
}

#[test]
fn x7_cores_that_open_in_the_same_moment_do_not_run_in_a_herd() {
    seeds(20, |seed| {
        // No core has as many as there are addresses, so none is even by itself.
        for (cores, each) in [(4, 1), (8, 1), (16, 1), (4, 3), (5, 5)] {
            let counts = opened_at_once(seed, Balance::LeastConnections, cores, each);
            assert!(apart(&counts) <= 1, "{cores} × {each}: {counts:?}");
        }
    });
}

#[test]
fn x7_cores_that_know_nothing_of_each_other_begin_at_different_addresses() {
    for balance in [Balance::RoundRobin, Balance::PowerOfTwo] {
        // Of 16, four each would be even, and a herd is 16; chance alone makes it 6 to 7.
        let most = (0..20).map(|seed| {
            let counts = opened_at_once(seed, balance.clone(), 16, 1);
            counts.into_iter().max().unwrap_or(0)
        });
        let most: Vec<usize> = most.collect();
        let sum: usize = most.iter().sum();
        assert!(sum <= 20 * 7, "{balance:?}: {most:?}");
        assert!(most.iter().all(|it| *it <= 10), "{balance:?}: {most:?}");
    }
}

/// The name gets a fourth address while `frozen` of four cores, one after the other, stand still for
/// five seconds, the first of them `delay` after the answer can be had.
fn a_new_address(seed: u64, delay: Duration, frozen: usize) {
    let world = lasting(seed, 4, 64);
    let all = servers(&world, &FOUR);
    let ips = FOUR.map(|ip| ip.parse().unwrap());
    world.set_name("service.test", &ips[..3], secs(1));
    let pool = pool_of(&world);
    (0..4).for_each(|core| fill(&world, core, 6));
    world.run().unwrap();
    world.run_for(secs(3)).unwrap();
    assert_eq!(counts(&all), [8, 8, 8, 0]);
    let (before, moved_before) = (dials_of(&all[..3]), moved(&pool));
    let clients = Clients::start(&world, 4, ms(1), ms(100));
    world.set_name("service.test", &ips, secs(1));
    world.run_for(delay).unwrap();
    for core in (1..4).take(frozen) {
        world.freeze(core, secs(5));
        world.run_for(ms(5_100)).unwrap();
    }
    world.run_for(secs(3)).unwrap();
    let now = counts(&all);
    let moves = moved(&pool) - moved_before;
    // Six are what is too much; each core rounds its part by chance.
    assert!((5..=6 + 3).contains(&moves), "{moves} moves, {now:?}");
    assert!(apart(&now) <= 1, "{now:?}");
    assert!(dials_of(&all[..3]) <= before + 2, "moved to and fro");
    world.run_for(secs(20)).unwrap();
    assert_eq!(counts(&all), now, "it does not come to rest");
    clients.stop(&world);
    nothing_left(&world, &all);
}

#[test]
fn x3_what_is_moved_by_figures_that_are_seconds_old_is_moved_once() {
    seeds(20, |seed| {
        a_new_address(seed, ms(50 * seed), 1 + seed as usize % 3);
    });
}

#[test]
fn c10_after_an_outage_the_connections_of_all_cores_end_balanced_without_a_storm_of_moves() {
    seeds(4, |seed| {
        let world = lasting(seed, 4, 16);
        let all = servers(&world, &FOUR);
        let pool = pool_of(&world);
        let clients = Clients::start(&world, 24, ms(20), ms(1));
        world.run_for(secs(1)).unwrap();
        all.iter().for_each(Server::refuse);
        all.iter().for_each(Server::reset_all);
        world.run_for(secs(8)).unwrap();
        assert_eq!(open_at(&all), 0);
        let (dials, moves) = (dials_of(&all), moved(&pool));
        // One after the other: the first has all connections for a while.
        for server in &all {
            server.listen();
            world.run_for(secs(3)).unwrap();
        }
        world.run_for(secs(10)).unwrap();
        let (now, served) = (counts(&all), clients.served());
        assert_eq!(now, [4; 4], "even over all cores");
        // When the second, third and fourth come: a half, a third, a quarter of 16, and no core
        // rounds up more than once each time.
        let moves = moved(&pool) - moves;
        assert!(moves <= 8 + 5 + 4 + 3 * 4, "{moves} moves");
        // What is dialed beside them: what there is, and attempts and probes where nobody listens.
        let dials = (dials_of(&all) - dials) as u64;
        assert!(dials <= 16 + moves + 3 * 16, "{dials} dials");
        let before = moved(&pool);
        world.run_for(secs(10)).unwrap();
        assert_eq!((moved(&pool), counts(&all)), (before, now), "it rests");
        assert!(clients.served() > served + 1000);
        clients.stop(&world);
        nothing_left(&world, &all);
    });
}
