//! The kernel's side of one ring: chains of requests start, wait, end and are cancelled, and their
//! completions go to a queue of bounded size.
//!
//! Promise: what io_uring promises, no more: each request ends with exactly one final completion;
//! a chain stops at the first failure unless its link is hard; a cancel and its target may report
//! in any order; a closed slot's socket lives until the last operation on it has ended. Whether
//! that agrees with the real kernel is checked by running the same operations on both
//! (`ring/tests/conformance/`).

mod cancel;
mod chain;
mod message;
mod socket;
mod transfer;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use self::chain::InFlight;
pub(super) use self::socket::Socket;
use super::schedule::Event;
use super::{Core, Fault, Machine, Sleep, State, WeakMachine};
use crate::ring::Watch;
use crate::ring::kernel::Cqe;
use crate::ring::kernel::played::{self, Buffers, Link, Request};
use crate::time::Tick;

/// How long a thread runs on at most before the kernel posts what it holds back for it: until it
/// sleeps, or until the next interrupt of the timer.
const TICK: Duration = Duration::from_millis(4);
/// What a wait takes that does not last.
const WAKES: Duration = Duration::from_micros(20);

/// A ring as the kernel sees it.
pub(super) struct RingState {
    pub(super) core: Core,
    /// Which socket is in which slot of the descriptor table.
    slots: Vec<Option<u64>>,
    ops: BTreeMap<u64, InFlight>,
    completions: VecDeque<Cqe>,
    /// Places in the completion queue.
    room: usize,
    aside: VecDeque<Cqe>,
    /// What came while the thread ran, and is posted when it enters.
    held: VecDeque<Cqe>,
    /// The thread is in the kernel.
    entered: bool,
    buffers: Option<Buffers>,
    watcher: Option<Waker>,
    /// How far this ring's own waiting went beyond the machine's time.
    ahead: Duration,
    dead: bool,
    /// A final completion of a socket that is gone, to come again.
    stale: Option<Cqe>,
}

/// The kernel for one ring.
pub(crate) struct RingKernel {
    machine: WeakMachine,
    ring: usize,
    gone: Cell<bool>,
}

impl Machine {
    /// A kernel for a ring of `core` with `slots` descriptors and `room` places for completions.
    pub(crate) fn kernel(&self, core: Core, slots: usize, room: usize) -> Rc<RingKernel> {
        let ring = self.with(|state| {
            let ring = state.rings_made;
            state.rings_made += 1;
            let made = RingState {
                core,
                slots: vec![None; slots],
                ops: BTreeMap::new(),
                completions: VecDeque::new(),
                room: room.max(1),
                aside: VecDeque::new(),
                held: VecDeque::new(),
                entered: false,
                buffers: None,
                watcher: None,
                ahead: Duration::ZERO,
                dead: false,
                stale: None,
            };
            state.rings.insert(ring, made);
            ring
        });
        Rc::new(RingKernel {
            machine: self.downgrade(),
            ring,
            gone: Cell::new(false),
        })
    }

    /// How many sockets exist on `core`, those that only an operation keeps included.
    pub(crate) fn sockets(&self, core: Core) -> usize {
        self.with(|state| {
            let rings = state.rings.iter().filter(|(_, ring)| ring.core == core);
            let rings: Vec<usize> = rings.map(|(at, _)| *at).collect();
            let on = |socket: &&Socket| rings.iter().any(|ring| socket.is_on(*ring));
            state.sockets.values().filter(on).count()
        })
    }

    /// How many sockets of all cores were connected, or are being connected, to one of `addresses`.
    pub(crate) fn sockets_to(&self, addresses: &[SocketAddr]) -> usize {
        self.with(|state| {
            let sockets = state.sockets.values().filter(|socket| !socket.is_cut);
            let to = sockets.filter_map(|socket| socket.to);
            to.filter(|to| addresses.contains(to)).count()
        })
    }

    /// The rings of `core` lose a completion: from the next enter on they answer EBADR.
    pub(crate) fn break_ring(&self, core: Core) {
        self.with(|state| {
            let rings = state.rings.values_mut();
            for ring in rings.filter(|ring| ring.core == core && !ring.dead) {
                ring.dead = true;
                state.faults.count(Fault::RingDies);
            }
        });
    }

    /// How many operations the kernel of `core` has.
    pub(crate) fn operations(&self, core: Core) -> usize {
        self.with(|state| {
            let rings = state.rings.values().filter(|ring| ring.core == core);
            rings.map(|ring| ring.ops.len()).sum()
        })
    }
}

impl RingKernel {
    fn with<R>(&self, work: impl FnOnce(&mut State, usize) -> R) -> Option<R> {
        let machine = self.machine.upgrade()?;
        Some(machine.with(|state| work(state, self.ring)))
    }

