//! One schedule from beginning to end: trouble, then peace in which everybody must be served, then
//! the end in which everything must be given back.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::client::{Attic, Client, DropAfter, hold_one, must_succeed};
use super::judge::Judge;
use super::plan::{Blow, Plan};
use super::responder::Responder;
use super::truth::Truth;
use super::{Fault, Outcome};
use crate::machine::Step;
use crate::machine::net::{Accept, Peer};
use crate::policy::Rng;
use crate::sim::world::World;
use crate::time::Tick;

/// How long trouble goes on at most.
const TROUBLE: Duration = Duration::from_secs(1000);
/// How long a core may take to drain, in the end.
const DRAIN: Duration = Duration::from_secs(1);
/// What a drain may take beyond its deadline: 100 ms for users to let go, and timers that are late.
const LATE: Duration = Duration::from_millis(300);
/// How long it takes to open connections when nothing goes wrong; no connection is as old.
const SOON: Duration = Duration::from_millis(150);
/// How long peace may last until everybody is served.
const PEACE: Duration = Duration::from_secs(60);
/// The number of the first client of peace.
const LAST: u64 = 100;

/// What runs one schedule.
struct Schedule {
    plan: Plan,
    world: World,
    truth: Truth,
    judge: Judge,
    attic: Attic,
}

type Held = Result<(), String>;

pub(super) fn run(seed: u64, without: &[Fault], trace: bool) -> Outcome {
    let plan = Plan::draw(seed, without);
    let mut outcome = Outcome {
        faults: plan.faults.active(),
        ..Outcome::default()
    };
    let built = World::builder(seed)
        .cores(plan.cores)
        .config(plan.config.clone())
        .faults(plan.faults.clone())
        .completions(plan.room)
        .trace(trace)
        .build();
    let world = match built {
        Ok(world) => world,
        Err(error) => {
            outcome.failure = Some(format!("the world was not made: {error}"));
            return outcome;
        }
    };
    let machine = world.machine.downgrade();
    let schedule = Schedule {
        truth: Truth::new(&world.machine),
        judge: Judge::new(&plan.services, &plan.config),
        attic: Attic::default(),
        plan,
        world,
    };
    outcome.failure = schedule.all().err();
    schedule.tell(&mut outcome);
    // A guard that was forgotten keeps its core for ever, as the user asked for.
    let may_stay = schedule.truth.has_forgotten();
    drop(schedule);
    if outcome.failure.is_none() && !may_stay && machine.upgrade().is_some() {
        outcome.failure = Some("the world has ended, and something still holds its machine".into());
    }
    outcome
}

impl Schedule {
    fn all(&self) -> Held {
        self.servers();
        self.trouble()?;
        self.peace()?;
        self.end()
    }

    fn tell(&self, outcome: &mut Outcome) {
        let machine = &self.world.machine;
        outcome.steps = machine.steps();
        outcome.time = self.world.now();
        outcome.answers = self.truth.answers();
        outcome.fired = machine.with(|state| state.faults.fired().collect());
        outcome.met = machine.met();
        outcome.trace = self.world.take_trace();
    }

    /// Steps until `done`, at most for `time`.
    fn until(&self, time: Duration, done: impl Fn(&World) -> bool) -> Result<bool, String> {
        let machine = &self.world.machine;
        let end = machine.now().plus(time);
        while !done(&self.world) {
            if machine.now() > end {
                return Ok(false);
            }
            let step = self.world.step();
            if step == Step::Stuck {
                if machine.is_awaiting() {
                    return Err(format!("I7: {}", self.world.stuck("nothing can go on")));
                }
                machine.pass_until(end);
                return Ok(done(&self.world));
            }
            self.judge.after(&self.world, step)?;
        }
        Ok(true)
    }

    // -- trouble -------------------------------------------------------------------------------

    fn servers(&self) {
        for service in 0..self.plan.services.len() {
            self.name(service, u64::MAX);
        }
        self.listen();
        for dead in &self.plan.dead {
            let fault = match dead {
                SocketAddr::V6(_) if self.plan.faults.has(Fault::FamilySilent) => {
                    Fault::FamilySilent
                }
                _ => Fault::DeadAddress,
            };
            let machine = &self.world.machine;
            machine.with(|state| state.faults.count(fault));
            machine.black_hole(*dead);
        }
    }

