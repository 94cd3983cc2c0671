//! Group X: what goes wrong between cores costs nobody a connection, a permit or an answer.

use super::*;

use ringpool::CloseReason;
use ringpool::sim::Gate;

/// As many connections as there may be, all of them idle on the cores but the first, which was never
/// in use.
pub(super) fn hoarders(seed: u64, cores: usize, limit: usize) -> (World, Server) {
    hoarders_of(seed, cores, limit, pongs())
}

/// The same with a server that does what `script` says.
fn hoarders_of(seed: u64, cores: usize, limit: usize, script: Script) -> (World, Server) {
    let config = Config {
        max_connections_per_endpoint: limit,
        get_timeout: secs(5),
        // Many pieces may come while a core stands still.
        recv_buffers: 2_048,
        ..Config::default()
    };
    let world = World::builder(seed)
        .cores(cores)
        .config(config)
        .completions(4_096)
        .build()
        .unwrap();
    let server = ponging(&world);
    server.on_connect(script);
    for n in 0..limit {
        let core = 1 + n % (cores - 1);
        let task = world.spawn_on(core, "hoard", async move {
            let conn = Pool::local()?.get(NAME).await?;
            ping(&conn).await?;
            after(ms(20)).await;
            conn.release();
            Ok::<_, Error>(())
        });
        drop(task);
    }
    world.run().unwrap();
    world.run_for(ms(200)).unwrap();
    (world, server)
}

/// How many connections were opened. Where none was closed, that is how many there are: a server
/// that counts while the end of another is on its way to it sees both, though only one exists.
pub(super) fn opened(server: &Server) -> usize {
    server.dials(server.addresses()[0]).len()
}

#[test]
fn x12_a_hot_core_gets_what_idles_elsewhere_and_nothing_is_opened_anew() {
    seeds(20, |seed| {
        let (world, server) = hoarders(seed, 4, 6);
        let ended = Rc::new(RefCell::new(0));
        for n in 0..12 {
            let ended = ended.clone();
            world.spawn_on(0, &format!("get {n}"), async move {
                for _ in 0..20 {
                    exchange(&Pool::local().unwrap()).await.unwrap();
                }
                *ended.borrow_mut() += 1;
            });
        }
        let began = world.now();
        world.run().unwrap();
        assert_eq!(*ended.borrow(), 12);
        assert!(world.now() - began < secs(1), "{:?}", world.now() - began);
        let now = stats(&world);
        assert!(now.handed_over >= 1 && now.handed_over == now.received);
        assert_eq!((now.created, now.closed, opened(&server)), (6, 0, 6));
        nothing_left(&world, &[server]);
    });
}

#[test]
fn x4_x13_a_connection_that_cannot_be_sent_stays_or_closes_for_its_permit() {
    seeds(40, |seed| {
        let (world, server) = hoarders(seed, 2, 2);
        world.set_fault(Fault::MessageFails, 10_000);
        let ended = gets_at_once(&world, 1, 4);
        world.run().unwrap();
        assert_eq!(sorted(&ended.borrow()), (4, Vec::new()));
        assert_fired(&world, &[Fault::MessageFails]);
        let now = stats(&world);
        assert_eq!((now.handed_over, now.received), (0, 0));
        assert_eq!(now.closed, now.closed_by(CloseReason::Demand));
        nothing_left(&world, &[server]);
    });
}

#[test]
fn x2_x4_a_connection_that_cannot_be_sent_is_not_tried_again_with_every_notice() {
    seeds(20, |seed| {
        let (world, server) = hoarders(seed, 2, 2);
        world.set_fault(Fault::MessageFails, 10_000);
        let ended = gets_at_once(&world, 1, 2);
        let began = world.now();
        for _ in 0..4_000 {
            world.run_for(Duration::from_micros(50)).unwrap();
            world.repeat_notices(1);
        }
        // Once for each 5 ms at most in which the waiter offers a slot.
        let took = world.now() - began;
        let tried = u128::from(world.fired(Fault::MessageFails));
        assert!(tried >= 2, "{tried} times");
        assert!(tried <= 1 + took.as_millis() / 5, "{tried} in {took:?}");
        world.run().unwrap();
        assert_eq!(sorted(&ended.borrow()), (2, Vec::new()));
        nothing_left(&world, &[server]);
    });
}

