//! Group C over several cores: one of several equal addresses cannot be had, for hours or for new
//! connections alone. The others serve, and what is good stays.

use super::*;

use super::spread::{Clients, FOUR, apart, counts, fill, lasting, moved};
use ringpool::CloseReason;

/// Four cores at their limit of 18 with clients that wait, and one of four addresses dead for a quarter of an hour, as it would be for hours.
/// At most `closed` connections close for each probe, for it and for what it brings about.
fn dead_for_long(seed: u64, kill: impl Fn(&Server), closed: f64) {
    let world = lasting(seed, 4, 18);
    let all = servers(&world, &FOUR);
    let pool = pool_of(&world);
    let dead = all[0].addresses()[0];
    kill(&all[0]);
    let clients = Clients::start(&world, 24, ms(200), ms(100));
    world.run_for(secs(5)).unwrap();
    let first = all[0].dials(dead).len();
    assert!(first <= 4 * 2 + 3, "{first} dials until all cores knew");
    let (settled, before) = (world.now(), pool.stats(NAME).unwrap());
    for _ in 0..60 {
        world.run_for(secs(15)).unwrap();
        let now = counts(&all[1..]);
        assert!(apart(&now) <= 4, "{now:?}");
        let most = now.iter().sum::<usize>();
        assert!((18 - 4..=18).contains(&most), "{now:?}");
    }
    let probes: Vec<_> = all[0].dials(dead).split_off(first);
    // All cores together: one in 1.5 s, which may wait 0.2 s for a connection to make way.
    let time = (world.now() - settled).as_millis() as usize;
    assert!(probes.len() <= time / 1_500 + 1, "{} probes", probes.len());
    assert!(probes.len() >= time / 3_000, "{} probes", probes.len());
    let least = probes.windows(2).map(|two| two[1] - two[0]).min();
    assert!(least >= Some(ms(1_300)), "{least:?} between two probes");
    let now = pool.stats(NAME).unwrap();
    let for_it = [CloseReason::Rebalanced, CloseReason::Demand];
    let for_it = for_it.map(|it| now.closed_by(it) - before.closed_by(it));
    let all_closed = now.closed - before.closed;
    assert_eq!(for_it.iter().sum::<u64>(), all_closed);
    let bound = probes.len() as f64 * closed;
    assert!(all_closed as f64 <= bound, "{for_it:?} closed");
    // It comes back, and has its share soon.
    all[0].listen();
    world.run_for(secs(8)).unwrap();
    assert!(apart(&counts(&all)) <= 2, "{:?}", counts(&all));
    assert!(clients.served() > 30_000);
    clients.stop(&world);
    nothing_left(&world, &all);
}

#[test]
fn c15_an_address_that_refuses_for_hours_costs_all_cores_one_probe_at_a_time_at_the_limit() {
    // One for the probe; now and then one more lies where it was not to lie, and moves.
    seeds(1, |seed| dead_for_long(seed, Server::refuse, 1.5));
}

#[test]
fn c2_c15_an_address_that_is_silent_for_hours_costs_all_cores_one_probe_at_a_time_at_the_limit() {
    // The permit of a probe that ends in vain goes to whoever waits, on any core.
    seeds(1, |seed| dead_for_long(seed, Server::black_hole, 2.0));
}

#[test]
fn c9_of_equal_addresses_the_others_serve_while_this_host_cannot_reach_one() {
    seeds(20, |seed| {
        let world = lasting(seed, 2, 64);
        let all = servers(&world, &FOUR);
        all[0].fail(libc::EADDRNOTAVAIL);
        let began = world.now();
        let ended = gets_at_once(&world, 2, 24);
        world.run().unwrap();
        assert_eq!(sorted(&ended.borrow()), (24, Vec::new()));
        assert!(world.now() - began < ms(20), "{:?}", world.now() - began);
        let dials = dials_of(&all[..1]);
        assert!((1..=6).contains(&dials), "{dials} dials of 24 at once");
        assert_eq!(counts(&all), [0, 8, 8, 8]);
        // No slot and no permit is left where it failed.
        assert_eq!(world.sockets(0) + world.sockets(1), 24);
        assert_eq!(stats(&world).permits, 24);
        nothing_left(&world, &all);
    });
}

/// Four cores hold one connection each at each of four addresses, then nobody gets a new one at the
/// first. Who needs more gets it elsewhere. Returns how often the first was dialed, and how many
/// connections were moved, in each of three times two minutes.
fn full_for_more(seed: u64, limit: usize, strike: impl Fn(&Server)) -> [(usize, u64); 3] {
    let world = lasting(seed, 4, limit);
    let all = servers(&world, &FOUR);
    let pool = pool_of(&world);
    (0..4).for_each(|core| fill(&world, core, 4));
    world.run().unwrap();
    assert_eq!(counts(&all), [4; 4]);
    strike(&all[0]);
    let clients = Clients::start(&world, 28, ms(50), ms(10));
    let times = [(); 3].map(|()| {
        let before = (dials_of(&all[..1]), moved(&pool));
        world.run_for(secs(120)).unwrap();
        // What it has serves on.
        assert_eq!(open_at(&all[..1]), 4, "{:?}", counts(&all));
        assert!(apart(&counts(&all[1..])) <= 2, "{:?}", counts(&all));
        (dials_of(&all[..1]) - before.0, moved(&pool) - before.1)
    });
    assert!(clients.served() > 100_000);
    clients.stop(&world);
    nothing_left(&world, &all);
    times
}

#[test]
fn c1_an_address_that_refuses_more_keeps_what_all_cores_hold_there() {
    seeds(2, |seed| {
        let times = full_for_more(seed, 64, Server::refuse);
        // It is out for all: probes, one by one, and nothing is moved.
        assert!(
            times.iter().all(|it| it.0 <= 120_000 / 1_500 + 8),
            "{times:?}"
        );
        assert!(times.iter().all(|it| it.1 <= 4), "{times:?}");
    });
}

#[test]
fn c9_what_this_host_cannot_reach_any_more_is_tried_ever_more_seldom_by_all_cores() {
    seeds(2, |seed| {
        let times = full_for_more(seed, 28, |it| it.fail(libc::EADDRNOTAVAIL));
        let [first, _, last] = times;
        // Each core for itself, for others hold some there; their pauses grow.
        assert!(first.0 <= 4 * 10 && first.1 <= 4 * 10, "{times:?}");
        assert!(last.0 <= 4 * 5 && last.1 <= 4 * 5, "{times:?}");
    });
}
