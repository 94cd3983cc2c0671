//! A raw connection is rarely what a service wants: it wants one that has said hello, chosen a
//! database, or carries many requests at once. A [`Protocol`] makes state for each connection when
//! it opens, says how many users may hold it at once, and is told of its life.
//!
//! Promise: a connection reaches a user only after its `init` succeeded; `init` and
//! `is_healthy` run as tasks of their own under a deadline, never while the pool is borrowed;
//! a panic in any method closes that one connection.

use std::any::{Any, TypeId};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::shard::{ConnectionProtocol, Opened, ProtocolKey, Shard, Use};
use crate::stream::Stream;

pub use crate::shard::{Access, Packed};

/// What a pool keeps for each connection and how its users share it.
///
/// Values of one type whose [`key`](Protocol::key)s are equal share connections, on all cores;
/// so a key must name everything that makes two values different for the server: user, database,
/// options.
///
/// ```
/// use std::rc::Rc;
/// use ringpool::{Access, Error, ErrorKind, Protocol, Result, Stream};
///
/// /// A server that greets with one line; the state is that line.
/// struct Greeting;
///
/// impl Protocol for Greeting {
///     type State = String;
///     fn key(&self) -> String {
///         String::new()
///     }
///     async fn init(&self, stream: Stream) -> Result<String> {
///         let line = stream.read_line(512).await?;
///         if line.starts_with("220 ") {
///             return Ok(line);
///         }
///         Err(Error::new(ErrorKind::Protocol, format!("unexpected greeting {line:?}")))
///     }
///     async fn is_healthy(&self, stream: Stream, _state: Rc<String>) -> bool {
///         stream.write_all(b"NOOP\r\n").await.is_ok()
///             && stream.read_line(512).await.is_ok_and(|line| line.starts_with("250"))
///     }
/// }
/// # let _ = Access::Exclusive;
/// ```
pub trait Protocol: 'static {
    /// What is kept for each connection. Users see it through a shared reference; a state that
    /// changes uses `Cell` or `RefCell`, for it stays on its core unless the protocol packs it for
    /// another ([`changes_cores`](Protocol::changes_cores)).
    type State: 'static;

    /// What tells this value from others of its type.
    fn key(&self) -> String;

    /// Makes the state when the connection has opened. It shares
    /// [`Config::connect_timeout`](crate::Config::connect_timeout) with the connect.
    ///
    /// # Errors
    ///
    /// An error closes the connection and counts as a failed connect of its address.
    fn init(&self, stream: Stream) -> impl Future<Output = Result<Self::State>>;

    /// How many users may hold the connection at once, decided when it opens.
    fn access(&self, _state: &Self::State) -> Access {
        Access::Exclusive
    }

    /// Whether a connection that was idle for longer than
    /// [`Config::health_check_after`](crate::Config::health_check_after) may be handed out. It
    /// must leave the stream at a message boundary. Called only if
    /// [`checks_health`](Protocol::checks_health) says so.
    fn is_healthy(&self, _stream: Stream, _state: Rc<Self::State>) -> impl Future<Output = bool> {
        std::future::ready(true)
    }

    /// Whether [`is_healthy`](Protocol::is_healthy) is to be asked at all.
    fn checks_health(&self) -> bool {
        false
    }

    /// Takes bytes that came while nobody held the connection, or that `init` did not read although
    /// they had come; `false` closes it, or fails the connect. What the users of a shared connection
    /// left unread is offered when the last of them leaves. Shared connections whose state keeps the
    /// stream that `init` got read for themselves and never get here.
    fn on_idle_bytes(&self, _state: &Self::State, _bytes: &[u8]) -> bool {
        false
    }

    /// A user gets the connection (one of its shares).
    fn on_acquire(&self, _state: &Self::State) {}

    /// A user gives the connection back.
    fn on_release(&self, _state: &Self::State) {}

    /// The connection has ended; what holds the state elsewhere keeps it alive.
    fn on_close(&self, _state: &Self::State) {}

    /// Whether connections may go to another core that waits for one, instead of being closed here
    /// and opened anew there: then [`pack`](Protocol::pack) and [`unpack`](Protocol::unpack) are to be
    /// written. Asked once for each handle of an endpoint. Connections that users share stay in any
    /// case, and so do those whose stream that `init` got is kept. Those of a pool without a protocol
    /// always may go.
    fn changes_cores(&self) -> bool {
        false
    }

    /// Takes the state apart for the way to another core. Called for an idle connection whose state
    /// nobody else holds.
    ///
    /// # Errors
    ///
    /// The state, if it cannot leave this core: the connection is closed here.
    fn pack(&self, state: Self::State) -> Result<Packed, Self::State> {
        Err(state)
    }

    /// Makes the state of what [`pack`](Protocol::pack) made: on the core that now has the connection,
    /// or on the same one if no other took it. `None` closes the connection.
    ///
    /// ```
    /// # use ringpool::{Error, Packed, Protocol, Stream};
    /// struct Counting;
    /// /// What the server said, kept for the connection's life.
    /// struct Greeting(String);
    ///
    /// impl Protocol for Counting {
    ///     type State = Greeting;
    ///     # fn key(&self) -> String { "counting".into() }
    ///     # async fn init(&self, _: Stream) -> Result<Greeting, Error> { Ok(Greeting(String::new())) }
    ///
    ///     fn changes_cores(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     fn pack(&self, state: Greeting) -> Result<Packed, Greeting> {
    ///         Ok(Box::new(state.0))
    ///     }
    ///
    ///     fn unpack(&self, packed: Packed) -> Option<Greeting> {
    ///         packed.downcast().ok().map(|text| Greeting(*text))
    ///     }
    /// }
    /// ```
    fn unpack(&self, _packed: Packed) -> Option<Self::State> {
        None
    }
}