#[test]
fn x10_a_connection_that_arrives_late_is_waited_for() {
    seeds(40, |seed| {
        let (world, server) = hoarders(seed, 2, 1);
        world.set_fault(Fault::MessageLate, 10_000);
        let ended = gets_at_once(&world, 1, 1);
        world.run().unwrap();
        assert_eq!(sorted(&ended.borrow()), (1, Vec::new()));
        assert_fired(&world, &[Fault::MessageLate]);
        let now = stats(&world);
        assert_eq!((now.handed_over, now.created), (1, 1));
        assert_eq!(opened(&server), 1);
        nothing_left(&world, &[server]);
    });
}

/// Core 0 asks; in one of many moments of the hand-over `strike` happens.
/// How many connections arrived, and how many gets were served.
fn in_the_middle(strike: impl Fn(&World)) -> (u64, u64) {
    let (mut moved, mut served) = (0, 0);
    for step in 0..150 {
        let (world, server) = hoarders(step, 2, 1);
        world.set_fault(Fault::MessageLate, 10_000);
        let ended = gets_at_once(&world, 1, 1);
        // What idles is given at once: the hand-over, step by step.
        world.run_for(Duration::from_micros(4 * step)).unwrap();
        strike(&world);
        world.audit().unwrap();
        world.run_for(ms(50)).unwrap();
        world.audit().unwrap();
        for core in 0..2 {
            if world
                .run_on(core, async { Pool::local().is_err() })
                .unwrap()
            {
                world.leave(core);
                world.join(core).unwrap();
            }
        }
        world.run().unwrap();
        served += sorted(&ended.borrow()).0 as u64;
        on(&world, 0, async |pool| exchange(&pool).await).unwrap();
        on(&world, 1, async |pool| exchange(&pool).await).unwrap();
        moved += stats(&world).received;
        nothing_left(&world, &[server]);
    }
    (moved, served)
}

#[test]
fn x5_x6_a_giver_that_ends_in_the_middle_takes_no_permit_along() {
    let (moved, _) = in_the_middle(|world| {
        world.end_core(1);
        world.join(1).unwrap();
    });
    assert!(moved > 0, "nothing was ever on its way");
}

#[test]
fn x5_x13_a_receiver_that_ends_in_the_middle_leaves_the_connection_where_it_was() {
    let (moved, _) = in_the_middle(|world| {
        world.end_core(0);
        world.join(0).unwrap();
    });
    assert!(moved > 0, "nothing was ever on its way");
}

#[test]
fn r7_x5_x13_a_giver_whose_ring_dies_in_the_middle_keeps_nobody_waiting() {
    for step in 0..100 {
        let (world, server) = hoarders(step, 2, 1);
        world.set_fault(Fault::MessageLate, 10_000);
        let ended = gets_at_once(&world, 1, 1);
        world.run_for(Duration::from_micros(6 * step)).unwrap();
        world.break_ring(1);
        let began = world.now();
        world.run().unwrap();
        assert_eq!(sorted(&ended.borrow()), (1, Vec::new()));
        let took = world.now() - began;
        assert!(took < secs(2), "{took:?} at {step}");
        assert!(open_at([&server]) <= 1);
        world.audit().unwrap();
    }
}

#[test]
fn x10_a_receiver_that_stands_still_gets_its_connection_when_it_goes_on() {
    let (moved, served) = in_the_middle(|world| world.freeze(0, secs(2)));
    assert!(moved >= 150, "{moved} were on their way");
    assert_eq!(served, 150);
}

