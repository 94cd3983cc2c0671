//! What cores tell each other is lost, comes twice, comes late, or finds the other's mailbox full.

use super::*;

use std::cell::Cell;

use super::cores::{hoarders, opened};
use super::spread::{Clients, apart, counts, fill, lasting};
use ringpool::CloseReason;

/// One exchange on a core, as its own task: when it was served.
fn exchange_at(world: &World, core: usize, name: &str) -> Rc<Cell<Option<Duration>>> {
    let served = Rc::new(Cell::new(None));
    let at = served.clone();
    world.spawn_on(core, name, async move {
        exchange(&Pool::local().unwrap()).await.unwrap();
        at.set(sim::now());
    });
    served
}

/// What `lost` cores are told while they stand still for 2 ms is lost.
fn deaf(world: &World, lost: &[usize]) {
    world.run_for(ms(1)).unwrap();
    let notices: Vec<_> = lost.iter().map(|core| world.lose_notices(*core)).collect();
    assert!(
        notices.iter().all(|it| *it > 0),
        "nothing was said: {notices:?}"
    );
}

#[test]
fn x1_a_demand_that_nobody_heard_of_is_met_at_the_next_look_at_what_idles() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_endpoint: 4,
            get_timeout: secs(60),
            ..Config::default()
        };
        let world = World::builder(seed).cores(3).config(config);
        let world = world.build().unwrap();
        let server = ponging(&world);
        (1..3).for_each(|core| fill(&world, core, 2));
        world.run().unwrap();
        world.run_for(ms(200)).unwrap();
        (1..3).for_each(|core| world.freeze(core, ms(2)));
        let began = world.now();
        let served = exchange_at(&world, 0, "get");
        deaf(&world, &[1, 2]);
        world.run().unwrap();
        let took = served.get().unwrap() - began;
        // A look at what idles comes every 5 s, and closes what two looks found unused.
        assert!(took > ms(100) && took < secs(10), "{took:?}");
        assert!(opened(&server) <= 4 + 2);
        // What is said next is heard, and whole.
        let again = exchange_at(&world, 1, "again");
        let other = exchange_at(&world, 0, "other");
        let began = world.now();
        world.run().unwrap();
        for served in [again, other] {
            assert!(served.get().unwrap() - began < ms(100));
        }
        nothing_left(&world, &[server]);
    });
}

#[test]
fn x1_who_did_not_hear_that_an_address_is_back_uses_it_within_two_seconds() {
    seeds(20, |seed| {
        let world = lasting(seed, 2, 64);
        let all = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        let clients = Clients::start(&world, 2, ms(5), ms(5));
        world.run_for(secs(1)).unwrap();
        let dead = all[0].addresses()[0];
        all[0].refuse();
        all[0].reset_all();
        // Both hear that it is out; one finds it back, and the other, which stands still, is not told.
        world.run_for(secs(4)).unwrap();
        assert!(!all[0].dials(dead).is_empty() && open_at(&all[..1]) == 0);
        world.freeze(1, secs(3));
        all[0].listen();
        world.run_for(ms(2_900)).unwrap();
        assert!(open_at(&all[..1]) > 0, "nobody found it back");
        assert!(world.lose_notices(1) > 0, "nothing was said");
        world.run_for(ms(2_100)).unwrap();
        fill(&world, 1, 6);
        world.run_for(ms(50)).unwrap();
        assert!(apart(&counts(&all)) <= 2, "{:?}", counts(&all));
        clients.stop(&world);
        nothing_left(&world, &all);
    });
}

#[test]
fn x2_what_comes_twice_and_late_counts_once() {
    let late = Cell::new(0);
    seeds(60, |seed| {
        let (world, server) = hoarders(seed, 4, 6);
        world.set_fault(Fault::LateWake, 5_000);
        world.set_fault(Fault::MessageLate, 10_000);
        let ended = Rc::new(Cell::new(0));
        for n in 0..60 {
            let ended = ended.clone();
            world.spawn_on(n % 4, "get", async move {
                let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                ping(&conn).await.unwrap();
                // Every third permit goes to whoever waits longest.
                match n % 3 {
                    0 => conn.close(),
                    _ => conn.release(),
                }
                ended.set(ended.get() + 1);
            });
        }
        for _ in 0..400 {
            world.run_for(Duration::from_micros(50)).unwrap();
            (0..4).for_each(|core| world.repeat_notices(core));
            world.audit().unwrap();
        }
        world.run().unwrap();
        assert_eq!(ended.get(), 60);
        assert_fired(&world, &[Fault::LateWake]);
        late.set(late.get() + world.fired(Fault::MessageLate));
        world.run_for(ms(50)).unwrap();
        let now = stats(&world);
        assert_eq!(now.handed_over, now.received);
        assert_eq!(now.permits, now.created - now.closed);
        assert!(now.permits <= 6 && now.closed >= 20, "{now:?}");
        assert_eq!(open_at([&server]) as u64, now.permits);
        nothing_left(&world, &[server]);
    });
    assert!(late.get() > 0, "no message was late");
}