    /// The name has those of its addresses whose bits are set; all, if it would have none.
    fn name(&self, service: usize, bits: u64) {
        let service = &self.plan.services[service];
        let all: Vec<IpAddr> = service.addresses.iter().map(|it| it.ip()).collect();
        let named = all
            .iter()
            .enumerate()
            .filter(|(at, _)| bits & (1 << at) != 0);
        let named: Vec<IpAddr> = named.map(|(_, ip)| *ip).collect();
        let addresses = if named.is_empty() { all } else { named };
        self.world.set_name(&service.name, &addresses, service.ttl);
    }

    /// The name has other addresses for a while.
    fn rename(&self, service: usize, bits: u64, time: Duration) -> Held {
        self.name(service, bits);
        self.until(time, |world| !world.machine.is_awaiting())?;
        self.name(service, u64::MAX);
        Ok(())
    }

    fn listen(&self) {
        for address in self.plan.services.iter().flat_map(|it| &it.addresses) {
            let truth = self.truth.clone();
            let accept: Accept = Rc::new(move |_: &mut Rng| -> Box<dyn Peer> {
                Box::new(Responder::new(truth.clone()))
            });
            self.world.machine.listen(*address, accept);
        }
    }

    fn names(&self) {
        for server in self.world.name_servers() {
            server.come_back();
        }
    }

    fn client(&self, core: usize, number: u64) -> Client {
        let seed = self.plan.seed ^ (core as u64) << 32 ^ number.wrapping_mul(0x9E37_79B9);
        let mut rng = Rng::new(seed);
        let services = &self.plan.services;
        let service = &services[rng.below(services.len() as u64) as usize];
        let has = |blow: fn(&Blow) -> Option<Duration>| {
            let blows = self.plan.blows.iter().filter_map(|(_, it)| blow(it));
            blows.sum::<Duration>()
        };
        let frozen = has(|blow| match blow {
            Blow::Freeze(_, time) => Some(*time),
            _ => None,
        });
        Client {
            core,
            machine: self.world.machine.clone(),
            truth: self.truth.clone(),
            rng,
            name: format!("{}:{}", service.name, service.addresses[0].port()),
            attic: self.attic.clone(),
            old: None,
            patience: self.plan.config.get_timeout + frozen + LATE,
            keeps_handles: number < LAST
                && self
                    .plan
                    .blows
                    .iter()
                    .any(|(_, it)| matches!(it, Blow::Die { handle: true, .. })),
        }
    }

    fn trouble(&self) -> Held {
        let begin = self.world.machine.now().plus(Duration::from_millis(5));
        for core in 0..self.plan.cores {
            for n in 0..self.plan.clients {
                let client = self.client(core, n as u64);
                let at_once = self.plan.at_once;
                let rounds = match (self.plan.uneven, core) {
                    (false, _) => self.plan.rounds,
                    (true, 0) => 3 * self.plan.rounds,
                    (true, _) => 1,
                };
                self.world
                    .spawn_on(core, &format!("client {n}"), async move {
                        if at_once {
                            client.machine.sleep_until(begin).await;
                            client
                                .machine
                                .with(|state| state.faults.count(Fault::ManyTimers));
                        }
                        client.run(rounds).await;
                    });
            }
        }
        let mut last = Duration::ZERO;
        for (at, blow) in &self.plan.blows {
            self.until(at.saturating_sub(last), |world| {
                !world.machine.is_awaiting()
            })?;
            last = *at;
            self.strike(*blow)?;
        }
        if !self.until(TROUBLE, |world| !world.machine.is_awaiting())? {
            return Err(format!("I7: {}", self.world.stuck("clients do not end")));
        }
        Ok(())
    }

