//! Every core serves its own gets in their order. Between cores, who has waited much longer goes
//! first: how much is said in `docs/cores.md`, and asked of all pairs of gets here.

use super::*;

/// One get that was served.
#[derive(Debug, Clone, Copy)]
struct Served {
    core: usize,
    began: Duration,
    ended: Duration,
}

/// Numbers that are the same for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// Clients on all cores, more of them on the first, that take turns on a few connections.
fn busy_cores(seed: u64, cores: usize, limit: usize) -> Vec<Served> {
    let config = Config {
        max_connections_per_endpoint: limit,
        get_timeout: secs(60),
        ..Config::default()
    };
    let world = World::builder(seed).cores(cores).config(config);
    let world = world.build().unwrap();
    let server = ponging(&world);
    let all = Rc::new(RefCell::new(Vec::new()));
    for n in 0..40 {
        let core = if n % 2 == 0 { 0 } else { n / 2 % cores };
        let (all, mut draw) = (all.clone(), Draw(seed * 1000 + n as u64));
        world.spawn_on(core, &format!("client {n}"), async move {
            after(ms(draw.below(100))).await;
            for _ in 0..10 {
                let began = sim::now().unwrap();
                let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                let ended = sim::now().unwrap();
                all.borrow_mut().push(Served { core, began, ended });
                after(ms(1 + draw.below(8))).await;
                conn.release();
                after(ms(draw.below(20))).await;
            }
        });
    }
    world.run().unwrap();
    nothing_left(&world, &[server]);
    all.take()
}

/// How much longer than a get that was served another one had waited by then, on a core to which no
/// connection was on its way.
fn worst(all: &[Served]) -> Duration {
    let is_helped = |core: usize, at: Duration| {
        let mut of_core = all.iter().filter(|it| it.core == core);
        of_core.any(|it| it.ended > at && it.ended <= at + ms(10))
    };
    let passed_over = |one: &Served| {
        let older = all
            .iter()
            .filter(|it| it.core != one.core && it.began < one.began);
        let waits = older.filter(|it| it.ended > one.ended && !is_helped(it.core, one.ended));
        let oldest = waits.map(|it| it.began).min();
        oldest.map_or(Duration::ZERO, |oldest| one.began - oldest)
    };
    all.iter().map(passed_over).max().unwrap_or_default()
}

#[test]
fn x12_who_has_waited_50_ms_longer_on_another_core_goes_first() {
    seeds(30, |seed| {
        let (cores, limit) = (2 + seed as usize % 3, 1 + seed as usize % 5);
        let all = busy_cores(seed, cores, limit);
        assert_eq!(all.len(), 400);
        let worst = worst(&all);
        assert!(
            worst <= ms(52),
            "{cores} cores, {limit} connections: {worst:?}"
        );
    });
}
