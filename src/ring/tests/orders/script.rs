//! A kernel that does nothing by itself: it holds every completion until it is told to post it, and
//! what it does between two states is one of the [`Choices`].
//!
//! Promise: what Linux may do, and more of it: an operation may end as late as it likes, a cancel
//! may stop its target, miss it once, or answer that it comes too late; a linked request starts
//! when the one before it has completed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::choices::Choices;
use crate::ring::kernel::played::{Buffers, Cqe, Link, Machine, Op, Request, Target};
use crate::time::Tick;

const BUFFER: u32 = 1 << 0;
const MORE: u32 = 1 << 1;

/// What operations may do in a test.
#[derive(Debug, Clone, Copy)]
pub(super) struct May {
    /// Results of a socket.
    pub(super) socket: &'static [i32],
    /// Results of an option.
    pub(super) option: &'static [i32],
    /// Results of a bind.
    pub(super) bind: &'static [i32],
    /// Results of a connect and of its limit; if it has none, only the first count.
    pub(super) connect: &'static [(i32, i32)],
    /// Final results of a receive.
    pub(super) recv: &'static [i32],
    /// Pieces that come before, of all receives together.
    pub(super) pieces: usize,
    /// Results of a send.
    pub(super) send: &'static [i32],
    /// Results of a message with a descriptor.
    pub(super) give: &'static [i32],
}

/// An operation that waits for the world.
struct Doing {
    request: Request,
    limit: Option<u64>,
    rest: VecDeque<Request>,
    /// A cancel has missed it, or come too late.
    missed: bool,
    late: bool,
}

/// A completion that is decided and not posted.
struct Due {
    cqe: Cqe,
    /// What is linked behind it, and how.
    rest: VecDeque<Request>,
    link: Link,
    /// A cancel came too late for it.
    sought: bool,
}

#[derive(Default)]
struct State {
    doing: Vec<Doing>,
    due: Vec<Due>,
    posted: VecDeque<Cqe>,
    buffers: Option<Buffers>,
    /// Whether the slot holds a socket, and whether that is one of datagrams.
    slots: Vec<Option<bool>>,
    /// Pieces that have not come.
    pieces: usize,
}

/// Something that the kernel can do next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Post(usize),
    /// The operation ends with the result of this number; of a connect with a limit, the second
    /// half of the numbers post the limit first.
    End(usize, usize),
    Piece(usize),
    /// A connection comes into slot 0 from another ring.
    Arrive,
}

pub(super) struct Script {
    state: RefCell<State>,
    choices: Rc<Choices>,
    may: May,
    /// Whether all that can end well does so at once.
    pub(super) smooth: Cell<bool>,
    /// Whether a connection is on its way to slot 0.
    pub(super) arriving: Cell<bool>,
    /// How many binds it was asked for.
    pub(super) binds: Cell<usize>,
}

impl Script {
    pub(super) fn new(choices: &Rc<Choices>, may: May) -> Rc<Self> {
        let state = State {
            slots: vec![None; 2],
            pieces: may.pieces,
            ..State::default()
        };
        Rc::new(Self {
            state: RefCell::new(state),
            choices: Rc::clone(choices),
            may,
            smooth: Cell::new(false),
            arriving: Cell::new(false),
            binds: Cell::new(0),
        })
    }

    /// Everything that can happen now.
    pub(super) fn acts(&self) -> Vec<Act> {
        let state = self.state.borrow();
        let mut acts: Vec<Act> = (0..state.due.len()).map(Act::Post).collect();
        for (at, doing) in state.doing.iter().enumerate() {
            let ends = match doing.request.op {
                Op::Connect { .. } if doing.limit.is_some() => 2 * self.connect_ends(doing).len(),
                _ => self.ends(doing).len(),
            };
            acts.extend((0..ends).map(|end| Act::End(at, end)));
            if state.pieces > 0 && matches!(doing.request.op, Op::Recv { .. }) {
                acts.push(Act::Piece(at));
            }
        }
        if self.arriving.get() {
            acts.push(Act::Arrive);
        }
        acts
    }

