//! A service may want to know where a name leads without connecting to it: to show it, to choose a
//! server by itself, or to find out why a connection fails. [`Resolved`] is what the pool itself
//! would use.
//!
//! Promise: what is shown is what a get on this core would try, in that order; what is not fresh
//! says so.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::dns::{Origin, Whence};
use crate::error::Result;
use crate::shard::{EndpointRef, Finding, Held, Shard, TaskId};
use crate::time::Tick;

/// Where a name leads, and for how long.
///
/// ```no_run
/// # async fn f() -> ringpool::Result<()> {
/// let pool = ringpool::Pool::local()?;
/// let found = pool.resolve("example.com:443").await?;
/// for address in found.addresses() {
///     println!("{address} for {:?}, from {:?}", found.ttl(), found.source());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Resolved {
    held: Rc<Held>,
    /// When it was looked for.
    now: Tick,
    /// Whether it was found out for this.
    is_first: bool,
}

/// One place that a name leads to.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The address with its port.
    pub address: SocketAddr,
    /// Places of a higher number are used when those of a lower number fail; 0 for the addresses of
    /// a plain name.
    pub priority: u16,
    /// The share of the load among places of one priority.
    pub weight: u16,
}

/// Where an answer came from.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The host is an address.
    Literal,
    /// The hosts file.
    Hosts,
    /// The name has a meaning of its own (`localhost`, RFC 6761).
    Special,
    /// The table of [`Resolver::Table`](crate::Resolver::Table).
    Table,
    /// The user's own code, [`Resolver::Custom`](crate::Resolver::Custom).
    Custom,
    /// What a name server said earlier, to this core or another.
    Cache,
    /// A name server, now.
    Server(SocketAddr),
    /// What this name server said before its answer expired: nobody gives a better one.
    Stale(SocketAddr),
}

impl Resolved {
    /// The addresses in the order in which they would be tried; at least one. Among addresses that
    /// are equally good the balancer may begin elsewhere.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = SocketAddr> + '_ {
        self.held.targets.iter().map(|target| target.address)
    }

    /// The addresses with their priorities and weights, in the same order.
    pub fn places(&self) -> impl ExactSizeIterator<Item = Place> + '_ {
        self.held.targets.iter().map(|target| Place {
            address: target.address,
            priority: target.priority,
            weight: target.weight,
        })
    }

    /// How long this holds; [`Duration::MAX`] if it always does. Of an answer that has expired, when
    /// a better one is looked for.
    pub fn ttl(&self) -> Duration {
        match self.held.expires {
            Tick::NEVER => Duration::MAX,
            expires => expires.since(self.now),
        }
    }

    /// Where the answer came from.
    pub fn source(&self) -> Source {
        match self.held.whence {
            Whence::Local(Origin::Literal) => Source::Literal,
            Whence::Local(Origin::Hosts) => Source::Hosts,
            Whence::Local(Origin::Table) => Source::Table,
            Whence::Local(Origin::Special) => Source::Special,
            Whence::Given => Source::Custom,
            Whence::Server(server) if self.is_first => Source::Server(server),
            Whence::Server(_) | Whence::Cache(_) => Source::Cache,
            Whence::Stale(server) => Source::Stale(server),
        }
    }

    /// Whether its time is over, and nobody gives a better one (RFC 8767).
    pub fn is_stale(&self) -> bool {
        self.held.is_stale
    }

    /// Whether it is all there is: every question had an answer. If not, an address that is missing
    /// may still exist.
    pub fn is_complete(&self) -> bool {
        self.held.is_complete
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved")
            .field("places", &self.places().collect::<Vec<_>>())
            .field("ttl", &self.ttl())
            .field("source", &self.source())
            .field("is_complete", &self.is_complete())
            .finish()
    }
}

/// An endpoint being resolved. Dropping it is fine; what was asked goes on for others.
#[must_use = "a resolve does nothing until it is awaited"]
pub struct Resolving<'a> {
    shard: &'a Rc<Shard>,
    endpoint: &'a EndpointRef,
    task: Option<TaskId>,
}

impl<'a> Resolving<'a> {
    pub(crate) fn new(shard: &'a Rc<Shard>, endpoint: &'a EndpointRef) -> Self {
        Self {
            shard,
            endpoint,
            task: None,
        }
    }
}

impl Future for Resolving<'_> {
    type Output = Result<Resolved>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let unit = ready!(self.shard.host().poll_unit(cx));
        if self.task.is_none()
            && let Some((held, now)) = self.shard.look_up(self.endpoint)
        {
            unit.spend();
            return Poll::Ready(Ok(Resolved {
                held,
                now,
                is_first: false,
            }));
        }
        let found = ready!(self.poll_slowly(cx));
        unit.spend();
        Poll::Ready(found)
    }
}

impl Resolving<'_> {
    /// What is not held is a task's work.
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Result<Resolved>> {
        let task = match self.task {
            Some(task) => task,
            None => match self.shard.find(self.endpoint)? {
                Finding::Held(held, now) => {
                    return Poll::Ready(Ok(Resolved {
                        held,
                        now,
                        is_first: false,
                    }));
                }
                Finding::Waiting(task) => task,
            },
        };
        self.task = Some(task);
        let found = ready!(self.shard.poll_found(task, cx));
        self.task = None;
        Poll::Ready(found.map(|(held, now)| Resolved {
            held,
            now,
            is_first: true,
        }))
    }
}

impl Drop for Resolving<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            self.shard.forget_task(task);
        }
    }
}

impl fmt::Debug for Resolving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resolving")
            .field(self.endpoint.endpoint())
            .finish()
    }
}
