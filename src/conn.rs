//! A connection that goes back to the pool in the middle of a message gives the next user the
//! rest of somebody else's answer. [`Conn`] is the guard that decides: only a connection known to
//! be at a message boundary is reused.
//!
//! Promise: a connection is reused only after [`Conn::release`] (or an `Ok` from
//! [`Pool::with_connection`](crate::Pool::with_connection)) and only if no write is unfinished, no
//! byte is unread and no error was seen. Everything else closes it, counted by reason. Dropping one
//! share of a shared connection ends that share, not the connection.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use crate::policy::event::{CloseReason, Return};
use crate::protocol::{Plain, Protocol};
use crate::stream::Stream;

/// A connection in use. It derefs to [`Stream`] for reading and writing.
///
/// ```no_run
/// # async fn f() -> ringpool::Result<()> {
/// let pool = ringpool::Pool::local()?;
/// let conn = pool.get("localhost:6379").await?;
/// conn.write_all(b"PING\r\n").await?;
/// assert_eq!(conn.read_line(64).await?, "+PONG");
/// conn.release();
/// # Ok(())
/// # }
/// ```
#[must_use = "a connection that is dropped without `release` is closed"]
pub struct Conn<P: Protocol = Plain> {
    stream: Stream,
    /// What the protocol keeps for it, if it keeps anything.
    kept: Option<Kept<P>>,
    reused: bool,
    shared: bool,
    returned: bool,
}

/// The state of a connection, and the protocol that hears of its users.
pub(crate) struct Kept<P: Protocol> {
    pub(crate) protocol: Rc<P>,
    pub(crate) state: Rc<P::State>,
}

impl<P: Protocol> Conn<P> {
    #[inline]
    pub(crate) fn new(stream: Stream, kept: Option<Kept<P>>, reused: bool, shared: bool) -> Self {
        Self {
            stream,
            kept,
            reused,
            shared,
            returned: false,
        }
    }

    /// What the protocol keeps for this connection; `None` for [`Plain`].
    pub fn state(&self) -> Option<&P::State> {
        self.kept.as_ref().map(|kept| &*kept.state)
    }

    /// Whether it had been used before, and so may have died unnoticed on its way here: a request
    /// that fails on it before any byte of the answer came may be sent again on another one, if
    /// the service knows that this is safe.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The bytes of the connection, as a handle of its own.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Gives the connection back at a message boundary. It is reused if no write is unfinished, no
    /// byte unread and no error was seen; flush first if no answer was awaited.
    #[inline]
    pub fn release(mut self) {
        let (shard, conn) = (self.stream.shard(), self.stream.conn());
        if self.kept.is_none() && shard.put_again(conn) {
            self.returned = true;
        } else {
            self.give_back(How::Released);
        }
    }

    /// Closes the connection: the server said so, or its answer made no sense. A shared
    /// connection takes no new users and closes when the last one has left.
    pub fn close(mut self) {
        self.give_back(How::Closed);
    }

    /// What its user's own code does comes first: the pool judges by what it left behind.
    #[inline(never)]
    fn give_back(&mut self, how: How) {
        self.returned = true;
        let (shard, conn) = (self.stream.shard(), self.stream.conn());
        let told = match self.kept.take() {
            Some(kept) => shard.contain(|| kept.protocol.on_release(&kept.state)),
            None => Some(()),
        };
        match (told, how) {
            (None, _) => shard.put(conn, Return::Discard(CloseReason::Failed)),
            (_, How::Closed) => shard.put(conn, Return::Discard(CloseReason::Requested)),
            (_, How::Released) if shard.put_again(conn) => {}
            (_, How::Released) => shard.give_back(conn, true),
            (_, How::Dropped) => shard.give_back(conn, false),
        }
    }
}

/// How a user ends its use.
#[derive(Debug, Clone, Copy)]
enum How {
    Released,
    Dropped,
    Closed,
}

impl<P: Protocol> Deref for Conn<P> {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl<P: Protocol> Drop for Conn<P> {
    #[inline]
    fn drop(&mut self) {
        if !self.returned {
            self.give_back(How::Dropped);
        }
    }
}

impl<P: Protocol> fmt::Debug for Conn<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("conn", &self.stream.conn())
            .field("reused", &self.reused)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