    fn ends(&self, doing: &Doing) -> Vec<i32> {
        let mut ends = match doing.request.op {
            Op::Recv { .. } => self.may.recv.to_vec(),
            Op::Send { .. } => self.may.send.to_vec(),
            Op::Connect { .. } => self.may.connect.iter().map(|(own, _)| *own).collect(),
            _ => Vec::new(),
        };
        if doing.late {
            ends.extend([-libc::ECANCELED, -libc::EINTR]);
        }
        ends
    }

    fn connect_ends(&self, doing: &Doing) -> Vec<(i32, i32)> {
        let mut ends = self.may.connect.to_vec();
        if doing.late {
            ends.push((-libc::ECANCELED, -libc::ECANCELED));
        }
        ends
    }

    pub(super) fn act(&self, act: Act) {
        match act {
            Act::Post(at) => {
                let due = self.state.borrow_mut().due.remove(at);
                self.complete(due.cqe, due.rest, due.link, due.cqe.res < 0);
            }
            Act::End(at, end) => self.end(at, end),
            Act::Piece(at) => self.piece(at),
            Act::Arrive => {
                self.arriving.set(false);
                self.state.borrow_mut().slots[0] = Some(false);
            }
        }
    }

    fn end(&self, at: usize, end: usize) {
        let doing = self.state.borrow_mut().doing.remove(at);
        let user_data = doing.request.user_data;
        let Some(limit) = doing.limit else {
            let res = self.ends(&doing)[end];
            let broken = res < 0 || is_short(&doing.request, res);
            return self.complete(last(user_data, res), doing.rest, doing.request.link, broken);
        };
        let (own, over) = self.connect_ends(&doing)[end / 2];
        let (own, over) = (last(user_data, own), last(limit, over));
        let (first, second) = if end.is_multiple_of(2) {
            (own, over)
        } else {
            (over, own)
        };
        let mut state = self.state.borrow_mut();
        state.posted.push_back(first);
        state.due.push(alone(second));
    }

