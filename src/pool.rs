//! The face of the pool on one core: ask for a name, get a live connection.
//!
//! Promise: a get ends exactly once, within [`Config::get_timeout`](crate::Config::get_timeout);
//! one that is dropped leaves the queue, and a connect that was started for it goes to the next.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::conn::{Conn, Kept};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::host::Unit;
use crate::local;
use crate::policy::event::{Return, WaiterKey};
use crate::protocol::{Erased, Plain, Protocol, typed_state};
use crate::resolved::{Resolved, Resolving};
use crate::shard::{Checkout, EndpointRef, Gotten, Shard, ShardStats, Trace};
use crate::stats::Stats;
use crate::stream::Stream;
use crate::time::Tick;

/// The pool of the calling thread's core. Cheap to clone; it never leaves its thread.
pub struct Pool<P: Protocol = Plain> {
    shard: Rc<Shard>,
    protocol: Rc<P>,
}

impl Pool<Plain> {
    /// The pool of this thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotOnShard`](crate::ErrorKind::NotOnShard) if the thread has none: it was not
    /// started by [`Shards`](crate::Shards) and has not joined a [`Group`](crate::Group), or its
    /// runtime has ended.
    pub fn local() -> Result<Self> {
        Ok(Self {
            shard: local::current()?,
            protocol: Rc::new(Plain),
        })
    }

    /// The same pool with a protocol: state for each connection, checked and shared as the
    /// protocol says. Its connections are kept apart from all others.
    pub fn protocol<P: Protocol>(&self, protocol: P) -> Pool<P> {
        Pool {
            shard: self.shard.clone(),
            protocol: Rc::new(protocol),
        }
    }

    /// The statistics of every endpoint this process has connections of, or has had.
    pub fn all_stats(&self) -> Vec<(Endpoint, Stats)> {
        let all = self.shard.all_totals().into_iter();
        all.map(|(endpoint, account)| (endpoint, Stats::new(account)))
            .collect()
    }

    /// The figures of this core's shard: what it asked of the kernel and what went wrong.
    pub fn shard_stats(&self) -> ShardStats {
        self.shard.shard_stats()
    }

    /// Records what goes in and out of this core's policy from now on, the newest `capacity`
    /// records of it; what was recorded before is dropped.
    pub fn start_trace(&self, capacity: usize) {
        self.shard.start_trace(capacity);
    }

    /// Takes what was recorded so far; recording goes on.
    ///
    /// ```no_run
    /// # async fn f() -> ringpool::Result<()> {
    /// let pool = ringpool::Pool::local()?;
    /// pool.start_trace(1024);
    /// pool.get("localhost:6379").await?.release();
    /// for record in pool.take_trace().records {
    ///     println!("{:?} {}", record.at, record.what);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_trace(&self) -> Trace {
        self.shard.take_trace()
    }

    /// Takes no new gets on this core, lets busy connections finish, closes idle ones, and
    /// returns when none is left; after `deadline` the busy ones are closed too. Returns how many
    /// that were.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.shard.drain(deadline).await
    }
}

