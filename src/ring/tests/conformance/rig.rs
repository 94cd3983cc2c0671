//! A bare queue with a peer, on which one list of entries runs whoever plays the kernel.
//!
//! Promise: every completion is written down, and a case ends only when each entry that was pushed
//! has had exactly one final completion and every buffer is back.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fixed;
use io_uring::{cqueue, opcode as raw};

use crate::ring::address::Door;
use crate::ring::buffers::{Lease, Pool};
use crate::ring::kernel::Cqe;
use crate::ring::memory::{OpBox, OpBytes};
use crate::ring::op::Dial;
use crate::ring::opcode::{self, Setting, Transport};
use crate::ring::queue::{Class, Flush, Queue};

/// Slots of the descriptor table.
pub(super) const SLOTS: u32 = 4;
/// Entries of the submission queue.
pub(super) const ENTRIES: u32 = 8;
/// Numbers from here on are entries that are not written down.
const QUIET: u64 = 1 << 32;
/// How long a connection takes nothing before it counts as full: longer than an acknowledgement is
/// put off (at most 200 ms).
const FULL: Duration = Duration::from_millis(250);

/// What a case needs other than usual.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) completions: u32,
    pub(super) buffers: u16,
    pub(super) buffer: u32,
}

/// Where a socket connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Server,
    /// A server that reads only when it is told to.
    Slow,
    /// Nobody listens.
    Deaf,
    /// Connects get no answer.
    Full,
    /// A server of datagrams.
    Datagrams,
    DeafDatagrams,
}

/// What the peer of a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Send(&'static [u8]),
    End,
    Reset,
    /// Reads as many bytes.
    Read(usize),
    /// Reads to the end.
    Finish,
}

