//! Connections with a protocol's state change cores, or nearly: every state that was made ends once.

use super::*;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ringpool::{CloseReason, Packed, Stream};

/// What became of the states.
#[derive(Default)]
struct Told {
    made: AtomicU32,
    closed: AtomicU32,
    /// On the way, when there was nobody to put them together.
    dropped: AtomicU32,
}

struct Pinging(Arc<Told>);

/// How many pings the connection has answered.
struct Pings(Cell<u32>);

/// The same on its way.
struct Parcel {
    pings: u32,
    told: Option<Arc<Told>>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(told) = &self.told {
            told.dropped.fetch_add(1, Ordering::Relaxed);
            // The drop of what is the user's may use the pool.
            let _stats = Pool::local().map(|pool| pool.all_stats());
        }
    }
}

impl Protocol for Pinging {
    type State = Pings;

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<Pings> {
        self.0.made.fetch_add(1, Ordering::Relaxed);
        Ok(Pings(Cell::new(0)))
    }

    fn on_close(&self, _state: &Pings) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }

    fn changes_cores(&self) -> bool {
        true
    }

    fn pack(&self, state: Pings) -> std::result::Result<Packed, Pings> {
        Ok(Box::new(Parcel {
            pings: state.0.get(),
            told: Some(self.0.clone()),
        }))
    }

    fn unpack(&self, packed: Packed) -> Option<Pings> {
        let mut parcel = packed.downcast::<Parcel>().ok()?;
        parcel.told = None;
        Some(Pings(Cell::new(parcel.pings)))
    }
}

/// The limit is one connection.
fn one_connection(seed: u64) -> (World, Server, Arc<Told>) {
    let config = Config {
        max_connections_per_endpoint: 1,
        get_timeout: secs(5),
        ..Config::default()
    };
    let builder = World::builder(seed).cores(2).config(config);
    let world = builder.build().unwrap();
    let server = ponging(&world);
    (world, server, Arc::default())
}

/// Get, `ping`, release; returns how many pings the state knew of.
async fn count(told: Arc<Told>) -> Result<u32> {
    let conn = Pool::local()?.protocol(Pinging(told)).get(NAME).await?;
    ping(&conn).await?;
    let pings = conn.state().map_or(0, |state| {
        state.0.set(state.0.get() + 1);
        state.0.get()
    });
    conn.release();
    Ok(pings)
}

fn count_on(world: &World, core: usize, told: &Arc<Told>) -> u32 {
    let told = told.clone();
    on(world, core, async move |_| count(told).await).unwrap()
}

/// After the end, every state has ended, one way or the other.
fn all_ended(world: &World, server: Server, told: &Told) {
    nothing_left(world, &[server]);
    let of = |count: &AtomicU32| count.load(Ordering::Relaxed);
    assert_eq!(of(&told.made), of(&told.closed) + of(&told.dropped));
}

#[test]
fn x4_x13_the_state_of_a_connection_that_cannot_be_sent_is_put_together_again() {
    seeds(40, |seed| {
        let (world, server, told) = one_connection(seed);
        assert_eq!(count_on(&world, 1, &told), 1);
        world.set_fault(Fault::MessageFails, 10_000);
        // Who waits leaves before the wait is worth a close.
        let asking = told.clone();
        world.spawn_on(0, "impatient", async move {
            let get = ringpool::spawn(count(asking));
            after(ms(3)).await;
            get.abort();
        });
        world.run_for(ms(150)).unwrap();
        world.spawn_on(0, "impatient", {
            let asking = told.clone();
            async move {
                let get = ringpool::spawn(count(asking));
                after(ms(3)).await;
                get.abort();
            }
        });
        world.run().unwrap();
        assert_fired(&world, &[Fault::MessageFails]);
        world.end_faults();
        assert_eq!(count_on(&world, 1, &told), 2);
        assert_eq!(told.made.load(Ordering::Relaxed), 1);
        all_ended(&world, server, &told);
    });
}