#[test]
fn x11_a_connection_for_somebody_who_has_gone_is_not_lost() {
    seeds(150, |seed| {
        let (world, server) = hoarders(seed, 2, 1);
        world.set_fault(Fault::MessageLate, 10_000);
        let patience = Duration::from_micros(4 * seed);
        world.spawn_on(0, "impatient", async move {
            let pool = Pool::local().unwrap();
            let get = ringpool::spawn(async move { pool.get(NAME).await.map(Conn::release) });
            after(patience).await;
            get.abort();
        });
        world.run().unwrap();
        world.run_for(ms(20)).unwrap();
        world.audit().unwrap();
        for core in [0, 1] {
            on(&world, core, async |pool| exchange(&pool).await).unwrap();
        }
        assert_eq!(opened(&server), 1, "the connection was lost");
        nothing_left(&world, &[server]);
    });
}

#[test]
fn x8_x10_a_connection_comes_back_from_a_receiver_that_stands_still() {
    let mut came_back = 0;
    for step in 0..80 {
        let (world, server) = hoarders(step, 2, 1);
        world.set_fault(Fault::MessageLate, 10_000);
        let far = Rc::new(RefCell::new(false));
        let got = far.clone();
        world.spawn_on(0, "far", async move {
            let conn = Pool::local().unwrap().get(NAME).await.unwrap();
            *got.borrow_mut() = true;
            ping(&conn).await.unwrap();
        });
        world.run_for(Duration::from_micros(8 * step)).unwrap();
        if *far.borrow() {
            continue;
        }
        world.freeze(0, secs(2));
        let near = Rc::new(RefCell::new(None));
        let ended = near.clone();
        world.spawn_on(1, "near", async move {
            let began = sim::now().unwrap();
            exchange(&Pool::local().unwrap()).await.unwrap();
            *ended.borrow_mut() = Some(sim::now().unwrap() - began);
        });
        world.run().unwrap();
        assert!(*far.borrow());
        let waited = near.take().unwrap();
        assert!(waited < ms(270), "step {step}: {waited:?}");
        came_back += u32::from(waited > ms(240));
        nothing_left(&world, &[server]);
    }
    assert!(came_back > 0, "nothing was ever on its way");
}

#[test]
fn x8_others_help_who_waits_for_a_giver_that_stands_still() {
    let mut helped = 0;
    for step in 0..60 {
        let (world, server) = hoarders(step, 3, 2);
        let far = Rc::new(RefCell::new(None));
        let ended = far.clone();
        world.spawn_on(0, "far", async move {
            let began = sim::now().unwrap();
            exchange(&Pool::local().unwrap()).await.unwrap();
            *ended.borrow_mut() = Some(sim::now().unwrap() - began);
        });
        world.set_fault(Fault::MessageLate, 10_000);
        world.run_for(Duration::from_micros(step)).unwrap();
        let giver = 1 + step as usize % 2;
        world.freeze(giver, secs(2));
        world.run().unwrap();
        let waited = far.take().unwrap();
        // 250 ms for the giver, and as long for a slot, which it keeps.
        assert!(waited < ms(510), "step {step}: {waited:?}");
        helped += u32::from(waited > ms(240));
        nothing_left(&world, &[server]);
    }
    assert!(helped > 0, "no giver stood still in the middle");
}

#[test]
fn x11_what_all_cores_have_cleared_is_handed_to_nobody() {
    for step in 0..100 {
        let (world, server) = hoarders(step, 2, 1);
        world.set_fault(Fault::MessageLate, 10_000);
        let got = Rc::new(RefCell::new(None));
        let has = got.clone();
        world.spawn_on(0, "get", async move {
            let conn = Pool::local().unwrap().get(NAME).await.unwrap();
            *has.borrow_mut() = Some((sim::now().unwrap(), conn.is_reused()));
            conn.release();
        });
        world.run_for(Duration::from_micros(8 * step)).unwrap();
        for core in [step as usize % 2, 1 - step as usize % 2] {
            on(&world, core, async |pool| pool.clear_endpoint(NAME)).unwrap();
            world.run_for(Duration::from_micros(150)).unwrap();
        }
        let cleared = world.now();
        world.run().unwrap();
        let (at, is_reused) = got.take().unwrap();
        assert!(at < cleared || !is_reused, "step {step}");
        nothing_left(&world, &[server]);
    }
}