    fn piece(&self, at: usize) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.pieces -= 1;
        let user_data = state.doing[at].request.user_data;
        let filled = state.buffers.as_mut().and_then(|it| it.fill(b"piece"));
        let Some((id, len)) = filled else {
            state.doing.remove(at);
            state.posted.push_back(last(user_data, -libc::ENOBUFS));
            return;
        };
        state.posted.push_back(Cqe {
            user_data,
            res: len as i32,
            flags: BUFFER | MORE | (u32::from(id) << 16),
        });
    }

    /// Posts a final completion and goes on with what is linked behind it, unless that is `broken`.
    fn complete(&self, cqe: Cqe, rest: VecDeque<Request>, link: Link, broken: bool) {
        self.state.borrow_mut().posted.push_back(cqe);
        if broken && link == Link::Soft {
            let cancelled = rest.iter().map(|it| last(it.user_data, -libc::ECANCELED));
            self.state.borrow_mut().posted.extend(cancelled);
        } else {
            self.start(rest);
        }
    }

    fn start(&self, mut chain: VecDeque<Request>) {
        let Some(request) = chain.pop_front() else {
            return;
        };
        let result = match request.op {
            Op::Socket { slot, datagram } => {
                let res = self.may.socket[self.pick(self.may.socket.len())];
                if res == 0 {
                    self.state.borrow_mut().slots[slot as usize] = Some(datagram);
                }
                Some(res)
            }
            Op::Option { slot, .. } if self.in_slot(slot).is_some() => {
                Some(self.may.option[self.pick(self.may.option.len())])
            }
            Op::Bind { slot, .. } if self.in_slot(slot).is_some() => {
                self.binds.set(self.binds.get() + 1);
                Some(self.may.bind[self.pick(self.may.bind.len())])
            }
            Op::Give { slot, .. } if self.in_slot(slot).is_some() => {
                let state = self.state.borrow();
                let rests = state.doing.is_empty() && state.due.is_empty();
                assert!(rests, "it moves with operations in flight");
                drop(state);
                Some(self.may.give[self.pick(self.may.give.len())])
            }
            Op::Option { .. } | Op::Bind { .. } | Op::Give { .. } => Some(-libc::EBADF),
            Op::Close { slot } => {
                let open = self.state.borrow_mut().slots[slot as usize].take();
                Some(open.map_or(-libc::EBADF, |_| 0))
            }
            Op::Cancel(target) => Some(self.cancel(target)),
            Op::Connect { slot, .. } | Op::Recv { slot, .. } | Op::Send { slot, .. } => {
                match (self.in_slot(slot), &request.op) {
                    (None, _) => Some(-libc::EBADF),
                    // Of datagrams: nothing to wait for.
                    (Some(true), Op::Connect { .. }) => Some(0),
                    (Some(true), Op::Send { bytes, .. }) => Some(bytes.len() as i32),
                    _ => None,
                }
            }
            _ => Some(0),
        };
        let link = request.link;
        match result {
            Some(res) => self.decide(last(request.user_data, res), chain, link),
            None => self.wait(request, chain),
        }
    }

    fn in_slot(&self, slot: u32) -> Option<bool> {
        self.state.borrow().slots[slot as usize]
    }

    fn pick(&self, count: usize) -> usize {
        if self.smooth.get() {
            0
        } else {
            self.choices.pick(count)
        }
    }

    fn decide(&self, cqe: Cqe, rest: VecDeque<Request>, link: Link) {
        if self.smooth.get() {
            return self.complete(cqe, rest, link, cqe.res < 0);
        }
        self.state.borrow_mut().due.push(Due {
            cqe,
            rest,
            link,
            sought: false,
        });
    }

    fn wait(&self, request: Request, mut rest: VecDeque<Request>) {
        let limited = matches!(rest.front().map(|it| &it.op), Some(Op::Limit(_)));
        let limit = rest.pop_front_if(|_| limited).map(|it| it.user_data);
        if let (true, Some(limit)) = (self.smooth.get(), limit) {
            let mut state = self.state.borrow_mut();
            state.posted.push_back(last(request.user_data, 0));
            state.posted.push_back(last(limit, -libc::ECANCELED));
            return;
        }
        self.state.borrow_mut().doing.push(Doing {
            request,
            limit,
            rest,
            missed: false,
            late: false,
        });
    }

    /// What a cancel answers. Its targets end when their completions are posted.
    fn cancel(&self, target: Target) -> i32 {
        let (mut at, mut stopped, mut found, mut answer) = (0, 0, false, 0);
        while at < self.state.borrow().doing.len() {
            let (meant, answers) = {
                let doing = &self.state.borrow().doing[at];
                // Once too late, it is stopped; once missed, it may still be too late.
                let answers: &[usize] = match (doing.late, doing.missed) {
                    (true, _) => &[0],
                    (false, true) => &[0, 2],
                    (false, false) => &[0, 1, 2],
                };
                (is_meant(&doing.request, target), answers)
            };
            at += 1;
            if !meant {
                continue;
            }
            found = true;
            match answers[self.pick(answers.len())] {
                0 => {
                    at -= 1;
                    stopped += 1;
                    self.stop(at);
                }
                1 => {
                    self.state.borrow_mut().doing[at - 1].missed = true;
                    answer = -libc::ENOENT;
                }
                _ => {
                    self.state.borrow_mut().doing[at - 1].late = true;
                    answer = -libc::EALREADY;
                }
            }
        }
        match target {
            Target::Operation(user_data) if !found => {
                self.seek(user_data);
                -libc::ENOENT
            }
            Target::Operation(_) => answer,
            _ => stopped,
        }
    }

    /// A cancel seeks what has ended and is not posted, or is linked behind such. The kernel posts it
    /// before it takes more entries: the second cancel in vain is the last.
    fn seek(&self, user_data: u64) {
        let mut state = self.state.borrow_mut();
        let meant = |due: &Due| {
            let behind = due.rest.iter().any(|it| it.user_data == user_data);
            due.cqe.user_data == user_data || behind
        };
        let Some(at) = state.due.iter().position(meant) else {
            return;
        };
        if std::mem::replace(&mut state.due[at].sought, true) {
            drop(state);
            self.act(Act::Post(at));
        }
    }

    fn stop(&self, at: usize) {
        let mut state = self.state.borrow_mut();
        let doing = state.doing.remove(at);
        let cqe = last(doing.request.user_data, -libc::ECANCELED);
        state.due.push(Due {
            cqe,
            rest: doing.rest,
            link: doing.request.link,
            sought: false,
        });
        let limit = doing.limit.map(|limit| last(limit, -libc::ECANCELED));
        state.due.extend(limit.map(alone));
    }

    /// Whether it has nothing left: no operation, no completion, no socket.
    pub(super) fn is_free(&self) -> bool {
        let state = self.state.borrow();
        state.doing.is_empty()
            && state.due.is_empty()
            && state.posted.is_empty()
            && state.slots.iter().all(Option::is_none)
    }

    /// Ends everything, as a kernel does in its own time.
    fn finish(&self) {
        self.smooth.set(true);
        while !self.state.borrow().doing.is_empty() {
            self.stop(0);
        }
        while let Some(act) = self.acts().first().copied() {
            self.act(act);
        }
    }
}