/// Core 0 asks for what core 1 has; in one of many moments of the hand-over `strike` happens. Returns
/// how many states were made and how many were dropped on their way, of all.
fn in_the_middle(strike: impl Fn(&World)) -> (u32, u32) {
    let (mut made, mut dropped) = (0, 0);
    for step in 0..150 {
        let (world, server, told) = one_connection(step);
        count_on(&world, 1, &told);
        world.run_for(ms(200)).unwrap();
        world.set_fault(Fault::MessageLate, 10_000);
        let asking = told.clone();
        world.spawn_on(0, "get", async move {
            let _ended = count(asking).await;
        });
        world.run_for(Duration::from_micros(4 * step)).unwrap();
        strike(&world);
        world.audit().unwrap();
        world.run().unwrap();
        for core in 0..2 {
            let has_ended = world.run_on(core, async { Pool::local().is_err() });
            if has_ended.unwrap() {
                world.leave(core);
                world.join(core).unwrap();
            }
        }
        for core in 0..2 {
            count_on(&world, core, &told);
        }
        made += told.made.load(Ordering::Relaxed);
        dropped += told.dropped.load(Ordering::Relaxed);
        all_ended(&world, server, &told);
    }
    (made, dropped)
}

#[test]
fn x5_x6_every_state_ends_once_when_its_giver_ends_in_the_middle() {
    let (made, dropped) = in_the_middle(|world| {
        world.end_core(1);
        world.join(1).unwrap();
    });
    assert!(
        made > 150,
        "the core never ended before its connection had gone"
    );
    assert!(dropped < made);
}

#[test]
fn x5_x13_every_state_ends_once_when_its_receiver_ends_in_the_middle() {
    let (made, dropped) = in_the_middle(|world| {
        world.end_core(0);
        world.join(0).unwrap();
    });
    assert!(
        made > 150,
        "{made}, {dropped}: none ended with its receiver"
    );
}

#[test]
fn x10_a_state_on_its_way_waits_for_a_core_that_stands_still() {
    let (made, dropped) = in_the_middle(|world| world.freeze(0, secs(2)));
    assert!(made < 2 * 150, "{made}: it was never waited for");
    assert_eq!(dropped, 0);
}

/// Its connections stay on their core.
struct Staying;

impl Protocol for Staying {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }
}

/// Connections closed for one get on core 0, where all permits are idle on the other cores and none of
/// the connections can change cores.
fn closed_for_one_get(cores: usize, each: usize) -> u64 {
    let limit = (cores - 1) * each;
    let config = Config {
        max_connections_per_endpoint: limit,
        get_timeout: secs(5),
        ..Config::default()
    };
    let builder = World::builder(7).cores(cores).config(config);
    let world = builder.completions(4096).build().unwrap();
    let _server = ponging(&world);
    for core in (0..limit).map(|n| 1 + n % (cores - 1)) {
        world.spawn_on(core, "hoard", async move {
            let pool = Pool::local().unwrap().protocol(Staying);
            let conn = pool.get(NAME).await.unwrap();
            ping(&conn).await.unwrap();
            after(ms(20)).await;
            conn.release();
        });
    }
    world.run().unwrap();
    world.run_for(ms(200)).unwrap();
    world
        .run_on(0, async move {
            let pool = Pool::local().unwrap().protocol(Staying);
            let conn = pool.get(NAME).await.unwrap();
            ping(&conn).await.unwrap();
        })
        .unwrap();
    let all = world.run_on(0, async { Pool::local().unwrap().all_stats() });
    let all = all.unwrap();
    all.iter()
        .map(|it| it.1.closed_by(CloseReason::Demand))
        .sum()
}

#[test]
fn x7_x12_one_waiter_costs_about_one_connection_where_none_can_change_cores() {
    for (cores, each, most) in [(3, 1, 1), (8, 2, 2), (17, 1, 2), (17, 2, 2)] {
        let closed = closed_for_one_get(cores, each);
        assert!((1..=most).contains(&closed), "{cores} cores: {closed}");
    }
}