    fn ring<R>(&self, work: impl FnOnce(&mut RingState) -> R) -> Option<R> {
        self.with(|state, ring| state.rings.get_mut(&ring).map(work))
            .flatten()
    }
}

impl played::Machine for RingKernel {
    fn register(&self, buffers: Buffers) {
        self.ring(|ring| ring.buffers = Some(buffers));
    }

    fn enter(
        &self,
        queue: &mut VecDeque<Request>,
        min: u32,
        timeout: Option<Duration>,
    ) -> Result<usize, i32> {
        self.with(|state, ring| state.enter(ring, queue, min, timeout))
            .unwrap_or(Err(libc::ENXIO))
    }

    fn full(&self) {
        self.with(|state, _| state.faults.count(Fault::QueueFull));
    }

    fn completions(&self) -> usize {
        self.ring(|ring| ring.completions.len()).unwrap_or(0)
    }

    fn overflowed(&self) -> bool {
        self.ring(|ring| !ring.aside.is_empty()).unwrap_or(false)
    }

    fn take(&self) -> Option<Cqe> {
        self.ring(|ring| ring.completions.pop_front()).flatten()
    }

    fn holds_back(&self) -> bool {
        self.ring(|ring| !ring.held.is_empty()).unwrap_or(false)
    }

    fn unregister(&self) {
        self.with(|state, at| {
            state.check_buffers(at);
            let ring = state.rings.get_mut(&at);
            let left = ring.map_or(0, |ring| {
                ring.buffers = None;
                ring.ops.len()
            });
            if left > 0 {
                state.violate(format!(
                    "I5: the receive buffers were taken back with {left} operations in flight"
                ));
            }
        });
    }

    fn now(&self) -> Tick {
        let now = self.with(|state, ring| {
            let ahead = state.rings.get(&ring).map(|ring| ring.ahead);
            state.now.plus(ahead.unwrap_or_default())
        });
        now.unwrap_or(Tick::NEVER)
    }

    fn pause(&self, time: Duration) {
        self.ring(|ring| ring.ahead += time);
    }

    fn number(&self) -> i32 {
        i32::try_from(self.ring).unwrap_or(-1)
    }

    fn gone(&self) {
        if !self.gone.replace(true) {
            self.with(State::ring_gone);
        }
    }
}

impl State {
    fn ring(&mut self, ring: usize) -> Option<&mut RingState> {
        self.rings.get_mut(&ring)
    }

    /// io_uring_enter(2).
    fn enter(
        &mut self,
        at: usize,
        queue: &mut VecDeque<Request>,
        min: u32,
        timeout: Option<Duration>,
    ) -> Result<usize, i32> {
        if self.ring(at).is_none_or(|ring| ring.dead) {
            return Err(libc::EBADR);
        }
        self.let_go(at);
        if let Some(errno) = self.refusal(at) {
            self.trace
                .note(self.now, || format!("ring {at} refuses: {errno}"));
            return Err(errno);
        }
        self.set_entered(at, true);
        let answer = self.work_off(at, queue, min, timeout);
        self.set_entered(at, false);
        answer
    }

    fn set_entered(&mut self, at: usize, entered: bool) {
        if let Some(ring) = self.ring(at) {
            ring.entered = entered;
        }
    }

    /// What an enter does that is not refused.
    fn work_off(
        &mut self,
        at: usize,
        queue: &mut VecDeque<Request>,
        min: u32,
        timeout: Option<Duration>,
    ) -> Result<usize, i32> {
        let part = self.hit(Fault::TakesPart);
        let mut taken = 0;
        while let Some(chain) = next_chain(queue) {
            taken += chain.len();
            self.start(at, chain);
            if part {
                break;
            }
        }
        self.bring_back(at);
        self.check_buffers(at);
        // Who takes only a part does not wait (io_uring_enter(2)).
        if min > 0 && queue.is_empty() {
            self.wait(at, min as usize, timeout)?;
        }
        Ok(taken)
    }

    /// Why an enter takes nothing this time, if so.
    fn refusal(&mut self, at: usize) -> Option<i32> {
        if self.hit(Fault::RingDies) {
            self.ring(at)?.dead = true;
            return Some(libc::EBADR);
        }
        if self.hit(Fault::EnterAgain) {
            return Some(libc::EAGAIN);
        }
        if self.hit(Fault::EnterBusy) {
            let errors = [libc::EBUSY, libc::EINTR];
            return Some(errors[self.rng.below(2) as usize]);
        }
        None
    }

    /// Lets the ring's own operations end, as they do while its thread waits.
    fn wait(&mut self, at: usize, min: usize, timeout: Option<Duration>) -> Result<(), i32> {
        self.hurry(at);
        self.bring_back(at);
        let Some(ring) = self.ring(at) else {
            return Err(libc::ENXIO);
        };
        if ring.completions.len() >= min {
            // Who asks again and again must see its deadline come.
            ring.ahead += WAKES;
            return Ok(());
        }
        ring.ahead += timeout.unwrap_or_default();
        Err(libc::ETIME)
    }