/// The kernel's side and the other end of the network.
pub(super) trait World {
    fn is_kernel(&self) -> bool;
    /// A second ring, of another core.
    fn other(&mut self) -> (Queue, Rc<Pool>);
    /// What names no ring.
    fn no_ring(&self) -> i32;
    fn address(&mut self, place: Place) -> SocketAddr;
    /// Takes the next connection.
    fn accept(&mut self);
    /// Lets the peer of connection number `at` act; what it saw. What it sends has arrived after.
    fn act(&mut self, at: usize, act: Act) -> Option<String>;
    /// Takes a datagram and answers it.
    fn answer(&mut self, answers: &[&'static [u8]]) -> usize;
    /// The port that the last datagram came from.
    fn asked_from(&self) -> u16;
    /// A port that no socket of datagrams has, another one each time.
    fn free_port(&mut self) -> u16;
    /// Lets what is under way arrive.
    fn settle(&mut self);
    /// Waits for a completion; `false` if none will come.
    fn wait(&mut self, queue: &mut Queue) -> bool;
    /// What is wrong after everything has ended.
    fn mistakes(&self) -> Vec<String>;
}

pub(super) struct Rig {
    // First: the kernel's side goes before the memory it works on (D11).
    queue: Queue,
    world: Rc<RefCell<dyn World>>,
    pool: Rc<Pool>,
    dials: Vec<OpBox<Dial>>,
    values: Vec<OpBox<i32>>,
    bytes: Vec<OpBytes>,
    names: Vec<&'static str>,
    in_flight: usize,
    /// Buffers that do not go back at once.
    held: Vec<Lease>,
    pub(super) holds: bool,
    /// Read and not written down yet.
    came: VecDeque<String>,
    quiet: Vec<(u64, i32)>,
    log: Vec<String>,
    failed: Cell<bool>,
}

impl Rig {
    pub(super) fn new(queue: Queue, pool: Rc<Pool>, world: Rc<RefCell<dyn World>>) -> Self {
        Self {
            queue,
            world,
            pool,
            dials: Vec::new(),
            values: Vec::new(),
            bytes: Vec::new(),
            names: Vec::new(),
            in_flight: 0,
            held: Vec::new(),
            holds: false,
            came: VecDeque::new(),
            quiet: Vec::new(),
            log: Vec::new(),
            failed: Cell::new(false),
        }
    }

    pub(super) fn world(&self) -> RefMut<'_, dyn World> {
        self.world.borrow_mut()
    }

    /// The rig of another core, in the same world. It ends before this one.
    pub(super) fn other(&self) -> Rig {
        let (queue, pool) = self.world().other();
        Rig::new(queue, pool, Rc::clone(&self.world))
    }

    /// What other rings name this one by.
    pub(super) fn door(&self) -> Door {
        self.queue.door().unwrap()
    }

    // -- entries -------------------------------------------------------------------------------

    pub(super) fn socket(&self, slot: u32) -> Entry {
        opcode::socket(slot, ([127, 0, 0, 1], 0).into(), Transport::Tcp)
    }

    pub(super) fn datagrams(&self, slot: u32) -> Entry {
        opcode::socket(slot, ([127, 0, 0, 1], 0).into(), Transport::Udp)
    }

    /// An option, not linked to what follows.
    pub(super) fn option(&mut self, slot: u32, setting: Setting) -> Entry {
        let value = OpBox::new(setting.2);
        let entry = raw::SetSockOpt::new(
            Fixed(slot),
            setting.0 as u32,
            setting.1 as u32,
            (&raw const *value).cast(),
            size_of::<i32>() as u32,
        );
        self.values.push(value);
        entry.build()
    }

    /// A port for a socket of datagrams.
    pub(super) fn bind(&mut self, slot: u32, port: u16, link: Flags) -> Entry {
        let to = self.world().address(Place::Datagrams);
        self.dials
            .push(OpBox::new(opcode::dial_from(to, Some(port))));
        let dial = &self.dials[self.dials.len() - 1];
        let address = (&raw const dial.local).cast();
        let entry = raw::Bind::new(Fixed(slot), address, dial.address_len);
        entry.build().flags(link)
    }

    /// Linked to the next entry, as the ring has it.
    pub(super) fn connect(&mut self, slot: u32, place: Place) -> Entry {
        let dial = self.dial(place, Duration::ZERO);
        opcode::connect(slot, dial)
    }

    /// Not linked.
    pub(super) fn connect_alone(&mut self, slot: u32, place: Place) -> Entry {
        let dial = self.dial(place, Duration::ZERO);
        let address = (&raw const dial.address).cast();
        raw::Connect::new(Fixed(slot), address, dial.address_len).build()
    }

    pub(super) fn limit(&mut self, time: Duration) -> Entry {
        let dial = self.dial(Place::Deaf, time);
        opcode::connect_timeout(dial)
    }

    fn dial(&mut self, place: Place, limit: Duration) -> &Dial {
        let to = self.world().address(place);
        self.dials.push(OpBox::new(opcode::dial(to, limit, &[])));
        &self.dials[self.dials.len() - 1]
    }

    pub(super) fn send(&mut self, slot: u32, bytes: &[u8]) -> Entry {
        let mut kept = OpBytes::with_capacity(bytes.len());
        kept.extend(bytes);
        let entry = opcode::send(slot, kept.as_ptr(), kept.len());
        self.bytes.push(kept);
        entry
    }

    /// All of the bytes, linked to the next entry, as the ring has it.
    pub(super) fn send_query(&mut self, slot: u32, bytes: &[u8]) -> Entry {
        let mut kept = OpBytes::with_capacity(bytes.len());
        kept.extend(bytes);
        let entry = opcode::send_query(slot, kept.as_ptr(), kept.len());
        self.bytes.push(kept);
        entry
    }

    pub(super) fn recv(&self, slot: u32) -> Entry {
        opcode::recv(slot, Transport::Tcp)
    }

    pub(super) fn recv_datagrams(&self, slot: u32) -> Entry {
        opcode::recv(slot, Transport::Udp)
    }

    /// A cancel of the entry called `name`.
    pub(super) fn cancel(&self, name: &str) -> Entry {
        let at = self.names.iter().rposition(|it| *it == name);
        opcode::cancel(at.map_or(QUIET - 1, |at| at as u64 + 1))
    }

    // -- what happens --------------------------------------------------------------------------

    /// Pushes entries in one submission.
    pub(super) fn push(&mut self, entries: &[(&'static str, Entry)]) {
        let numbered: Vec<Entry> = entries
            .iter()
            .map(|(name, entry)| {
                self.names.push(name);
                entry.clone().user_data(self.names.len() as u64)
            })
            .collect();
        self.push_numbered(&numbered);
    }

    #[allow(unsafe_code)]
    fn push_numbered(&mut self, entries: &[Entry]) {
        self.in_flight += entries.len();
        // SAFETY: what the entries point at is kept in `self` until everything is final, and is
        // leaked if it does not become so (D1).
        unsafe { self.queue.push(entries, Class::Work) };
        assert_eq!(self.queue.flush(), Flush::Done);
    }

    /// Pushes one entry that no completion is written down of; its result.
    fn ask(&mut self, entries: &[Entry]) -> i32 {
        let numbered = entries.iter().zip(QUIET..);
        let numbered: Vec<Entry> = numbered.map(|(it, at)| it.clone().user_data(at)).collect();
        self.push_numbered(&numbered);
        while self.quiet.len() < entries.len() {
            assert!(self.read_or_wait(), "nothing comes");
        }
        let first = self.quiet.iter().find(|(number, _)| *number == QUIET);
        let res = first.map_or(0, |(_, res)| *res);
        self.quiet.clear();
        res
    }

    fn read_or_wait(&mut self) -> bool {
        let mut batch = Vec::new();
        self.queue.reap(&mut batch, 256);
        for cqe in &batch {
            self.note(*cqe);
        }
        !batch.is_empty()
            || self.queue.has_completions()
            || self.world.borrow_mut().wait(&mut self.queue)
    }

    fn note(&mut self, cqe: Cqe) {
        let more = cqueue::more(cqe.flags);
        self.in_flight -= usize::from(!more);
        if cqe.user_data >= QUIET {
            self.quiet.push((cqe.user_data, cqe.res));
            return;
        }
        let at = (cqe.user_data as usize).wrapping_sub(1);
        let name = self.names.get(at).copied().unwrap_or("a stranger");
        let mut line = format!("{name} {}", cqe.res);
        if more {
            line.push('+');
        }
        if let Some(id) = cqueue::buffer_select(cqe.flags) {
            let len = u32::try_from(cqe.res).unwrap_or(0);
            match self.pool.lease(id, len) {
                Some(lease) => {
                    let start = lease[..lease.len().min(8)].escape_ascii();
                    line.push_str(&format!(" {start}:{}", lease.len()));
                    self.held.push(lease);
                }
                None => line.push_str(" a buffer that is not the pool's"),
            }
            if !self.holds {
                self.held.clear();
            }
        }
        self.came.push_back(line);
    }

    fn take(&mut self, count: usize) -> Vec<String> {
        while self.came.len() < count {
            if !self.read_or_wait() {
                self.failed.set(true);
                self.came.push_back("nothing comes".to_owned());
            }
        }
        self.came.drain(..count).collect()
    }

    /// The next completions, in this order.
    pub(super) fn ordered(&mut self, count: usize) {
        let lines = self.take(count);
        self.log.extend(lines);
    }

    /// The next completions, whose order is free.
    pub(super) fn any(&mut self, count: usize) {
        let mut lines = self.take(count);
        lines.sort();
        self.log.extend(lines);
    }

    /// The next completion, of the entry called `name`: some of its bytes, and not all.
    pub(super) fn in_part(&mut self, name: &str, all: usize) {
        let line = self.take(1).remove(0);
        let count = line
            .strip_prefix(name)
            .and_then(|rest| rest.trim().parse().ok());
        let is_part = count.is_some_and(|count| (1..all).contains(&count));
        self.log.push(if is_part {
            format!("{name} in part")
        } else {
            line
        });
    }

    /// Gives back the buffers that were held.
    pub(super) fn give_back(&mut self) {
        self.held.clear();
    }

    /// Lets the peer of connection `at` act.
    pub(super) fn peer(&mut self, at: usize, act: Act) {
        let saw = self.world().act(at, act);
        if let Some(saw) = saw {
            self.log.push(format!("peer {saw}"));
        }
    }

    /// The usual beginning: a connection in the slot.
    pub(super) fn pair(&mut self, slot: u32, place: Place) {
        let socket = self.socket(slot);
        let connect = self.connect(slot, place);
        let limit = self.limit(Duration::from_secs(10));
        let entries = [("socket", socket), ("connect", connect), ("limit", limit)];
        self.push(&entries);
        let mut lines = self.take(3);
        lines.sort();
        assert_eq!(lines, ["connect 0", "limit -125", "socket 0"]);
        self.world().accept();
    }

    /// Waits until the socket in the slot, on which nothing is armed, has heard of `events`.
    pub(super) fn until_heard(&mut self, slot: u32, events: i16) {
        if self.world().is_kernel() {
            let poll = raw::PollAdd::new(Fixed(slot), events as u32).build();
            self.ask(&[poll]);
        } else {
            self.world().settle();
        }
    }

    /// Sends until the connection takes no more; how much it took.
    pub(super) fn stuff(&mut self, slot: u32) -> usize {
        let bytes = [b'x'; 64 * 1024];
        if !self.world().is_kernel() {
            let entry = self.send(slot, &bytes);
            return self.ask(&[entry]) as usize;
        }
        let (mut all, mut waited) = (0, 0);
        // What is acknowledged late makes room again, so until nothing has fitted for a while.
        loop {
            let mut last = 0;
            // Whole segments first, then what fits behind the last one.
            for len in [bytes.len(), 1024, 32, 1] {
                while let Some(count) = self.send_now(slot, &bytes[..len]) {
                    last += count;
                }
            }
            all += last;
            if last == 0 && waited == -libc::ECANCELED {
                return all;
            }
            let room = raw::PollAdd::new(Fixed(slot), libc::POLLOUT as u32).build();
            let limit = self.limit(FULL);
            waited = self.ask(&[room.flags(Flags::IO_LINK), limit]);
        }
    }

    /// Sends as much of `bytes` as the connection takes now.
    fn send_now(&mut self, slot: u32, bytes: &[u8]) -> Option<usize> {
        let mut kept = OpBytes::with_capacity(bytes.len());
        kept.extend(bytes);
        let send = raw::Send::new(Fixed(slot), kept.as_ptr(), kept.len() as u32);
        self.bytes.push(kept);
        let send = send.flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT).build();
        match self.ask(&[send]) {
            res if res == -libc::EAGAIN => None,
            res => Some(usize::try_from(res).unwrap()),
        }
    }

    /// Ends everything that is left; what was written down, and what is wrong.
    pub(super) fn finish(mut self) -> (Vec<String>, Vec<String>) {
        let mistakes = self.end();
        let world = self.world().mistakes();
        (mem::take(&mut self.log), [mistakes, world].concat())
    }

    /// Ends the rig of another core and writes its log down here.
    pub(super) fn end_other(&mut self, mut other: Rig) {
        let mistakes = other.end();
        let log = mem::take(&mut other.log).into_iter().chain(mistakes);
        self.log.extend(log.map(|line| format!("there {line}")));
    }

    fn end(&mut self) -> Vec<String> {
        self.held.clear();
        self.holds = false;
        let closes = (0..SLOTS).map(opcode::close);
        let entries: Vec<Entry> = [opcode::cancel_all()].into_iter().chain(closes).collect();
        let mut mistakes = Vec::new();
        self.ask(&entries);
        while self.in_flight > 0 {
            if self.failed.get() || !self.read_or_wait() {
                mistakes.push(format!("{} operations have not ended", self.in_flight));
                break;
            }
        }
        let mut left: Vec<_> = mem::take(&mut self.came).into();
        left.sort();
        self.log
            .extend(left.into_iter().map(|line| format!("left: {line}")));
        if self.pool.available() != self.pool.count() {
            mistakes.push("a buffer is lost".to_owned());
        }
        mistakes
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // The kernel may still use it all (D10).
            self.pool.leak();
            mem::forget(mem::take(&mut self.dials));
            mem::forget(mem::take(&mut self.values));
            mem::forget(mem::take(&mut self.bytes));
        }
    }
}
