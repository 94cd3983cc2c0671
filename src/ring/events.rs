//! What the ring is told at its making and what it reports: the words that the shard and the ring
//! share.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ring::owned::OwnedBuf;
use crate::ring::signal::Signal;
use crate::slot::Key;

/// The sizes of a ring.
#[derive(Debug, Clone)]
pub(crate) struct RingConfig {
    /// Entries of the submission queue; at least [`RingConfig::MIN_ENTRIES`] are made.
    pub(crate) entries: u32,
    /// Slots that the caller chooses: 0 up to this.
    pub(crate) max_connections: u32,
    /// Slots of the ring's own after those, for [queries](crate::ring::query).
    pub(crate) max_queries: u32,
    /// Buffers that the kernel receives into; a power of two.
    pub(crate) recv_buffers: u16,
    /// Bytes of one of them.
    pub(crate) recv_buffer_size: u32,
    /// Unread bytes of one connection above which its receive is stopped.
    pub(crate) recv_limit: usize,
    /// Unsent bytes of one connection above which a write takes nothing.
    pub(crate) send_limit: usize,
}

impl RingConfig {
    /// The longest chain, a connect with every option, must fit (D20).
    pub(crate) const MIN_ENTRIES: u32 = 16;
    /// What the kernel allows.
    pub(crate) const MAX_ENTRIES: u32 = 32_768;
    /// Questions to name servers that one core may have open.
    pub(crate) const QUERIES: u32 = 32;
}

impl From<&Config> for RingConfig {
    fn from(config: &Config) -> Self {
        Self {
            entries: config.ring_entries,
            max_connections: u32::try_from(config.max_connections_per_shard).unwrap_or(u32::MAX),
            max_queries: Self::QUERIES,
            recv_buffers: config.recv_buffers,
            recv_buffer_size: u32::try_from(config.recv_buffer_size).unwrap_or(u32::MAX),
            recv_limit: config.recv_limit,
            send_limit: config.send_limit,
        }
    }
}

/// What is set on every socket before it connects.
#[derive(Debug, Clone, Default)]
pub(crate) struct SocketOptions {
    /// The ports that the kernel may choose from for the own end; `None` for all.
    pub(crate) local_ports: Option<RangeInclusive<u16>>,
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) user_timeout: Option<Duration>,
}

impl From<&Config> for SocketOptions {
    fn from(config: &Config) -> Self {
        Self {
            local_ports: None,
            nodelay: config.tcp_nodelay,
            keepalive: config.tcp_keepalive,
            user_timeout: config.tcp_user_timeout,
        }
    }
}

/// How the peer's bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer sends no more (FIN).
    Eof,
    /// The connection broke, with this error number.
    Reset(i32),
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The connect ended well; the receive is armed.
    Connected { key: Key },
    /// The connect failed; nothing remains in the slot.
    ConnectFailed { key: Key, error: Error },
    /// The receive is armed again, for whoever [waited](crate::ring::Ring::tell_when_watched).
    Watched { key: Key },
    /// Bytes came; `read` gives them.
    Readable { key: Key },
    /// The peer's bytes end after those still unread.
    Ended { key: Key, how: End },
    /// There is room for a write again, or everything asked to be flushed is sent.
    Writable { key: Key },
    /// A send failed; what is unsent stays unsent.
    WriteFailed { key: Key, error: Error },
    /// A buffer comes back: sent whole, or not.
    WriteDone {
        key: Key,
        buf: OwnedBuf,
        result: Result<()>,
    },
    /// The other ring's slot has the connection too. Whether anybody there takes it is not said:
    /// until then it is ours, at rest.
    Given { key: Key },
    /// The connection was not given and is as before.
    GiveFailed { key: Key, error: Error },
    /// The close asked for is done: the slot is free.
    Closed { key: Key },
    /// Bytes came for a query: a datagram, `truncated` if it was longer; or the next piece of a
    /// stream, of any length above 0.
    QueryBytes {
        key: Key,
        bytes: Vec<u8>,
        truncated: bool,
    },
    /// The query's socket failed, or its stream ended (`errno` 0). It still wants closing.
    QueryFailed { key: Key, errno: i32 },
    /// The query's socket is closed and its key is stale.
    QueryClosed { key: Key },
    /// The ring is dead. Nothing is freed; drain it, which leaks.
    Fatal { error: Error },
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RingStats {
    /// System calls made to submit or to wait.
    pub(crate) enters: u64,
    /// Entries the kernel took.
    pub(crate) sqes: u64,
    /// Completions read.
    pub(crate) cqes: u64,
    /// Completions that belonged to nothing.
    pub(crate) stale_cqes: u64,
    /// Receives that ended because no buffer was left.
    pub(crate) enobufs: u64,
    /// Receives armed again after that.
    pub(crate) rearms: u64,
    /// Times the completion queue was found overflowed.
    pub(crate) overflows: u64,
    /// Received pieces copied because buffers were few.
    pub(crate) copied: u64,
    /// Datagrams thrown away because nobody took those before them.
    pub(crate) dropped: u64,
    /// Operations whose memory was left to the kernel.
    pub(crate) leaked: u64,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Whether every operation ended in time.
    pub(crate) clean: bool,
    /// How many did not; their memory is leaked.
    pub(crate) leaked_ops: usize,
}

/// The events not yet polled. Bounded: each slot has at most one of each kind queued, as many
/// `WriteDone` as buffers were given, and of `QueryBytes` what [`query`](crate::ring::query) allows.
#[derive(Debug)]
pub(super) struct Events {
    queue: VecDeque<Event>,
    signal: Rc<Signal>,
}

impl Events {
    pub(super) fn new(signal: Rc<Signal>) -> Self {
        Self {
            queue: VecDeque::new(),
            signal,
        }
    }

    /// Queues `event` and sees to it that somebody comes for it.
    pub(super) fn push(&mut self, event: Event) {
        self.queue.push_back(event);
        self.signal.note();
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A failed connect that nobody was told of yet, and that was closed meanwhile, ends as a
    /// close.
    pub(super) fn failed_to_closed(&mut self, closed: Key) {
        let failed = self
            .queue
            .iter_mut()
            .find(|event| matches!(event, Event::ConnectFailed { key, .. } if *key == closed));
        if let Some(event) = failed {
            *event = Event::Closed { key: closed };
        }
    }
}