impl<P: Protocol> Pool<P> {
    /// Makes the endpoint known and returns a handle whose gets hash and allocate nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a bad text, naming the
    /// byte; [`ErrorKind::Exhausted`](crate::ErrorKind::Exhausted) if the core knows
    /// [`Config::max_endpoints`](crate::Config::max_endpoints) and none can make room.
    pub fn endpoint<E>(&self, endpoint: E) -> Result<EndpointHandle<P>>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        let endpoint: Endpoint = endpoint.try_into()?;
        let erased = Rc::new(Erased::new(self.protocol.clone(), endpoint.clone()));
        let key = Erased::<P>::key_of(&self.protocol);
        let inner = self.shard.endpoint(endpoint, key, erased)?;
        Ok(EndpointHandle {
            shard: self.shard.clone(),
            protocol: self.protocol.clone(),
            inner,
        })
    }

    /// A live connection to `endpoint`: an idle one, or the first that becomes free or opens.
    ///
    /// # Errors
    ///
    /// As [`EndpointHandle::get`], and as [`Pool::endpoint`].
    pub async fn get<E>(&self, endpoint: E) -> Result<Conn<P>>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        let endpoint = self.endpoint(endpoint)?;
        endpoint.get().await
    }

    /// An idle connection to `endpoint`, if this core has one; it never waits nor opens one.
    ///
    /// # Errors
    ///
    /// As [`Pool::endpoint`].
    pub fn try_get<E>(&self, endpoint: E) -> Result<Option<Conn<P>>>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        self.endpoint(endpoint)?.try_get()
    }

    /// Runs `work` with a connection and releases it if `work` ends well; a failure, or dropping
    /// the future, closes it.
    ///
    /// ```no_run
    /// # async fn f() -> ringpool::Result<()> {
    /// let pool = ringpool::Pool::local()?;
    /// let pong = pool
    ///     .with_connection("localhost:6379", async |conn| {
    ///         conn.write_all(b"PING\r\n").await?;
    ///         conn.read_line(64).await
    ///     })
    ///     .await?;
    /// assert_eq!(pong, "+PONG");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`EndpointHandle::get`], or what `work` returns.
    pub async fn with_connection<E, F, T, R>(&self, endpoint: E, work: F) -> Result<T, R>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
        F: AsyncFnOnce(&Conn<P>) -> Result<T, R>,
        R: From<Error>,
    {
        let conn = self.get(endpoint).await?;
        let value = work(&conn).await?;
        conn.release();
        Ok(value)
    }

    /// Where `endpoint` leads: what a get would try, found out as for a get and shared with all.
    /// With an [`EndpointHandle`] it costs next to nothing while the answer holds.
    ///
    /// ```no_run
    /// # async fn f() -> ringpool::Result<()> {
    /// let found = ringpool::Pool::local()?.resolve("db.example.com:5432").await?;
    /// println!("{:?}", found.addresses().collect::<Vec<_>>());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`EndpointHandle::resolve`], and as [`Pool::endpoint`].
    pub async fn resolve<E>(&self, endpoint: E) -> Result<Resolved>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        self.endpoint(endpoint)?.resolve().await
    }

    /// The statistics of one endpoint, all cores together. Counts of other cores may lag by one
    /// turn of their loops.
    ///
    /// # Errors
    ///
    /// As [`Pool::endpoint`].
    pub fn stats<E>(&self, endpoint: E) -> Result<Stats>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Ok(self.endpoint(endpoint)?.stats())
    }

    /// Closes this core's idle connections to `endpoint`, and its busy ones when they come back.
    ///
    /// # Errors
    ///
    /// As [`Pool::endpoint`].
    pub fn clear_endpoint<E>(&self, endpoint: E) -> Result<()>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        self.endpoint(endpoint)?.clear();
        Ok(())
    }
}

impl<P: Protocol> Clone for Pool<P> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard.clone(),
            protocol: self.protocol.clone(),
        }
    }
}

impl<P: Protocol> fmt::Debug for Pool<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("shard", &self.shard.id())
            .finish_non_exhaustive()
    }
}

/// One endpoint of a core's pool.
pub struct EndpointHandle<P: Protocol = Plain> {
    shard: Rc<Shard>,
    protocol: Rc<P>,
    inner: Rc<EndpointRef>,
}

impl<P: Protocol> EndpointHandle<P> {
    /// The endpoint in its canonical form.
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.endpoint()
    }

    /// A live connection: an idle one, or the first that becomes free or opens. A get of an idle
    /// connection costs no system call, or one if it has been idle for a millisecond and the kernel
    /// has something for this thread; it spends one unit of tokio's cooperative budget.
    ///
    /// # Errors
    ///
    /// [`ErrorKind`](crate::ErrorKind)`::GetTimeout` after
    /// [`Config::get_timeout`](crate::Config::get_timeout) and `Exhausted` at
    /// [`Config::max_waiters`](crate::Config::max_waiters), both with the pool's figures;
    /// `Resolve`, `Connect` or `ConnectTimeout` when no address can be reached; `Protocol` when
    /// the protocol's `init` failed; `Draining`; `NotOnShard` when the core's runtime has ended.
    pub fn get(&self) -> Get<'_, P> {
        Get {
            handle: self,
            waiter: None,
            since: None,
            replaced: 0,
        }
    }

    /// Opens [`Config::min_idle`](crate::Config::min_idle) connections on this core before anybody
    /// asks for one, and returns when they are idle, or as many as the limits leave for them. They
    /// are kept for [`Config::max_idle_time`](crate::Config::max_idle_time) after that, and as long
    /// as the endpoint is used. What was begun goes on if the future is dropped.
    ///
    /// ```no_run
    /// # async fn f() -> ringpool::Result<()> {
    /// let endpoint = ringpool::Pool::local()?.endpoint("db.example.com:5432")?;
    /// endpoint.warm_up().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get): why no connection could be opened, or `GetTimeout` if they were not
    /// ready in time.
    pub async fn warm_up(&self) -> Result<()> {
        self.shard.warm_up(&self.inner).await
    }

    /// An idle connection, if this core has one; it never waits nor opens one.
    ///
    /// # Errors
    ///
    /// `NotOnShard` when the core's runtime has ended.
    pub fn try_get(&self) -> Result<Option<Conn<P>>> {
        self.shard
            .try_get(&self.inner)?
            .map(|checkout| self.conn(checkout, true))
            .transpose()
    }

    /// Where the endpoint leads. While the answer holds this reads memory and no more: no system
    /// call, no allocation, no write that another core could see. It spends one unit of tokio's
    /// cooperative budget.
    ///
    /// ```no_run
    /// # async fn f() -> ringpool::Result<()> {
    /// let endpoint = ringpool::Pool::local()?.endpoint("db.example.com:5432")?;
    /// let found = endpoint.resolve().await?;
    /// assert!(found.addresses().len() > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind`](crate::ErrorKind)`::Resolve` when there is no such name, it has no address, or
    /// nobody could be asked within [`Config::get_timeout`](crate::Config::get_timeout); `NoService`
    /// when the name's owner does not offer the service; `Exhausted` when
    /// [`Config::max_waiters`](crate::Config::max_waiters) tasks of this core wait already;
    /// `NotOnShard` when the core's runtime has ended.
    pub fn resolve(&self) -> Resolving<'_> {
        Resolving::new(&self.shard, &self.inner)
    }

    /// The statistics of the endpoint, all cores together.
    pub fn stats(&self) -> Stats {
        self.shard
            .totals(&self.inner)
            .map(Stats::new)
            .unwrap_or_default()
    }

    /// Closes this core's idle connections, and its busy ones when they come back.
    pub fn clear(&self) {
        self.shard.clear(&self.inner);
    }

    fn conn(&self, checkout: Checkout, reused: bool) -> Result<Conn<P>> {
        let Checkout { at, state, shared } = checkout;
        let stream = Stream::new(self.shard.clone(), at);
        let kept = match state {
            Some(state) => Some(self.kept(state)?),
            None => None,
        };
        let conn = Conn::new(stream, kept, reused, shared);
        if let Some(state) = conn.state() {
            // A panic drops `conn`, which gives it back.
            self.protocol.on_acquire(state);
        }
        Ok(conn)
    }
}