    fn strike(&self, blow: Blow) -> Held {
        let world = &self.world;
        let machine = &world.machine;
        machine.note(|| format!("{blow:?}"));
        let count = |fault| machine.with(|state| state.faults.count(fault));
        match blow {
            Blow::Rename(service, bits, time) => {
                count(Fault::AddressesChange);
                self.rename(service, bits, time)?;
            }
            Blow::Files(attempts) => {
                count(Fault::FilesChange);
                let servers = world.name_servers().iter();
                let lines = servers.map(|it| format!("nameserver {}\n", it.address().ip()));
                let text = lines.collect::<String>() + &format!("options attempts:{attempts}\n");
                world.set_file("/etc/resolv.conf", text.as_bytes());
            }
            Blow::Restart(address, gone) => {
                count(Fault::Restart);
                machine.reset_all(address);
                machine.stop_listening(address);
                self.until(gone, |_| false)?;
                self.listen();
            }
            Blow::Outage(time, silent) => {
                count(Fault::Outage);
                for address in self.plan.services.iter().flat_map(|it| &it.addresses) {
                    match silent {
                        true => machine.black_hole(*address),
                        false => machine.stop_listening(*address),
                    }
                    machine.reset_all(*address);
                }
                self.until(time, |_| false)?;
                self.listen();
            }
            Blow::NamesGone(time, silent) => {
                count(Fault::NamesGone);
                for server in world.name_servers() {
                    match silent {
                        true => server.vanish(),
                        false => server.refuse(),
                    }
                }
                self.until(time, |_| false)?;
                self.names();
            }
            Blow::Flap(address) => {
                count(Fault::Flap);
                world.cut(None, address.ip(), Duration::from_secs(5));
            }
            Blow::Freeze(core, time) => {
                count(if core.is_some() {
                    Fault::Descheduled
                } else {
                    Fault::Stopped
                });
                let all = 0..world.cores();
                for frozen in all.filter(|it| core.is_none_or(|core| core == *it)) {
                    world.freeze(frozen, time);
                }
            }
            Blow::Drain { core, twice } => self.drain_in_trouble(core, twice)?,
            Blow::Die { core, handle } => self.die(core, handle)?,
        }
        Ok(())
    }

    /// A core's runtime ends; what was kept of its connections is used afterwards.
    fn die(&self, core: usize, handle: bool) -> Held {
        let world = &self.world;
        let fault = match handle {
            true => Fault::LateHandle,
            false => Fault::CoreDies,
        };
        world.machine.with(|state| state.faults.count(fault));
        world.end_core(core);
        self.judge.after(world, Step::Ran(core))?;
        let mut attic = self.attic.borrow_mut();
        let (late, kept) = attic.drain(..).partition(|(owner, _)| *owner == core);
        *attic = kept;
        drop(attic);
        drop::<Vec<_>>(late);
        world
            .join(core)
            .map_err(|error| format!("core {core}: {error}"))
    }

    /// A core is drained while its clients go on; drains may be given up, and come twice.
    fn drain_in_trouble(&self, core: usize, twice: bool) -> Held {
        let world = &self.world;
        let Some(shard) = world.shard(core) else {
            return Ok(());
        };
        let machine = world.machine.clone();
        let ended = Rc::new(RefCell::new(0));
        for _ in 0..1 + usize::from(twice) {
            let (truth, ended) = (self.truth.clone(), ended.clone());
            let shard = shard.clone();
            let fault = match twice {
                true => Fault::DrainTwice,
                false => Fault::DrainWhileBusy,
            };
            machine.with(|state| state.faults.count(fault));
            drop(world.spawn_on(core, "drain", async move {
                let polls = truth.hit(Fault::DropDrain).then_some(3);
                let _cut = DropAfter::new(shard.drain(DRAIN / 4), polls).await;
                *ended.borrow_mut() += 1;
            }));
        }
        let all = 1 + usize::from(twice);
        let in_time = self.until(self.drain_limit(DRAIN / 4), |_| *ended.borrow() == all)?;
        if !in_time && world.shard(core).is_some() {
            return Err(format!("I20: core {core} does not drain by its deadline"));
        }
        world.leave(core);
        self.judge.after(world, Step::Ran(core))?;
        world
            .join(core)
            .map_err(|error| format!("core {core}: {error}"))
    }

    /// The deadline of a drain, with what the schedule itself adds.
    fn drain_limit(&self, drain: Duration) -> Duration {
        let frozen = self.plan.blows.iter().map(|(_, blow)| match blow {
            Blow::Freeze(_, time) => *time,
            _ => Duration::ZERO,
        });
        drain + LATE + frozen.sum::<Duration>()
    }

