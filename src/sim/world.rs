//! A world: cores with a pool, servers, names, and one number that decides.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::core::SimCore;
use super::files::Files;
use super::names::{NameServer, Zone};
use super::server::Server;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::host::TaskHandle;
use crate::machine::{Fault, Faults, Machine, Step};
use crate::shard::Shard;

/// Where the world's name servers are.
pub(super) const NAME_SERVERS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 53, 0, 1), Ipv4Addr::new(10, 53, 0, 2)];
/// How long names of [`World::server`] may be kept.
const TTL: Duration = Duration::from_secs(60);
/// Completions that a core's ring holds, if nothing else is said.
const ROOM: usize = 256;
/// Steps that no test needs.
const MOST_STEPS: u64 = 50_000_000;

/// How a [`World`] is to be.
#[derive(Debug)]
#[must_use = "there is no world until `build` is called"]
pub struct WorldBuilder {
    seed: u64,
    cores: usize,
    config: Config,
    faults: Faults,
    room: usize,
    trace: bool,
}

impl WorldBuilder {
    /// How many cores, each with its shard of the pool. Default 1.
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = cores.max(1);
        self
    }

    /// The pool's settings. The system's files are the world's own ([`World::set_file`]) and name
    /// its name servers.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Lets `fault` happen where it can, `rate` times in ten thousand. Those that are told for a
    /// moment and not drawn (a core that dies, a restart) are done by the methods of [`World`].
    pub fn fault(mut self, fault: Fault, rate: u16) -> Self {
        self.faults.set(fault, rate.min(10_000));
        self
    }

    pub(super) fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// How many completions a core's ring holds before it overflows. Default 256.
    pub fn completions(mut self, places: usize) -> Self {
        self.room = places.max(1);
        self
    }

    /// Keeps a [trace](World::take_trace) from the beginning.
    pub fn trace(mut self, on: bool) -> Self {
        self.trace = on;
        self
    }

    /// Makes the world.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming the field.
    pub fn build(self) -> Result<World> {
        let machine = Machine::new(self.seed, self.faults);
        if self.trace {
            machine.with(|state| state.trace.switch_on());
        }
        let zone = Zone::default();
        let name_servers = NAME_SERVERS.map(|ip| {
            let address = SocketAddr::new(ip.into(), 53);
            NameServer::start(&machine, address, zone.clone())
        });
        let files = Files::new();
        let group = Group::with_disk(self.config, Arc::new(files.clone()))?;
        let trace = self.trace;
        let start = |core| SimCore::start(&machine, core, &group, self.room, trace);
        let cores = (0..self.cores).map(start).collect::<Result<_>>()?;
        Ok(World {
            machine,
            group,
            cores,
            zone,
            name_servers,
            files,
            servers: RefCell::default(),
            room: self.room,
            traced: self.trace,
        })
    }
}

/// A simulated world with one pool on its cores.
pub struct World {
    pub(super) machine: Machine,
    group: Group,
    cores: Vec<Rc<SimCore>>,
    pub(super) zone: Zone,
    pub(super) name_servers: [NameServer; 2],
    pub(super) files: Files,
    servers: RefCell<Vec<Server>>,
    room: usize,
    traced: bool,
}

impl World {
    /// A world with one core and default settings.
    ///
    /// # Errors
    ///
    /// None with the default settings, as far as the process has memory.
    pub fn new(seed: u64) -> Result<Self> {
        Self::builder(seed).build()
    }

    /// A world to be set up; everything in it follows from `seed`.
    pub fn builder(seed: u64) -> WorldBuilder {
        WorldBuilder {
            seed,
            cores: 1,
            config: Config::default(),
            faults: Faults::none(),
            room: ROOM,
            trace: false,
        }
    }

    /// Puts a server behind `endpoint` (`HOST:PORT`): the name gets these addresses.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the endpoint or an address cannot be read.
    pub fn server(&self, endpoint: &str, addresses: &[&str]) -> Result<Server> {
        let endpoint: Endpoint = endpoint.try_into()?;
        let read = |text: &&str| text.parse::<IpAddr>().map_err(|_| bad_address(text));
        let addresses = addresses.iter().map(read).collect::<Result<Vec<_>>>()?;
        self.set_name(endpoint.host(), &addresses, TTL);
        let port = endpoint.port();
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
        let server = Server::start(&self.machine, addresses.collect());
        self.servers.borrow_mut().push(server.clone());
        Ok(server)
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// The virtual time since the world began.
    pub fn now(&self) -> Duration {
        self.machine.now().since(crate::time::Tick::ZERO)
    }

    /// Starts a task on a core; [`run`](Self::run) goes on until it has ended.
    ///
    /// # Panics
    ///
    /// If there is no such core.
    pub fn spawn_on<F>(&self, core: usize, name: &str, future: F) -> TaskHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        assert!(core < self.cores.len(), "there is no core {core}");
        TaskHandle::simulated(self.machine.spawn(core, name, true, future))
    }

