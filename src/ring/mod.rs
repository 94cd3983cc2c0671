//! Everything between the pool and the kernel: submission, completion, memory that the kernel
//! works on, descriptors. The only layer with `unsafe`.
//!
//! Promise: the caller sees slots and events, never a completion. Whatever the order in which the
//! kernel reports, each connect ends in exactly one of `Connected`, `ConnectFailed` and (if closed
//! meanwhile) `Closed`, and a slot that was reported closed or failed has nothing of its tenant
//! left: no operation, no descriptor, no byte.
//!
//! The rules for memory are in [`op`]; those for slots in [`conn`]. A [`Ring`] belongs to the
//! thread that made it and is not `Send`. No caller's code runs inside of it: events are queued
//! and polled (D18, D36).

mod address;
#[cfg(feature = "sim")]
mod audit;
#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod budget;
mod buffers;
pub(crate) mod clock;
mod close;
mod conn;
mod connect;
mod drain;
mod driver;
mod events;
mod fork;
mod give;
mod host;
pub(crate) mod kernel;
mod memory;
mod op;
mod opcode;
mod owned;
mod probe;
mod query;
mod queue;
mod recv;
mod rights;
mod route;
mod segments;
mod send;
mod signal;
mod sleep;
mod spawn;
mod submit;
#[cfg(test)]
mod tests;
mod token;
mod unpark;
mod watch;

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::cqueue;

pub(crate) use address::Address;
pub(crate) use buffers::Chunk;
#[cfg(feature = "sim")]
pub(crate) use driver::Watch;
pub(crate) use driver::{Driver, Next, Turn};
use events::RingStats;
pub(crate) use events::{End, Event, RingConfig, SocketOptions};
pub(crate) use host::{Runtime, drive, random_seed, until};
#[cfg(feature = "sim")]
pub(crate) use opcode::IP_LOCAL_PORT_RANGE;
pub(crate) use opcode::Transport;
pub(crate) use owned::{EmptyBox, OwnedBuf};
#[cfg(test)]
pub(crate) use queue::Fault;
pub(crate) use rights::has_more_rights_than_its_user;
pub(crate) use route::source_of;
pub(crate) use signal::Signal;
pub(crate) use sleep::sleep_until;
pub(crate) use spawn::in_runtime;
pub(crate) use spawn::{TaskHandle, spawn};
pub(crate) use watch::{Descriptor, SharedDescriptor};

use crate::error::Result;
use crate::line::Lines;
use crate::slot::{Key, Slots};
use buffers::Pool;
use conn::{Conn, Phase};
use events::Events;
#[cfg(feature = "sim")]
use kernel::played::{Machine, Played};
use kernel::{Cqe, Kernel};
use op::{Completion, OpTable, Payload};
use opcode::Setting;
use query::Query;
use queue::{Class, Queue};
use segments::Segments;
use token::Kind;

/// Completions read at once (D18). The rest waits for the next call.
const BATCH: usize = 256;
/// Completions that each slot may have outstanding at a bad moment.
const COMPLETIONS_PER_SLOT: u32 = 4;

/// What differs from the normal in tests.
#[derive(Debug, Clone, Default)]
struct Tweaks {
    /// Behave as on a kernel that cannot set options on direct descriptors.
    plain_sockets: bool,
    /// Behave as on a kernel that cannot bind direct descriptors.
    no_bind: bool,
    /// Places in the completion queue.
    completions: Option<u32>,
    /// Slots in the kernel's table, fewer than we use.
    table: Option<u32>,
}

/// One core's connection to the kernel.
pub(crate) struct Ring {
    // First: the kernel's side goes before the memory it works on (D11).
    queue: Queue,
    ops: OpTable,
    pool: Rc<Pool>,
    conns: Vec<Conn>,
    /// What the connections have received and nobody has read.
    pieces: Lines<Chunk>,
    /// What is to be sent on them and waits for an earlier send.
    unsent: Lines<Payload>,
    events: Events,
    /// Slots with bytes to send and no send in flight; their sends start at the next submission.
    dirty: Vec<Key>,
    /// Slots whose receive ended for want of a buffer: those with nothing unread, and the others.
    starved: [VecDeque<Key>; 2],
    /// Slots that held their bound of bytes when their receive last reported.
    full: Vec<Key>,
    /// How many of the starved were armed since the last reap: each may take a buffer unseen.
    promised: u16,
    /// Empty segments for what is copied, to be used again.
    segments: Rc<Segments>,
    queries: Slots<Query>,
    batch: Vec<Cqe>,
    settings: Vec<Setting>,
    entries: Vec<io_uring::squeue::Entry>,
    config: RingConfig,
    plain_sockets: bool,
    /// Whether the kernel can bind direct descriptors.
    binds: bool,
    /// Whether the kernel can send descriptors from ring to ring.
    gives: bool,
    /// Where other rings send to, once that was asked for.
    address: OnceCell<Arc<Address>>,
    signal: Rc<Signal>,
    fatal_told: bool,
    ended: bool,
}

