//! Cores that share nothing know nothing of each other: together they would exceed a limit, and
//! each would ask the same name server. A [`Group`] is what the cores of one pool share: limits,
//! counts, names. Each core joins it with a shard of its own.
//!
//! Promise: a shard that leaves takes its counts and permits with it; a group is cheap to clone and
//! may be passed to any thread.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::local;
#[cfg(feature = "sim")]
use crate::machine;
use crate::ring::{self, Descriptor, Driver, Ring, RingConfig};
use crate::shard::{Core, Disk, Links, RealDisk, Shard, SharedState};

/// What the cores of one pool share.
///
/// A service that starts its own runtimes makes one group and joins it on every thread:
///
/// ```no_run
/// let group = ringpool::Group::new(ringpool::Config::default())?;
/// tokio_uring::start(async move {
///     let _member = group.join()?;
///     let conn = ringpool::Pool::local()?.get("localhost:6379").await?;
///     conn.release();
///     Ok::<(), ringpool::Error>(())
/// })?;
/// # Ok::<(), ringpool::Error>(())
/// ```
#[derive(Clone)]
pub struct Group {
    config: Arc<Config>,
    shared: Arc<SharedState>,
}

impl Group {
    /// A group without cores.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming the field.
    pub fn new(config: Config) -> Result<Self> {
        Self::with_disk(config, Arc::new(RealDisk))
    }

    /// A group whose resolver has its files from `disk`.
    pub(crate) fn with_disk(config: Config, disk: Arc<dyn Disk>) -> Result<Self> {
        config.validate()?;
        let config = Arc::new(config);
        let shared = Arc::new(SharedState::new(&config, disk));
        Ok(Self { config, shared })
    }

    /// Gives the calling thread a shard: its ring, its pool, and the task that drives them. It is
    /// called inside the thread's runtime, and the shard lives until the [`Member`] is dropped or the
    /// runtime ends.
    ///
    /// The runtime is one of tokio-uring; or a `current_thread` runtime of tokio with I/O and time
    /// enabled, inside of a `LocalSet` that is run as long as the shard lives. There each sleep in
    /// which an answer comes may cost a system call more than with
    /// [`TaskRuntime::Tokio`](crate::TaskRuntime::Tokio), and what needs tokio-uring panics too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if io_uring is refused, with the likely reason;
    /// [`ErrorKind::NotOnShard`] outside of a runtime; [`ErrorKind::InvalidInput`] if the thread
    /// has a shard already; [`ErrorKind::Exhausted`] if the group has as many shards as it may.
    pub fn join(&self) -> Result<Member> {
        if !ring::in_runtime() {
            let text = "joining needs a runtime of tokio-uring or tokio on this thread";
            return Err(Error::new(ErrorKind::NotOnShard, text));
        }
        if local::current().is_ok() {
            let text = "this thread already has a pool";
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let host = Host::Thread;
        let ring = Ring::new(RingConfig::from(&*self.config))?;
        let (fd, signal) = (ring.fd()?, ring.signal());
        let member = self.admit(host, ring)?;
        let shard = member.shard.clone();
        local::set(shard.clone())?;
        let descriptor = Descriptor::new(fd)?;
        shard.watch(descriptor.share());
        ring::drive(Driver::new(shard, descriptor, signal))?;
        Ok(member)
    }

    /// A shard on `host`, without anything that drives it. It is ended however this goes on.
    fn admit(&self, host: Host, ring: Ring) -> Result<Member> {
        let links = Links::join(&self.shared)?;
        let seed = host.random_seed()?;
        let core = Core::new(self.config.clone(), host, ring, links, seed);
        let shard = Shard::new(core);
        Ok(Member { shard })
    }

    /// Permits that shards hold, of all endpoints together.
    #[cfg(feature = "sim")]
    pub(crate) fn permits_in_use(&self) -> u32 {
        let endpoints = self.shared.registry.endpoints();
        endpoints.iter().map(|(_, shared)| shared.in_use()).sum()
    }

    /// Those of the endpoints of one host.
    #[cfg(feature = "sim")]
    pub(crate) fn permits_of(&self, host: &str) -> u32 {
        let endpoints = self.shared.registry.endpoints();
        let own = endpoints
            .iter()
            .filter(|(key, _)| key.endpoint.host() == host);
        own.map(|(_, shared)| shared.in_use()).sum()
    }

    /// Gives a core of a simulated machine a shard. `room` is how many completions its ring holds.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join), but for those of a runtime.
    #[cfg(feature = "sim")]
    pub(crate) fn join_machine(&self, place: &machine::Current, room: usize) -> Result<Member> {
        let config = RingConfig::from(&*self.config);
        let slots = config.max_connections.saturating_add(config.max_queries);
        let kernel = place.machine.kernel(place.core, slots as usize, room);
        let bell = kernel.bell(&place.machine);
        let ring = Ring::played(config, kernel)?;
        let signal = ring.signal();
        let member = self.admit(Host::Machine(place.clone()), ring)?;
        let driver = Driver::new(member.shard.clone(), bell, signal);
        let core = place.core;
        let _driver = place.machine.spawn(core, "driver", false, driver);
        Ok(member)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A thread's membership in a [`Group`]. Dropping it ends the thread's shard: waiting gets fail,
/// connections close, and the ring is drained.
#[must_use = "the shard ends when this is dropped"]
pub struct Member {
    shard: Rc<Shard>,
}

impl Member {
    pub(crate) fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shard.end();
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("shard", &self.shard.id())
            .finish()
    }
}
