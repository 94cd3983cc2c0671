//! What the shell knows of each connection beyond the policy's stage and the ring's socket: who
//! waits on it, what it holds for its readers, and whether it is at a message boundary.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

use crate::error::Error;
use crate::host::TaskHandle;
use crate::policy::event::{CloseReason, ConnKey, EndpointKey};
use crate::ring::End;
use crate::slot::growth;
use crate::time::Tick;

use super::Checkout;
use super::chunk::Chunk;
use super::deferred::Deferred;

/// A right to use a connection's bytes: for one checkout of it, or, for a protocol's own streams
/// and shared connections, for as long as it lives. A handle that a task kept from an earlier
/// checkout must not reach the next user's session (I2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) conn: ConnKey,
    checkout: Option<u32>,
}

impl Use {
    /// For as long as the connection lives.
    pub(crate) fn for_life(conn: ConnKey) -> Self {
        Self {
            conn,
            checkout: None,
        }
    }
}

/// One connection's cell. It lives from `Dial`, or `Received`, to `Closed` (or `ConnectFailed`).
pub(crate) struct ConnCell {
    pub(crate) conn: ConnKey,
    pub(crate) endpoint: EndpointKey,
    pub(crate) address: SocketAddr,
    /// Made by the protocol's `init`; `None` before, and for the plain protocol.
    pub(crate) state: Option<Rc<dyn Any>>,
    /// Its state is not put together yet.
    pub(crate) is_packed: bool,
    /// It became ready for use.
    pub(crate) was_ready: bool,
    /// More than one user may hold it.
    pub(crate) shared: bool,
    /// Which checkout of an exclusive connection this is; odd while a user holds it.
    checkout: u32,
    /// How many users hold it.
    pub(crate) holders: u32,
    /// The task of `init` or of a health check that has it meanwhile.
    pub(crate) task: Option<TaskHandle<()>>,
    pub(crate) stage: Stage,
    pub(crate) read: Side,
    pub(crate) write: Side,
    /// Pieces in front of what the ring has: what cancelled reads gave back.
    pub(crate) front: Front,
    /// The shell closed the socket before the policy asked for it, because a user would not let go:
    /// under way, or done.
    pub(crate) cut: Cut,
    /// Part of a message was written and the rest will not be, or the stream was half closed: no
    /// other user may have it. Never taken back.
    pub(crate) torn: bool,
    /// The end of the stream was seen.
    pub(crate) end: Option<End>,
    /// An operation failed; every later one fails the same way.
    pub(crate) failure: Option<Error>,
    /// Alive while somebody keeps the handle that the protocol's `init` got.
    pub(crate) life: Weak<()>,
    /// The moment of the entry that the shard's timer heap has for this connection;
    /// [`Tick::NEVER`] if there is none.
    pub(crate) timed: Tick,
}

/// Pieces that were put back. Few connections ever have any, so that the queue is made for the first.
#[derive(Default)]
pub(crate) struct Front {
    #[allow(clippy::box_collection)] // a quarter of its size
    pieces: Option<Box<VecDeque<Chunk>>>,
}

impl Front {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let pieces = self.pieces.as_ref();
        pieces.is_none_or(|pieces| pieces.is_empty())
    }

    pub(crate) fn push_front(&mut self, piece: Chunk) {
        self.pieces.get_or_insert_default().push_front(piece);
    }

    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut Chunk> {
        self.pieces.as_mut()?.front_mut()
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Chunk> {
        self.pieces.as_mut()?.pop_front()
    }
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The ring connects it.
    Dialing,
    /// The protocol's `init` runs, until this deadline.
    Initialising(Tick),
    /// Nobody's, or its users'.
    Ready,
    /// A health check runs, until this deadline.
    Checking(Tick),
    /// Nobody's, and not to be had before it is watched again and was looked at: until this deadline.
    Looked(Tick),
    /// It was asked to close; nobody can use it.
    Closing(CloseReason),
}

/// Whether the socket is closed ahead of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    No,
    UnderWay,
    Done,
}

/// How many users of a shared connection may wait for it without that room is made for them anew.
const FEW: usize = 16;

/// One direction: who waits for it and until when. Most connections wait for nothing, so that most have
/// no room for it: what is needed for a wait is borrowed from the shard while it lasts.
#[derive(Default)]
pub(crate) struct Side {
    waiting: Option<Box<Waiting>>,
}

/// A wait. Users who share a connection may wait at once. Those that are over are kept, as many as
/// there were at once, so that a wait allocates nothing.
#[derive(Default)]
pub(crate) struct Waiting {
    waker: Option<Waker>,
    /// Empty unless somebody is first.
    others: Vec<Waker>,
    deadline: Option<Tick>,
    /// The deadline passed while somebody waited, who has not looked yet.
    late: bool,
}