impl Ring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with the likely reason and the remedy.
    pub(crate) fn new(config: RingConfig) -> Result<Ring> {
        Self::with(config, &Tweaks::default())
    }

    fn with(config: RingConfig, tweaks: &Tweaks) -> Result<Ring> {
        let slots = config.max_connections.saturating_add(config.max_queries);
        let entries = config
            .entries
            .clamp(RingConfig::MIN_ENTRIES, RingConfig::MAX_ENTRIES)
            .next_power_of_two();
        let completions = tweaks.completions.unwrap_or_else(|| {
            let expected = slots.saturating_mul(COMPLETIONS_PER_SLOT);
            entries.saturating_mul(4).max(expected)
        });
        let mut ring = probe::build(entries, completions)?;
        probe::register_slots(&ring, tweaks.table.unwrap_or(slots))?;
        let plain_sockets = tweaks.plain_sockets || !probe::sets_options(&mut ring)?;
        let binds = !tweaks.no_bind && probe::binds(&ring)?;
        let gives = probe::gives(&ring)?;
        let signal = Rc::new(Signal::default());
        let (count, size) = (config.recv_buffers, config.recv_buffer_size);
        let pool = Pool::new(count, size, Rc::clone(&signal))
            .and_then(|pool| pool.register(&ring.submitter()).map(|()| pool))
            .map_err(|e| {
                let doing = format!("making {count} receive buffers of {size} bytes");
                probe::unavailable(&e, &doing)
            })?;
        let mut ring = Self::assemble(Kernel::linux(ring), pool, signal, config);
        ring.plain_sockets = plain_sockets;
        ring.binds = binds;
        ring.gives = gives;
        Ok(ring)
    }

    /// A ring whose kernel is played by `machine`.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the process has no memory for the receive buffers.
    #[cfg(feature = "sim")]
    pub(crate) fn played(config: RingConfig, machine: Rc<dyn Machine>) -> Result<Ring> {
        let signal = Rc::new(Signal::default());
        let (count, size) = (config.recv_buffers, config.recv_buffer_size);
        let pool = Pool::new(count, size, Rc::clone(&signal))
            .map_err(|error| probe::unavailable(&error, "making receive buffers"))?;
        let entries = config.entries.max(RingConfig::MIN_ENTRIES) as usize;
        let played = Played::new(entries, &pool, machine);
        Ok(Self::assemble(Kernel::Played(played), pool, signal, config))
    }

    fn assemble(kernel: Kernel, pool: Rc<Pool>, signal: Rc<Signal>, config: RingConfig) -> Ring {
        let slots = config.max_connections.saturating_add(config.max_queries);
        Ring {
            queue: Queue::new(kernel),
            ops: OpTable::new(slots as usize),
            pool,
            conns: (0..slots).map(|_| Conn::free()).collect(),
            pieces: Lines::default(),
            unsent: Lines::default(),
            events: Events::new(Rc::clone(&signal)),
            dirty: Vec::new(),
            starved: [VecDeque::new(), VecDeque::new()],
            full: Vec::new(),
            promised: 0,
            segments: Rc::default(),
            queries: Slots::with_capacity(config.max_queries as usize),
            batch: Vec::with_capacity(BATCH),
            settings: Vec::new(),
            entries: Vec::new(),
            config,
            plain_sockets: false,
            binds: true,
            gives: true,
            address: OnceCell::new(),
            signal,
            fatal_told: false,
            ended: false,
        }
    }

    /// A descriptor for watching the ring: readable when there are completions.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the process has no descriptor left.
    pub(crate) fn fd(&self) -> Result<OwnedFd> {
        self.queue
            .fd()
            .map_err(|error| probe::unavailable(&error, "watching the ring"))
    }

    /// How the driver is woken.
    pub(crate) fn signal(&self) -> Rc<Signal> {
        Rc::clone(&self.signal)
    }

    /// Whether this is a forked child of the ring's process: it must not use the ring (D30).
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        self.queue.forked()
    }

    /// What was counted so far.
    pub(crate) fn stats(&self) -> &RingStats {
        &self.queue.stats
    }

    /// Lets `fault` answer each enter in the kernel's place, for tests of failure.
    #[cfg(test)]
    pub(crate) fn set_fault(&mut self, fault: Option<Fault>) {
        self.queue.set_fault(fault);
    }

    /// Whether there is something to [`reap`](Self::reap) or to [`poll`](Self::poll_event): a few
    /// loads, no system call.
    #[inline]
    pub(crate) fn has_completions(&self) -> bool {
        self.queue.has_completions()
            || !self.events.is_empty()
            || (self.queue.dead().is_some() && !self.fatal_told)
    }

    /// Whether nothing has come that is not taken in, in a process that may use the ring.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_quiet() && self.events.is_empty()
    }

    /// Turns completions into events, a bounded number at once; how many it were.
    pub(crate) fn reap(&mut self) -> usize {
        let mut batch = mem::take(&mut self.batch);
        self.queue.reap(&mut batch, BATCH);
        let count = batch.len();
        for cqe in batch.drain(..) {
            self.handle(cqe);
        }
        self.batch = batch;
        self.promised = 0;
        count
    }

    /// The next event, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if let Some(errno) = self.queue.dead()
            && !self.fatal_told
        {
            self.fatal_told = true;
            let error = Self::dead(errno);
            return Some(Event::Fatal { error });
        }
        loop {
            let event = self.events.pop()?;
            if self.told(&event) {
                return Some(event);
            }
        }
    }

    /// Notes that `event` leaves the queue; `false` if it is of a slot that was closed since it was
    /// queued and whose caller waits only for the end.
    fn told(&mut self, event: &Event) -> bool {
        if let Event::QueryBytes { key, .. } | Event::QueryFailed { key, .. } = event {
            return self.query_told(*key);
        }
        let (Event::Connected { key }
        | Event::Watched { key }
        | Event::Readable { key }
        | Event::Ended { key, .. }
        | Event::Writable { key }
        | Event::WriteFailed { key, .. }
        | Event::Given { key }
        | Event::GiveFailed { key, .. }) = event
        else {
            return true;
        };
        let conn = self.at(*key);
        if conn.key != *key || conn.close_asked {
            return false;
        }
        match event {
            Event::Readable { .. } => conn.readable_told = false,
            Event::Writable { .. } => conn.writable_told = false,
            _ => {}
        }
        true
    }

    fn handle(&mut self, cqe: Cqe) {
        // Whoever it belongs to, a completion with a buffer owes that buffer (D16).
        let lease = cqueue::buffer_select(cqe.flags)
            .and_then(|id| self.pool.lease(id, u32::try_from(cqe.res).unwrap_or(0)));
        let more = cqueue::more(cqe.flags);
        let Completion::Op { token, last, .. } = self.ops.complete(cqe.user_data, more) else {
            self.queue.stats.stale_cqes = self.ops.stale();
            return;
        };
        let key = token.key;
        if key == OpTable::RING {
            return;
        }
        match token.kind {
            Kind::Recv if self.is_query(key) => self.on_query_recv(key, cqe.res, lease, last),
            Kind::Recv if self.at(key).phase == Phase::Leaving => {
                self.on_last_recv(key, cqe.res, lease, last);
            }
            Kind::Recv => self.on_recv(key, cqe.res, lease, last),
            Kind::Send => self.on_send(key, cqe.res),
            Kind::Shutdown => self.on_shutdown(key),
            Kind::CancelRecv if self.at(key).phase == Phase::Leaving => {
                self.on_cancel_leaving(key, cqe.res);
            }
            Kind::CancelRecv => self.on_cancel_recv(key, cqe.res),
            Kind::Give => self.on_give(key, cqe.res),
            Kind::CancelSend | Kind::CancelConnect | Kind::CancelShutdown => {
                self.on_cancel(key, cqe.res);
            }
            Kind::Close => self.on_close(key, cqe.res),
            Kind::Cut | Kind::Cancel | Kind::CancelAll | Kind::Nop | Kind::Message | Kind::Wake => {
            }
            step => self.on_connect_step(key, step, cqe.res),
        }
        if last && self.ops.outstanding(key) == 0 {
            match self.at(key).phase {
                Phase::Closing => self.finish(key),
                Phase::Leaving => self.send_away(key),
                _ => {}
            }
        }
    }

    /// Starts one operation; `false` if one of the kind is in flight.
    ///
    /// # Safety
    ///
    /// What `entry` points at is in the operation table, by the rules of [`op`] (D1).
    #[allow(unsafe_code)]
    unsafe fn issue(
        &mut self,
        kind: Kind,
        key: Key,
        entry: io_uring::squeue::Entry,
        class: Class,
    ) -> bool {
        let Some(user_data) = self.ops.begin(kind, key) else {
            return false;
        };
        // SAFETY: the caller's promise.
        unsafe { self.queue.push(&[entry.user_data(user_data)], class) };
        self.signal.ask();
        true
    }

    /// Starts the operations of `kinds` with the entries in `self.entries` as one chain (D20).
    ///
    /// # Safety
    ///
    /// As for [`issue`](Self::issue), for every entry.
    #[allow(unsafe_code)]
    unsafe fn issue_chain(&mut self, kinds: &[Kind], key: Key, class: Class) {
        debug_assert_eq!(kinds.len(), self.entries.len());
        for (kind, entry) in kinds.iter().zip(&mut self.entries) {
            let begun = self.ops.begin(*kind, key);
            debug_assert!(begun.is_some(), "{kind:?} of {key:?} is in flight");
            entry.set_user_data(begun.unwrap_or_default());
        }
        // SAFETY: the caller's promise.
        unsafe { self.queue.push(&self.entries, class) };
        self.entries.clear();
        self.signal.ask();
    }
}