    // -- peace ---------------------------------------------------------------------------------

    /// Nothing goes wrong any more: everybody must be served, and the balance be reached.
    fn peace(&self) -> Held {
        let world = &self.world;
        let machine = &world.machine;
        machine.with(|state| state.faults.end());
        machine.thaw();
        self.listen();
        self.names();
        machine.heal();
        drop(self.attic.borrow_mut().drain(..).collect::<Vec<_>>());
        let mut blows = self.plan.blows.iter();
        let renamed = blows.any(|(_, blow)| matches!(blow, Blow::Rename(..)));
        // What was known of a name is good for as long as its answers; old ones serve for 30 s more.
        let settled = Duration::from_secs(if renamed { 45 } else { 3 });
        self.until(settled, |_| false)?;
        for core in 0..self.plan.cores {
            if world
                .shard(core)
                .is_none_or(|shard| shard.audit().is_ok_and(|it| it.ended))
            {
                world.leave(core);
                world
                    .join(core)
                    .map_err(|error| format!("core {core}: {error}"))?;
            }
        }
        self.judge.begin_peace();
        let until = machine.now().plus(PEACE);
        if self.truth.has_forgotten() {
            return Ok(());
        }
        for core in 0..self.plan.cores {
            for n in 0..2 {
                let client = self.client(core, LAST + n);
                drop(world.spawn_on(core, "last client", must_succeed(client, until)));
            }
        }
        if !self.until(PEACE * 2, |world| !world.machine.is_awaiting())? {
            return Err(format!(
                "liveness: {}",
                world.stuck("last clients do not end")
            ));
        }
        self.balance()
    }

    /// From nothing, as many connections as there may be are opened at once.
    fn balance(&self) -> Held {
        let world = &self.world;
        for core in 0..self.plan.cores {
            self.drain(core)?;
            world.leave(core);
            world
                .join(core)
                .map_err(|error| format!("core {core}: {error}"))?;
        }
        // What failed before is out for the new cores too, until nobody has used it for a while.
        self.until(PEACE * 2, |_| false)?;
        let service = &self.plan.services[0];
        let name = format!("{}:{}", service.name, service.addresses[0].port());
        let most = self.plan.most();
        let began = world.machine.now();
        let until = began.plus(SOON * 2);
        for n in 0..most {
            let core = n % self.plan.cores;
            let mut client = self.client(core, 2 * LAST + n as u64);
            client.name.clone_from(&name);
            drop(world.spawn_on(core, "holder", hold_one(client, until)));
        }
        self.until(SOON, |_| false)?;
        self.judge.balanced(world, service, self.plan.cores)?;
        self.until(PEACE, |world| !world.machine.is_awaiting())?;
        Ok(())
    }

    // -- the end -------------------------------------------------------------------------------

    /// A core drains by its deadline, and then has nothing left.
    fn drain(&self, core: usize) -> Held {
        let world = &self.world;
        let Some(shard) = world.shard(core) else {
            return Ok(());
        };
        let began = world.machine.now();
        let drained = Rc::new(RefCell::new(None));
        let (told, machine) = (drained.clone(), world.machine.clone());
        drop(world.spawn_on(core, "last drain", async move {
            shard.drain(DRAIN).await;
            *told.borrow_mut() = Some(machine.now());
        }));
        self.until(DRAIN * 3, |_| drained.borrow().is_some())?;
        let ended: Option<Tick> = *drained.borrow();
        let took = ended.map(|ended| ended.since(began));
        if took.is_none_or(|took| took > DRAIN + LATE) {
            return Err(format!(
                "I20: core {core} drained in {took:?}, deadline {DRAIN:?}"
            ));
        }
        if self.truth.has_forgotten() {
            return Ok(());
        }
        self.until(Duration::from_millis(50), |_| false)?;
        self.judge.empty(world, core)
    }

    /// Every core drains and leaves; then nothing may be left anywhere.
    fn end(&self) -> Held {
        let world = &self.world;
        for core in 0..self.plan.cores {
            self.drain(core)?;
        }
        for core in 0..self.plan.cores {
            world.leave(core);
        }
        self.until(Duration::from_millis(50), |_| false)?;
        self.judge.nothing_left(world)?;
        self.judge.only_true_addresses(world)
    }
}