fn is_meant(request: &Request, target: Target) -> bool {
    let own = match request.op {
        Op::Connect { slot, .. } | Op::Recv { slot, .. } | Op::Send { slot, .. } => Some(slot),
        _ => None,
    };
    match target {
        Target::Operation(user_data) => request.user_data == user_data,
        Target::Slot(slot) => own == Some(slot),
        Target::Everything => true,
    }
}

/// Whether it was to send all of its bytes and has not.
fn is_short(request: &Request, res: i32) -> bool {
    matches!(&request.op, Op::Send { bytes, all: true, .. } if res < bytes.len() as i32)
}

fn last(user_data: u64, res: i32) -> Cqe {
    Cqe {
        user_data,
        res,
        flags: 0,
    }
}

fn alone(cqe: Cqe) -> Due {
    Due {
        cqe,
        rest: VecDeque::new(),
        link: Link::None,
        sought: false,
    }
}

impl Machine for Script {
    fn register(&self, buffers: Buffers) {
        self.state.borrow_mut().buffers = Some(buffers);
    }

    fn enter(
        &self,
        queue: &mut VecDeque<Request>,
        min: u32,
        _timeout: Option<Duration>,
    ) -> Result<usize, i32> {
        let taken = queue.len();
        while !queue.is_empty() {
            let end = queue.iter().position(|it| it.link == Link::None);
            let count = end.map_or(queue.len(), |end| end + 1);
            self.start(queue.drain(..count).collect());
        }
        if min > 0 {
            self.finish();
        }
        Ok(taken)
    }

    fn full(&self) {}

    fn completions(&self) -> usize {
        self.state.borrow().posted.len()
    }

    fn overflowed(&self) -> bool {
        false
    }

    fn take(&self) -> Option<Cqe> {
        self.state.borrow_mut().posted.pop_front()
    }

    fn holds_back(&self) -> bool {
        false
    }

    fn unregister(&self) {
        self.state.borrow_mut().buffers = None;
    }

    fn now(&self) -> Tick {
        Tick::ZERO
    }

    fn pause(&self, _time: Duration) {}

    fn number(&self) -> i32 {
        0
    }

    fn gone(&self) {}
}