impl<P: Protocol> EndpointHandle<P> {
    fn kept(&self, state: Rc<dyn Any>) -> Result<Kept<P>> {
        Ok(Kept {
            protocol: self.protocol.clone(),
            state: typed_state::<P>(state)?,
        })
    }
}

impl<P: Protocol> Clone for EndpointHandle<P> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard.clone(),
            protocol: self.protocol.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<P: Protocol> fmt::Debug for EndpointHandle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndpointHandle")
            .field(self.inner.endpoint())
            .finish()
    }
}

/// A get under way. Dropping it leaves the queue; a connection that was already granted goes back.
#[must_use = "a get does nothing until it is awaited"]
pub struct Get<'a, P: Protocol> {
    handle: &'a EndpointHandle<P>,
    waiter: Option<WaiterKey>,
    /// When it began to wait: its time is not renewed when it begins again.
    since: Option<Tick>,
    /// Connections that died before they could be handed out.
    replaced: u32,
}

/// A server that closes every connection at once must not keep a get for ever.
const MAX_REPLACED: u32 = 3;

impl<P: Protocol> Future for Get<'_, P> {
    type Output = Result<Conn<P>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Spent by failures too: a loop of them must not starve the core either.
        let unit = ready!(self.handle.shard.host().poll_unit(cx));
        if self.waiter.is_none()
            && let Some(at) = self.handle.shard.get_again(&self.handle.inner)
        {
            unit.spend();
            let stream = Stream::new(self.handle.shard.clone(), at);
            return Poll::Ready(Ok(Conn::new(stream, None, true, false)));
        }
        self.poll_long(unit, cx)
    }
}

impl<P: Protocol> Get<'_, P> {
    /// What is not in the hand.
    #[inline(never)]
    fn poll_long(&mut self, unit: Unit, cx: &mut Context<'_>) -> Poll<Result<Conn<P>>> {
        let gotten = ready!(self.poll_gotten(cx));
        unit.spend();
        Poll::Ready(gotten.and_then(|(checkout, reused)| self.handle.conn(checkout, reused)))
    }

    fn poll_gotten(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Checkout, bool)>> {
        let shard = &self.handle.shard;
        loop {
            let waiter = match self.waiter {
                Some(waiter) => waiter,
                None => match shard.get(&self.handle.inner, self.since)? {
                    Gotten::Ready { checkout, reused } => {
                        return Poll::Ready(Ok((checkout, reused)));
                    }
                    Gotten::Waiting { waiter, since } => {
                        self.since = Some(since);
                        waiter
                    }
                },
            };
            self.waiter = Some(waiter);
            let granted = ready!(shard.poll_waiter(waiter, cx));
            self.waiter = None;
            let (conn, reused) = granted?;
            // It may have died between the grant and this poll. Nothing was written to it, so
            // another one will do (I17).
            match shard.dead_on_arrival(conn) {
                Some(reason) if self.replaced < MAX_REPLACED => {
                    self.replaced += 1;
                    shard.put(conn, Return::Discard(reason));
                }
                _ => return Poll::Ready(Ok((shard.checkout(conn), reused))),
            }
        }
    }
}

impl<P: Protocol> Drop for Get<'_, P> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.handle.shard.cancel(waiter);
        }
    }
}

impl<P: Protocol> fmt::Debug for Get<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get")
            .field("waiter", &self.waiter)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
