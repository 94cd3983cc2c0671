//! An error at the bottom of a stack of layers says *what* failed but not what was being done.
//! [`Error`] keeps the failure at the bottom and lets every layer on the way up add one step, so
//! that a log line reads from the cause outwards:
//!
//! ```text
//! connection refused (os error 111), connecting to tcp:127.0.0.1:8088, connecting to localhost:8088, after 3 retry attempts
//! ```
//!
//! Promise: an error can be matched by [`kind`](Error::kind) whatever was stacked on it, and
//! [`source`](std::error::Error::source) leads to the operating system's error where there is one.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What ringpool's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by whose fault it is and what to do about it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's input is not valid: an endpoint text, a name, an argument.
    InvalidInput,
    /// A setting is out of its range; the message names the field.
    InvalidConfig,
    /// io_uring, or something the ring needs, is not to be had on this machine.
    Unavailable,
    /// The calling thread has no shard, or its shard has ended.
    NotOnShard,
    /// The pool's limits are reached: waiters, connections, descriptors.
    Exhausted,
    /// A get waited as long as it may ([`Config::get_timeout`](crate::Config)).
    GetTimeout,
    /// A connect did not finish in time.
    ConnectTimeout,
    /// A read did not finish in time.
    ReadTimeout,
    /// A write did not finish in time.
    WriteTimeout,
    /// The name could not be resolved.
    Resolve,
    /// The name's owner says that the service is not offered: its SRV record has the target `.`
    /// (RFC 2782).
    NoService,
    /// No address accepted a connection.
    Connect,
    /// The peer closed or reset the connection, the network lost it, or the pool closed it: found by a
    /// read or by a write.
    Closed,
    /// The operating system refused an operation on an open connection.
    Io,
    /// More bytes than the given maximum came before the delimiter or the end.
    TooLong,
    /// The user's protocol refused the connection ([`Protocol`](crate::Protocol)).
    Protocol,
    /// The pool is draining and takes no new work.
    Draining,
    /// A user's callback or task panicked.
    Panicked,
}

/// Why a get could not be served, in figures: backlog, leak, failing connects and slow users look
/// alike without them.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exhaustion {
    /// How long the get had waited.
    pub waited: Duration,
    /// How many gets wait for the same endpoint on this core, this one included.
    pub waiters: usize,
    /// Connections of the endpoint that users of this core hold.
    pub in_use: usize,
    /// Connections of the endpoint that this core is opening.
    pub connecting: usize,
    /// How the last connect of the endpoint on this core failed, if one did.
    pub last_connect_error: Option<String>,
}

/// A failure with the stack of what was being done. Cheap to clone and to pass between threads.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    cause: Cause,
    steps: Vec<Cow<'static, str>>,
    exhaustion: Option<Exhaustion>,
}

#[derive(Clone)]
enum Cause {
    Message(Cow<'static, str>),
    Source(Arc<dyn StdError + Send + Sync>),
}

impl Error {
    /// An error of `kind` whose bottom is `message`.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_cause(kind, Cause::Message(message.into()))
    }

    /// An error of `kind` whose bottom is another error.
    pub fn from_source(kind: ErrorKind, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::with_cause(kind, Cause::Source(Arc::new(source)))
    }

    /// An error of `kind` whose bottom is the operating system's error number `errno`.
    pub fn from_errno(kind: ErrorKind, errno: i32) -> Self {
        Self::from_source(kind, OsError(errno))
    }

    /// What a read or a write on an open connection failed with. A connection that is lost has one
    /// kind, whichever of the two finds out first.
    pub(crate) fn on_connection(errno: i32) -> Self {
        let kind = match errno {
            libc::EPIPE
            | libc::ECONNRESET
            | libc::ECONNABORTED
            | libc::ENOTCONN
            | libc::ETIMEDOUT
            | libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::ENETRESET => ErrorKind::Closed,
            _ => ErrorKind::Io,
        };
        Self::from_errno(kind, errno)
    }