    /// Runs until every task of [`spawn_on`](Self::spawn_on) has ended.
    ///
    /// # Errors
    ///
    /// [`Stuck`] if nothing can go on and a task has not ended, or a script was given other bytes
    /// than it expects.
    pub fn run(&self) -> std::result::Result<(), Stuck> {
        let first = self.machine.steps();
        while self.machine.is_awaiting() {
            if self.step() == Step::Stuck {
                return Err(self.stuck("nothing can go on"));
            }
            if self.machine.steps() - first > MOST_STEPS {
                return Err(self.stuck("it goes on for ever"));
            }
            self.check()?;
        }
        Ok(())
    }

    /// Runs one future on a core, and everything else until it has ended.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// If the future panicked, with its panic.
    pub fn run_on<F>(&self, core: usize, future: F) -> std::result::Result<F::Output, Stuck>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let task = self.spawn_on(core, "main", future);
        self.run()?;
        let mut outcome = pin!(task.outcome());
        match outcome
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Some(Ok(value))) => Ok(value),
            Poll::Ready(Some(Err(panic))) => std::panic::resume_unwind(panic),
            _ => Err(self.stuck("its core has ended")),
        }
    }

    /// Lets `time` pass, whatever goes on meanwhile.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_for(&self, time: Duration) -> std::result::Result<(), Stuck> {
        let sleep = self.machine.sleep_until(self.machine.now().plus(time));
        let over = Rc::new(Cell::new(false));
        let rings = over.clone();
        let clock = async move {
            sleep.await;
            rings.set(true);
        };
        let task = self.machine.spawn(0, "the clock", true, clock);
        while !over.get() {
            if self.step() == Step::Stuck {
                return Err(self.stuck("nothing can go on"));
            }
            self.check()?;
        }
        drop(task);
        Ok(())
    }

    /// Ends a core as the end of its runtime does: its tasks are dropped, then its shard.
    pub fn end_core(&self, core: usize) {
        if let Some(core) = self.cores.get(core) {
            core.die();
        }
    }

    /// Drops the core's [`Member`](crate::Member): the shard ends, other tasks of the core go on.
    pub fn leave(&self, core: usize) {
        if let Some(core) = self.cores.get(core) {
            core.leave();
        }
    }

    /// Gives a core that has ended a new shard.
    ///
    /// # Errors
    ///
    /// As [`Group::join`], but for those of a runtime.
    pub fn join(&self, core: usize) -> Result<()> {
        match self.cores.get(core) {
            Some(core) => core.join(&self.group, self.room, self.traced),
            None => Err(Error::new(ErrorKind::InvalidInput, "there is no such core")),
        }
    }

    /// Lets nothing run on a core for `time`, as a scheduler that has other things to do.
    pub fn freeze(&self, core: usize, time: Duration) {
        self.machine.freeze(core, self.machine.now().plus(time));
    }

    /// The machine sleeps for `time`, as one whose lid is closed: the clock goes on, nothing runs, and
    /// what was under way is found when it wakes up.
    pub fn suspend(&self, time: Duration) {
        self.machine.suspend(time);
    }

    /// Lets nothing pass between a core (or all) and an address for `time`.
    pub fn cut(&self, core: Option<usize>, address: IpAddr, time: Duration) {
        let until = self.machine.now().plus(time);
        self.machine.cut(core, address, until);
    }

    /// Whether the cores have addresses of IPv6, as they do at first. Without, the IPv6 addresses of
    /// a name are tried last.
    pub fn set_ipv6(&self, on: bool) {
        self.machine.set_ipv6(on);
    }

    /// Stops the clock: timers do not fire any more. What waits for one is stuck.
    pub fn stop_clock(&self) {
        self.machine.stop_clock();
    }

    /// The kernel loses a completion of the core's ring and says so: its shard can do no more.
    pub fn break_ring(&self, core: usize) {
        self.machine.break_ring(core);
    }

    /// From now on `fault` happens where it can, `rate` times in ten thousand.
    pub fn set_fault(&self, fault: Fault, rate: u16) {
        self.machine
            .with(|state| state.faults.set(fault, rate.min(10_000)));
    }

    /// From now on no fault of the [builder](WorldBuilder::fault) happens.
    pub fn end_faults(&self) {
        self.machine.with(|state| state.faults.end());
    }

    /// How often `fault` happened.
    pub fn fired(&self, fault: Fault) -> u64 {
        self.machine.with(|state| {
            let mut fired = state.faults.fired();
            fired
                .find(|(it, _)| *it == fault)
                .map_or(0, |(_, count)| count)
        })
    }

    /// How many sockets the core's kernel has, those included that only an operation keeps.
    pub fn sockets(&self, core: usize) -> usize {
        self.machine.sockets(core)
    }

    /// How many operations the core's kernel has.
    pub fn operations(&self, core: usize) -> usize {
        self.machine.operations(core)
    }

    /// Compares what the layers of every core's pool believe of each connection.
    ///
    /// # Errors
    ///
    /// [`Stuck`], naming the invariant of `docs/faults.md` that does not hold.
    pub fn audit(&self) -> std::result::Result<(), Stuck> {
        for core in 0..self.cores.len() {
            if let Some(shard) = self.shard(core)
                && let Err(text) = shard.audit()
            {
                return Err(self.stuck(&format!("core {core}: {text}")));
            }
        }
        self.check()
    }

    /// What happened since the last call, line by line; empty unless the builder was told to.
    pub fn take_trace(&self) -> Vec<String> {
        self.machine.with(|state| state.trace.take())
    }

    /// Takes one step.
    pub(super) fn step(&self) -> Step {
        let step = self.machine.step();
        if let Step::Ran(core) = step {
            self.note_policy(core);
        }
        step
    }

    /// Moves what a core's policy was told and decided into the trace.
    fn note_policy(&self, core: usize) {
        if !self.traced {
            return;
        }
        let Some(shard) = self.shard(core) else {
            return;
        };
        for record in shard.take_trace().records {
            self.machine.note(|| format!("core {core} {}", record.what));
        }
    }

    /// Permits that cores hold, of all endpoints together.
    pub(super) fn permits_in_use(&self) -> u32 {
        self.group.permits_in_use()
    }

    /// Those of the endpoints of one host.
    pub(super) fn permits_of(&self, host: &str) -> u32 {
        self.group.permits_of(host)
    }

    pub(super) fn shard(&self, core: usize) -> Option<Rc<Shard>> {
        self.cores.get(core)?.shard()
    }

    fn check(&self) -> std::result::Result<(), Stuck> {
        let servers = self.servers.borrow();
        if let Some(mistake) = servers.iter().find_map(Server::mistake) {
            return Err(self.stuck(&mistake));
        }
        match self.machine.first_violation() {
            Some(violation) => Err(self.stuck(&violation)),
            None => Ok(()),
        }
    }

    /// Who waits for what.
    pub(super) fn stuck(&self, why: &str) -> Stuck {
        let mut known = Vec::new();
        for core in 0..self.cores.len() {
            known.extend(
                self.shard(core)
                    .map(|shard| shard.waits())
                    .unwrap_or_default(),
            );
        }
        let tasks = self.machine.waiting().into_iter();
        let waiting = tasks.filter(|task| task.awaited || &*task.name != "driver");
        let waiting = waiting.map(|task| {
            let known = known.iter().find(|(waker, _)| waker.will_wake(&task.waker));
            let what = known.map_or("something outside of the pool", |(_, what)| what);
            format!("{} on core {} waits for {what}", task.name, task.core)
        });
        Stuck {
            why: why.to_owned(),
            waiting: waiting.collect(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for core in &self.cores {
            core.die();
        }
        self.machine.forget();
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("cores", &self.cores.len())
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// Why a run could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    why: String,
    waiting: Vec<String>,
}

impl Stuck {
    /// The tasks that wait, and for what.
    pub fn waiting(&self) -> &[String] {
        &self.waiting
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        for line in &self.waiting {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl StdError for Stuck {}

fn bad_address(text: &str) -> Error {
    let text = format!("{text:?} is not an IP address");
    Error::new(ErrorKind::InvalidInput, text)
}