impl Side {
    /// Whether nobody waits, and nothing is late at any moment.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.waiting.is_none()
    }

    /// A new operation: what an earlier one waited for means nothing to it.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.deadline = None;
            waiting.late = false;
        }
    }

    fn make(&mut self, deferred: &mut Deferred) -> &mut Waiting {
        let spare = || deferred.spare.pop().unwrap_or_default();
        self.waiting.get_or_insert_with(spare)
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.waiting.as_ref()?.deadline
    }

    /// What is under way is late at `deadline`, whoever waits.
    pub(crate) fn set_deadline(&mut self, deadline: Tick, deferred: &mut Deferred) {
        self.make(deferred).deadline = Some(deadline);
    }

    /// The wait is late at the moment that `deadline` gives, unless it had one already. Whether it is
    /// late now.
    pub(crate) fn wait_until(
        &mut self,
        deadline: impl FnOnce() -> Tick,
        deferred: &mut Deferred,
    ) -> bool {
        let waiting = self.make(deferred);
        waiting.deadline.get_or_insert_with(deadline);
        waiting.late
    }

    /// Ends the wait if its deadline has passed.
    pub(crate) fn expire(&mut self, now: Tick, wakers: &mut VecDeque<Waker>) -> bool {
        let Some(waiting) = &mut self.waiting else {
            return false;
        };
        if waiting.deadline.is_none_or(|deadline| deadline > now) {
            return false;
        }
        waiting.deadline = None;
        waiting.late = waiting.waker.is_some();
        self.wake(wakers);
        true
    }

    /// Who waits.
    #[cfg(feature = "sim")]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Waker> {
        let waiting = self.waiting.iter();
        waiting.flat_map(|waiting| waiting.waker.iter().chain(&waiting.others))
    }

    pub(crate) fn wake(&mut self, wakers: &mut VecDeque<Waker>) {
        if let Some(waiting) = &mut self.waiting
            && let Some(first) = waiting.waker.take()
        {
            wakers.push_back(first);
            if !waiting.others.is_empty() {
                wakers.extend(waiting.others.drain(..));
            }
        }
    }

    /// What the calling task waited for has come. Others who wait look again.
    #[inline]
    pub(crate) fn done(&mut self, cx: &Context<'_>, deferred: &mut Deferred) {
        if let Some(waiting) = self.waiting.take() {
            waiting.done(cx, deferred);
        }
    }

    /// Nobody waits any more.
    #[inline]
    pub(crate) fn abandon(&mut self, deferred: &mut Deferred) {
        if let Some(waiting) = self.waiting.take() {
            waiting.abandon(deferred);
        }
    }

    /// Makes the calling task one that waits, or, unless the connection is shared, the one.
    pub(crate) fn wait(&mut self, cx: &Context<'_>, shared: bool, deferred: &mut Deferred) {
        let known = |waker: &Waker| waker.will_wake(cx.waker());
        let waiting = self.make(deferred);
        if shared && waiting.waker.as_ref().is_some_and(|waker| !known(waker)) {
            if !waiting.others.iter().any(known) {
                waiting.others.push(cx.waker().clone());
            }
            return;
        }
        keep_waker(&mut waiting.waker, cx, &mut deferred.stale);
    }
}

impl Waiting {
    fn done(mut self: Box<Self>, cx: &Context<'_>, deferred: &mut Deferred) {
        if let Some(first) = self.waker.take() {
            for waker in std::iter::once(first).chain(self.others.drain(..)) {
                match waker.will_wake(cx.waker()) {
                    true => deferred.stale.push_back(waker),
                    false => deferred.wakers.push_back(waker),
                }
            }
        }
        deferred.keep(self);
    }

    // Most connections are given back without a wait, and get this called for nothing.
    #[inline(never)]
    fn abandon(mut self: Box<Self>, deferred: &mut Deferred) {
        deferred.stale.extend(self.waker.take());
        deferred.stale.extend(self.others.drain(..));
        deferred.keep(self);
    }
}

impl Deferred {
    /// Nobody waits with it any more.
    fn keep(&mut self, mut waiting: Box<Waiting>) {
        waiting.deadline = None;
        waiting.late = false;
        if waiting.others.capacity() > FEW {
            // Not each of them has room for the most that ever waited for one connection.
            waiting.others = Vec::new();
        }
        self.spare.push(waiting);
    }
}

impl ConnCell {
    pub(crate) fn new(conn: ConnKey, endpoint: EndpointKey, address: SocketAddr) -> Self {
        Self {
            conn,
            endpoint,
            address,
            state: None,
            is_packed: false,
            was_ready: false,
            shared: false,
            checkout: 0,
            holders: 0,
            task: None,
            stage: Stage::Dialing,
            read: Side::default(),
            write: Side::default(),
            front: Front::default(),
            cut: Cut::No,
            torn: false,
            end: None,
            failure: None,
            life: Weak::new(),
            timed: Tick::NEVER,
        }
    }