/// The protocol of a pool without one: no state, one user at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Protocol for Plain {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }
}

/// A protocol as the shard sees it, without its types.
pub(crate) struct Erased<P: Protocol> {
    protocol: Rc<P>,
    endpoint: Endpoint,
}

impl<P: Protocol> Erased<P> {
    pub(crate) fn new(protocol: Rc<P>, endpoint: Endpoint) -> Self {
        Self { protocol, endpoint }
    }

    /// What tells connections of this protocol from all others to the same server.
    pub(crate) fn key_of(protocol: &P) -> ProtocolKey {
        ProtocolKey::new(TypeId::of::<P>(), protocol.key())
    }
}

impl<P: Protocol> ConnectionProtocol for Erased<P> {
    fn is_plain(&self) -> bool {
        TypeId::of::<P>() == TypeId::of::<Plain>()
    }

    fn checks_health(&self) -> bool {
        self.protocol.checks_health()
    }

    fn open(
        &self,
        shard: Rc<Shard>,
        conn: crate::policy::event::ConnKey,
    ) -> Pin<Box<dyn Future<Output = Result<Opened>>>> {
        let protocol = self.protocol.clone();
        let stream = Stream::for_life(shard, conn);
        let endpoint = self.endpoint.clone();
        Box::pin(async move {
            let state = protocol.init(stream).await.map_err(|error| {
                error.context(format!("initialising the protocol of {endpoint}"))
            })?;
            let access = protocol.access(&state);
            Ok(Opened {
                state: Rc::new(state),
                access,
            })
        })
    }

    fn check(
        &self,
        shard: Rc<Shard>,
        conn: crate::policy::event::ConnKey,
        state: Rc<dyn Any>,
    ) -> Pin<Box<dyn Future<Output = bool>>> {
        let protocol = self.protocol.clone();
        let stream = Stream::new(shard, Use::for_life(conn));
        Box::pin(async move {
            match state.downcast::<P::State>() {
                Ok(state) => protocol.is_healthy(stream, state).await,
                Err(_) => false,
            }
        })
    }

    fn take_idle_bytes(&self, state: &dyn Any, bytes: &[u8]) -> bool {
        state
            .downcast_ref::<P::State>()
            .is_some_and(|state| self.protocol.on_idle_bytes(state, bytes))
    }

    fn changes_cores(&self) -> bool {
        self.protocol.changes_cores()
    }

    fn pack(&self, state: Rc<dyn Any>) -> Result<Packed, Rc<dyn Any>> {
        let state =
            Rc::try_unwrap(state.downcast::<P::State>()?).map_err(|held| held as Rc<dyn Any>)?;
        self.protocol
            .pack(state)
            .map_err(|state| Rc::new(state) as Rc<dyn Any>)
    }

    fn unpack(&self, packed: Packed) -> Option<Rc<dyn Any>> {
        let state = self.protocol.unpack(packed)?;
        Some(Rc::new(state))
    }

    fn closed(&self, state: &dyn Any) {
        if let Some(state) = state.downcast_ref::<P::State>() {
            self.protocol.on_close(state);
        }
    }
}

/// The state of a connection in its own type.
pub(crate) fn typed_state<P: Protocol>(state: Rc<dyn Any>) -> Result<Rc<P::State>> {
    let ended = |_| Error::new(ErrorKind::Closed, "the connection has ended");
    state.downcast::<P::State>().map_err(ended)
}