    fn with_cause(kind: ErrorKind, cause: Cause) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                cause,
                steps: Vec::new(),
                exhaustion: None,
            }),
        }
    }

    /// Adds what was being done when this happened, outside of all that was said before.
    #[must_use]
    pub fn context(mut self, step: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.inner).steps.push(step.into());
        self
    }

    /// The same failure seen as another kind (a connect that failed because its name did not
    /// resolve stays `Resolve`; this is for layers that know better than the one below).
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        Arc::make_mut(&mut self.inner).kind = kind;
        self
    }

    /// Attaches the figures of an exhausted pool.
    #[must_use]
    pub fn with_exhaustion(mut self, exhaustion: Exhaustion) -> Self {
        Arc::make_mut(&mut self.inner).exhaustion = Some(exhaustion);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The steps that were being done, innermost first.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.inner.steps.iter().map(|step| &**step)
    }

    /// The figures of the pool at the moment of an `Exhausted` or `GetTimeout` error.
    pub fn exhaustion(&self) -> Option<&Exhaustion> {
        self.inner.exhaustion.as_ref()
    }

    /// Whether a time limit of any kind ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::GetTimeout
                | ErrorKind::ConnectTimeout
                | ErrorKind::ReadTimeout
                | ErrorKind::WriteTimeout
        )
    }

    /// Whether no connection could be opened: refused, unreachable, timed out.
    pub fn is_connect(&self) -> bool {
        matches!(self.kind(), ErrorKind::Connect | ErrorKind::ConnectTimeout)
    }

    /// Whether the pool had nothing to give in time or within its limits.
    pub fn is_exhausted(&self) -> bool {
        matches!(self.kind(), ErrorKind::Exhausted | ErrorKind::GetTimeout)
    }

    /// Whether the connection had ended.
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }

    /// The operating system's error number at the bottom, if there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        let Cause::Source(source) = &self.inner.cause else {
            return None;
        };
        if let Some(OsError(errno)) = source.downcast_ref::<OsError>() {
            return Some(*errno);
        }
        source
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
    }
}

/// The operating system's error, printed as the standard library does but in lower case, so that
/// a stacked line reads as one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OsError(i32);

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        let mut chars = text.chars();
        let first = chars.next().into_iter().flat_map(char::to_lowercase);
        first
            .chain(chars)
            .try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

impl StdError for OsError {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.cause {
            Cause::Message(message) => f.write_str(message)?,
            Cause::Source(source) => write!(f, "{source}")?,
        }
        if let Some(figures) = &self.inner.exhaustion {
            write!(
                f,
                " (waited {} ms, {} waiting, {} in use, {} connecting",
                figures.waited.as_millis(),
                figures.waiters,
                figures.in_use,
                figures.connecting
            )?;
            match &figures.last_connect_error {
                Some(last) => write!(f, "; last connect error: {last})")?,
                None => f.write_str(")")?,
            }
        }
        self.steps().try_for_each(|step| write!(f, ", {step}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.kind())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.inner.cause {
            Cause::Message(_) => None,
            Cause::Source(source) => Some(&**source),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::InvalidConfig => io::ErrorKind::InvalidInput,
            ErrorKind::Unavailable => io::ErrorKind::Unsupported,
            ErrorKind::Closed => io::ErrorKind::ConnectionReset,
            ErrorKind::Connect => io::ErrorKind::ConnectionRefused,
            _ if error.is_timeout() => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stacked_error_reads_from_the_cause_outwards() {
        let error = Error::from_errno(ErrorKind::Connect, 111)
            .context("connecting to tcp:127.0.0.1:8088")
            .context("connecting to localhost:8088")
            .context("after 3 retry attempts");
        assert_eq!(
            error.to_string(),
            "connection refused (os error 111), connecting to tcp:127.0.0.1:8088, \
             connecting to localhost:8088, after 3 retry attempts"
        );
        assert!(error.is_connect());
        assert!(!error.is_timeout());
        assert_eq!(error.raw_os_error(), Some(111));
        assert!(error.source().is_some());
    }

    #[test]
    fn e9_what_loses_a_connection_has_one_kind() {
        for errno in [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT] {
            let error = Error::on_connection(errno);
            assert!(error.is_closed() && error.raw_os_error() == Some(errno));
        }
        assert_eq!(Error::on_connection(libc::ENOMEM).kind(), ErrorKind::Io);
    }

    #[test]
    fn context_on_a_clone_leaves_the_original() {
        let bottom = Error::new(ErrorKind::Resolve, "no such name");
        let told = bottom.clone().context("resolving a.test");
        assert_eq!(bottom.to_string(), "no such name");
        assert_eq!(told.to_string(), "no such name, resolving a.test");
    }

    #[test]
    fn an_exhaustion_error_carries_its_figures() {
        let error = Error::new(ErrorKind::GetTimeout, "no connection became free").with_exhaustion(
            Exhaustion {
                waited: Duration::from_millis(5000),
                waiters: 7,
                in_use: 4,
                connecting: 1,
                last_connect_error: Some("connection refused (os error 111)".into()),
            },
        );
        assert!(error.is_timeout() && error.is_exhausted());
        assert_eq!(
            error.to_string(),
            "no connection became free (waited 5000 ms, 7 waiting, 4 in use, 1 connecting; \
             last connect error: connection refused (os error 111))"
        );
        assert_eq!(error.exhaustion().unwrap().waiters, 7);
    }

    #[test]
    fn it_becomes_an_io_error_that_keeps_its_kind() {
        let io: io::Error = Error::new(ErrorKind::ReadTimeout, "late").into();
        assert_eq!(io.kind(), io::ErrorKind::TimedOut);
    }
}