/// The connection comes, and ends, while the receiver stands still, as the gate tells the servers.
/// What meets the receiver then is `trouble`. Nobody gets the connection.
fn ended_on_its_way(prepare: impl Fn(&World, &Gate), trouble: impl Fn(&World)) {
    let mut moved = 0;
    for step in 0..50 {
        let gate = Gate::new();
        let script = Script::new().expect("ping").send("pong");
        let script = script.until(&gate).wait(ms(1)).reset();
        let (world, server) = hoarders_of(step, 2, 1, script);
        prepare(&world, &gate);
        world.set_fault(Fault::MessageLate, 10_000);
        let (got, result) = (Rc::new(RefCell::new(false)), Rc::new(RefCell::new(None)));
        let (has, ended) = (got.clone(), result.clone());
        world.spawn_on(0, "get", async move {
            let conn = Pool::local().unwrap().get(NAME).await.unwrap();
            *has.borrow_mut() = true;
            *ended.borrow_mut() = Some(ping(&conn).await);
            conn.release();
        });
        world.run_for(Duration::from_micros(12 * step)).unwrap();
        let had_it = *got.borrow();
        gate.open();
        world.freeze(0, ms(8));
        // The clock of the test stands still, too.
        world.run_for(ms(1)).unwrap();
        trouble(&world);
        world.run_for(ms(30)).unwrap();
        world.end_faults();
        world.run().unwrap();
        let result = result.take().unwrap();
        if !had_it {
            assert!(result.is_ok(), "step {step}: {result:?}");
            moved += stats(&world).received;
        }
        nothing_left(&world, &[server]);
    }
    assert!(moved > 0, "nothing was ever on its way");
}

#[test]
fn e2_r8_a_connection_is_not_looked_at_before_the_kernel_has_its_receive() {
    let trouble = |world: &World| world.set_fault(Fault::EnterAgain, 9_000);
    ended_on_its_way(|_, _| {}, trouble);
}

#[test]
fn e2_a_connection_is_not_looked_at_while_completions_are_unread() {
    let prepare = |world: &World, gate: &Gate| {
        let script = Script::new().expect("ping").until(gate);
        let pieces = (0..1_200).fold(script, |script, _| {
            script.send("x").wait(Duration::from_micros(1))
        });
        let busy = world.server("busy.test:1", &["10.0.0.7"]).unwrap();
        busy.on_connect(pieces);
        world.spawn_on(0, "hold", async {
            let conn = Pool::local().unwrap().get("busy.test:1").await.unwrap();
            conn.write_all(b"ping").await.unwrap();
            after(ms(500)).await;
            drop(conn);
        });
        world.run_for(ms(100)).unwrap();
    };
    ended_on_its_way(prepare, |_| {});
}

#[test]
fn x3_a_core_that_stands_still_for_seconds_makes_nobody_swing() {
    seeds(20, |seed| {
        let world = World::builder(seed).cores(3).build().unwrap();
        let all = servers(&world, &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        let hold = |core: usize| {
            world.spawn_on(core, "hold", async {
                let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                after(secs(10)).await;
                conn.release();
            });
        };
        let counts = || -> Vec<usize> { all.iter().map(|it| open_at([it])).collect() };
        (0..7).for_each(|_| hold(2));
        world.run_for(ms(200)).unwrap();
        world.freeze(2, secs(5));
        for n in 0..15 {
            hold(n % 2);
            world.run_for(ms(200)).unwrap();
        }
        let before = counts();
        let (most, least) = (before.iter().max(), before.iter().min());
        assert!(most.unwrap() - least.unwrap() <= 3, "{before:?}");
        // It knows again, and is known: nothing moves for that.
        world.run_for(secs(3)).unwrap();
        assert_eq!(counts(), before);
        assert_eq!(dials_of(&all), 22);
        world.run().unwrap();
        nothing_left(&world, &all);
    });
}