#[test]
fn x2_an_answer_that_comes_when_its_connection_has_gone_again_ends_nothing() {
    let mut crossed = 0;
    for step in 0..120 {
        let (world, server) = hoarders(step, 4, 1);
        world.set_fault(Fault::MessageLate, 10_000);
        let first = exchange_at(&world, 2, "first");
        world.run_for(Duration::from_micros(4 * step)).unwrap();
        let is_early = first.get().is_none();
        world.freeze(2, ms(500));
        // It comes back after 250 ms, for somebody on its own core, and goes to the third.
        let near = exchange_at(&world, 1, "near");
        world.run_for(ms(300)).unwrap();
        let is_back = is_early && near.get().is_some();
        let third = exchange_at(&world, 3, "third");
        let part = Duration::from_micros(4 * (step * 37 % 120));
        world.run_for(part).unwrap();
        let is_early = third.get().is_none();
        world.freeze(3, ms(800));
        // The first answers while the third stands still.
        for _ in 0..40 {
            world.run_for(ms(10)).unwrap();
            world.audit().unwrap();
        }
        crossed += u32::from(is_back && is_early && third.get().is_none());
        world.run().unwrap();
        assert!(first.get().is_some() && near.get().is_some() && third.get().is_some());
        let now = stats(&world);
        // A core that stands still before it has opened a slot is helped by a close alone.
        let for_others = now.closed_by(CloseReason::Demand);
        assert_eq!(now.closed, for_others, "step {step}");
        assert_eq!((now.created, now.permits), (1 + for_others, 1));
        nothing_left(&world, &[server]);
    }
    assert!(crossed > 0, "no answer came late");
}

#[test]
fn x4_a_mailbox_that_stays_full_loses_no_connection_and_keeps_no_sender_waiting() {
    seeds(20, |seed| {
        let (world, server) = hoarders(seed, 3, 4);
        world.set_mailbox(0, 0);
        let began = world.now();
        let far = exchange_at(&world, 0, "far");
        // The senders go on with what they could not send.
        let near = [1, 2].map(|core| exchange_at(&world, core, "near"));
        world.run().unwrap();
        for served in near {
            assert!(served.get().unwrap() - began < ms(2));
        }
        // 250 ms is when a close is worth it.
        let took = far.get().unwrap() - began;
        assert!(took > ms(240) && took < ms(280), "{took:?}");
        let now = stats(&world);
        assert_eq!((now.handed_over, now.received), (0, 0));
        let closed = now.closed_by(CloseReason::Demand);
        assert_eq!((now.created, now.closed), (5, closed));
        assert_eq!(now.permits, now.created - now.closed);
        world.audit().unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn x4_what_a_full_mailbox_gave_back_is_sent_again() {
    let mut returned = 0;
    for step in 0..40 {
        let (world, server) = hoarders(step, 3, 4);
        world.set_mailbox(0, 0);
        world.freeze(0, ms(2));
        let began = world.now();
        let far = exchange_at(&world, 0, "far");
        world.run_for(ms(3)).unwrap();
        let waited = far.get().is_none();
        world.run_for(ms(step / 2)).unwrap();
        world.set_mailbox(0, 64);
        world.run().unwrap();
        let took = far.get().unwrap() - began;
        // At once, or when it is tried again.
        assert!(took < ms(60), "step {step}: {took:?}");
        returned += u32::from(waited);
        let now = stats(&world);
        assert_eq!((now.handed_over, now.received), (1, 1));
        assert_eq!((now.created, now.closed, opened(&server)), (4, 0, 4));
        nothing_left(&world, &[server]);
    }
    assert!(returned > 0, "nothing was given back");
}

#[test]
fn x10_a_get_that_is_older_than_its_cores_driver_hears_of_the_permit() {
    seeds(40, |seed| {
        let config = Config {
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = World::builder(seed).cores(2).config(config).build();
        let world = world.unwrap();
        // By its address: nothing but the other core keeps the get waiting.
        let address = "10.0.0.1:7000";
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(pongs());
        let held = on(&world, 1, async move |pool| pool.get(address).await).unwrap();
        // Which of the two tasks is first is drawn: the new driver, or the get.
        world.leave(0);
        world.join(0).unwrap();
        let served = Rc::new(Cell::new(None));
        let at = served.clone();
        world.spawn_on(0, "get", async move {
            let conn = Pool::local().unwrap().get(address).await.unwrap();
            ping(&conn).await.unwrap();
            conn.release();
            at.set(sim::now());
        });
        world.run_for(ms(20)).unwrap();
        assert_eq!(served.get(), None);
        let released = world.now();
        world.spawn_on(1, "release", async move { held.release() });
        world.run().unwrap();
        let took = served.get().unwrap() - released;
        assert!(took < ms(200), "{took:?}");
        nothing_left(&world, &[server]);
    });
}