    /// One that another core had until now.
    pub(crate) fn received(conn: ConnKey, endpoint: EndpointKey, address: SocketAddr) -> Self {
        Self {
            was_ready: true,
            stage: Stage::Ready,
            ..Self::new(conn, endpoint, address)
        }
    }

    /// One more user has it.
    #[inline]
    pub(crate) fn hold(&mut self) {
        self.holders += 1;
        self.checkout = self.checkout.wrapping_add(1);
    }

    /// What the user who has it now needs to know of it.
    #[inline]
    pub(crate) fn checkout(&self) -> Checkout {
        Checkout {
            at: self.current_use(),
            state: self.state.clone(),
            shared: self.shared,
        }
    }

    /// One user fewer. When the last one has left, what they waited for means nothing any more.
    #[inline]
    pub(crate) fn let_go(&mut self, deferred: &mut Deferred) {
        self.holders = self.holders.saturating_sub(1);
        self.checkout = self.checkout.wrapping_add(1);
        if self.holders == 0 && !self.shared {
            self.read.abandon(deferred);
            self.write.abandon(deferred);
        }
    }

    /// Its only user has left, and waited for nothing.
    #[inline]
    pub(crate) fn let_go_unwaited(&mut self) {
        self.holders = 0;
        self.checkout = self.checkout.wrapping_add(1);
        debug_assert!(self.read.is_free() && self.write.is_free());
    }

    /// The right of the user who has it now.
    #[inline]
    pub(crate) fn current_use(&self) -> Use {
        Use {
            conn: self.conn,
            checkout: (!self.shared).then_some(self.checkout),
        }
    }

    /// The right of the only user there may be.
    #[inline]
    pub(crate) fn sole_use(&self) -> Use {
        Use {
            conn: self.conn,
            checkout: Some(self.checkout),
        }
    }

    fn allows(&self, at: Use) -> bool {
        self.conn == at.conn && at.checkout.is_none_or(|checkout| checkout == self.checkout)
    }

    /// Whether nobody uses it, so that bytes that come are nobody's answer.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Looked(_)) && self.holders == 0
    }

    /// Whether its protocol's state reads for itself, while nobody holds it too.
    pub(crate) fn reads_for_itself(&self) -> bool {
        self.shared && self.life.strong_count() > 0
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing(_))
    }

    /// The earliest moment at which something of this connection is late.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let stage = match self.stage {
            Stage::Initialising(at) | Stage::Checking(at) | Stage::Looked(at) => Some(at),
            _ => None,
        };
        [stage, self.read.deadline(), self.write.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Keeps the waker of `cx` in `place`; the one that was there is dropped later.
pub(crate) fn keep_waker(place: &mut Option<Waker>, cx: &Context<'_>, stale: &mut VecDeque<Waker>) {
    let is_known = |waker: &Waker| waker.will_wake(cx.waker());
    if !place.as_ref().is_some_and(is_known)
        && let Some(old) = place.replace(cx.waker().clone())
    {
        stale.push_back(old);
    }
}

/// The cells of all connections, by slot.
#[derive(Default)]
pub(crate) struct Cells {
    cells: Vec<Option<Box<ConnCell>>>,
}

impl Cells {
    #[inline]
    pub(crate) fn get(&self, conn: ConnKey) -> Option<&ConnCell> {
        let cell = self.cells.get(conn.0.index() as usize)?.as_deref()?;
        (cell.conn == conn).then_some(cell)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, conn: ConnKey) -> Option<&mut ConnCell> {
        let cell = self
            .cells
            .get_mut(conn.0.index() as usize)?
            .as_deref_mut()?;
        (cell.conn == conn).then_some(cell)
    }

    /// The cell, if the right to use it still stands.
    #[inline]
    pub(crate) fn usable(&mut self, at: Use) -> Option<&mut ConnCell> {
        self.get_mut(at.conn).filter(|cell| cell.allows(at))
    }

    /// Puts a new cell in its slot and hands out what was there, which is nothing unless the slot
    /// was reused before it was free.
    pub(crate) fn insert(&mut self, cell: ConnCell) -> Option<Box<ConnCell>> {
        let index = cell.conn.0.index() as usize;
        if index >= self.cells.len() {
            if index >= self.cells.capacity() {
                self.cells.reserve_exact(growth(index));
            }
            self.cells.resize_with(index + 1, || None);
        }
        self.cells[index].replace(Box::new(cell))
    }

    pub(crate) fn remove(&mut self, conn: ConnKey) -> Option<Box<ConnCell>> {
        self.get(conn)?;
        self.cells[conn.0.index() as usize].take()
    }

    /// Every cell there is.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConnCell> {
        self.cells.iter().filter_map(|cell| cell.as_deref())
    }

    /// Every connection there is.
    pub(crate) fn keys(&self) -> Vec<ConnKey> {
        self.cells.iter().flatten().map(|cell| cell.conn).collect()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ConnCell> {
        self.cells.iter_mut().filter_map(|cell| cell.as_deref_mut())
    }
}