    /// A completion is posted, or held back until the ring is entered or its thread interrupted.
    pub(super) fn post(&mut self, at: usize, cqe: Cqe) {
        let Some(ring) = self.rings.get(&at) else {
            return;
        };
        let (entered, holds) = (ring.entered, !ring.held.is_empty());
        if entered || !(holds || self.hit(Fault::HeldBack)) {
            return self.place(at, cqe);
        }
        if !holds {
            let until = self.now.plus(self.rng.part_of(TICK));
            self.events.plan(until, Event::Interrupt { ring: at });
        }
        if let Some(ring) = self.ring(at) {
            ring.held.push_back(cqe);
        }
    }

    /// Posts what was held back.
    pub(in crate::machine) fn let_go(&mut self, at: usize) {
        while let Some(cqe) = self.ring(at).and_then(|ring| ring.held.pop_front()) {
            self.place(at, cqe);
        }
    }

    /// A completion goes to the queue.
    fn place(&mut self, at: usize, cqe: Cqe) {
        self.trace.note(self.now, || {
            let Cqe {
                user_data,
                res,
                flags,
            } = cqe;
            format!("ring {at} completes {user_data:#x}: {res} flags {flags:#x}")
        });
        let Some(ring) = self.rings.get_mut(&at) else {
            return;
        };
        if ring.aside.is_empty() && ring.completions.len() < ring.room {
            ring.completions.push_back(cqe);
        } else {
            self.faults.count(Fault::Overflow);
            ring.aside.push_back(cqe);
        }
        if let Some(watcher) = &ring.watcher {
            watcher.wake_by_ref();
        }
    }

    /// Whether another completion would overflow the queue.
    fn is_crowded(&self, at: usize) -> bool {
        let ring = self.rings.get(&at);
        ring.is_some_and(|ring| !ring.aside.is_empty() || ring.completions.len() >= ring.room)
    }

    /// Moves what was kept aside into the queue, as far as there is room.
    fn bring_back(&mut self, at: usize) {
        let Some(ring) = self.rings.get_mut(&at) else {
            return;
        };
        while ring.completions.len() < ring.room
            && let Some(cqe) = ring.aside.pop_front()
        {
            ring.completions.push_back(cqe);
        }
    }

    fn check_buffers(&mut self, at: usize) {
        let Some(buffers) = self.ring(at).and_then(|ring| ring.buffers.as_mut()) else {
            return;
        };
        let _looked = buffers.len();
        if let Some(id) = buffers.given_twice() {
            self.violate(format!("I5: receive buffer {id} was given back twice"));
        }
    }

    /// The ring's descriptor is closed: the kernel ends what is in flight, unheard.
    fn ring_gone(&mut self, at: usize) {
        let Some(ring) = self.rings.get_mut(&at) else {
            return;
        };
        let (left, dead) = (ring.ops.len(), ring.dead);
        if left > 0 && !dead {
            self.violate(format!("I5: a ring ended with {left} operations in flight"));
        }
        self.drop_ring(at);
    }
}

/// Takes the first chain off the queue.
fn next_chain(queue: &mut VecDeque<Request>) -> Option<VecDeque<Request>> {
    let end = queue.iter().position(|it| it.link == Link::None);
    let count = end.map_or(queue.len(), |end| end + 1);
    (count > 0).then(|| queue.drain(..count).collect())
}

/// Where the driver of a ring sleeps: the kernel rings when there are completions.
pub(crate) struct Bell {
    machine: Machine,
    ring: usize,
    sleep: Sleep,
}

impl RingKernel {
    pub(crate) fn bell(&self, machine: &Machine) -> Bell {
        Bell {
            machine: machine.clone(),
            ring: self.ring,
            sleep: machine.sleep_until(Tick::NEVER),
        }
    }
}

impl Watch for Bell {
    fn clear(&mut self, cx: &mut Context<'_>) -> bool {
        self.machine.with(|state| {
            if let Some(ring) = state.ring(self.ring) {
                let known = ring.watcher.as_ref();
                if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
                    ring.watcher = Some(cx.waker().clone());
                }
            }
        });
        // Completions can be seen in the queue.
        false
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, at: Tick) -> bool {
        self.sleep.reset(at);
        matches!(
            std::future::Future::poll(std::pin::Pin::new(&mut self.sleep), cx),
            Poll::Ready(())
        )
    }

    fn now(&self) -> Tick {
        self.machine.now()
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let watcher = self
            .machine
            .with(|state| state.ring(self.ring).and_then(|ring| ring.watcher.take()));
        drop(watcher);
    }
}
