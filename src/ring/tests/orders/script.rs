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
    /// Results of a connect and of its limit.
    pub(super) connect: &'static [(i32, i32)],
    /// Final results of a receive.
    pub(super) recv: &'static [i32],
    /// Pieces that come before, of all receives together.
    pub(super) pieces: usize,
    /// Results of a send.
    pub(super) send: &'static [i32],
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
    /// Whether the slot holds a socket.
    slots: Vec<bool>,
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
}

pub(super) struct Script {
    state: RefCell<State>,
    choices: Rc<Choices>,
    may: May,
    /// Whether all that can end well does so at once.
    pub(super) smooth: Cell<bool>,
}

impl Script {
    pub(super) fn new(choices: &Rc<Choices>, may: May) -> Rc<Self> {
        let state = State {
            slots: vec![false; 2],
            pieces: may.pieces,
            ..State::default()
        };
        Rc::new(Self {
            state: RefCell::new(state),
            choices: Rc::clone(choices),
            may,
            smooth: Cell::new(false),
        })
    }

    /// Everything that can happen now.
    pub(super) fn acts(&self) -> Vec<Act> {
        let state = self.state.borrow();
        let mut acts: Vec<Act> = (0..state.due.len()).map(Act::Post).collect();
        for (at, doing) in state.doing.iter().enumerate() {
            let ends = match doing.request.op {
                Op::Connect { .. } => 2 * self.connect_ends(doing).len(),
                _ => self.ends(doing).len(),
            };
            acts.extend((0..ends).map(|end| Act::End(at, end)));
            if state.pieces > 0 && matches!(doing.request.op, Op::Recv { .. }) {
                acts.push(Act::Piece(at));
            }
        }
        acts
    }

    fn ends(&self, doing: &Doing) -> Vec<i32> {
        let mut ends = match doing.request.op {
            Op::Recv { .. } => self.may.recv.to_vec(),
            Op::Send { .. } => self.may.send.to_vec(),
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
                self.complete(due.cqe, due.rest, due.link);
            }
            Act::End(at, end) => self.end(at, end),
            Act::Piece(at) => self.piece(at),
        }
    }

    fn end(&self, at: usize, end: usize) {
        let doing = self.state.borrow_mut().doing.remove(at);
        let user_data = doing.request.user_data;
        let Some(limit) = doing.limit else {
            let res = self.ends(&doing)[end];
            return self.complete(last(user_data, res), doing.rest, doing.request.link);
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

    /// Posts a final completion and goes on with what is linked behind it.
    fn complete(&self, cqe: Cqe, rest: VecDeque<Request>, link: Link) {
        self.state.borrow_mut().posted.push_back(cqe);
        if cqe.res < 0 && link == Link::Soft {
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
            Op::Socket { slot, .. } => {
                let res = self.may.socket[self.pick(self.may.socket.len())];
                self.state.borrow_mut().slots[slot as usize] |= res == 0;
                Some(res)
            }
            Op::Option { slot, .. } if self.state.borrow().slots[slot as usize] => {
                Some(self.may.option[self.pick(self.may.option.len())])
            }
            Op::Option { .. } => Some(-libc::EBADF),
            Op::Close { slot } => {
                let open = std::mem::take(&mut self.state.borrow_mut().slots[slot as usize]);
                Some(if open { 0 } else { -libc::EBADF })
            }
            Op::Cancel(target) => Some(self.cancel(target)),
            Op::Connect { slot, .. } | Op::Recv { slot, .. } | Op::Send { slot, .. } => {
                let open = self.state.borrow().slots[slot as usize];
                let limited = matches!(chain.front().map(|it| &it.op), Some(Op::Limit(_)));
                match (open, &request.op) {
                    (false, _) => Some(-libc::EBADF),
                    // Of datagrams: nothing to wait for.
                    (true, Op::Connect { .. }) if !limited => Some(0),
                    (true, Op::Send { bytes, .. }) if !chain.is_empty() => Some(bytes.len() as i32),
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

    fn pick(&self, count: usize) -> usize {
        if self.smooth.get() {
            0
        } else {
            self.choices.pick(count)
        }
    }

    fn decide(&self, cqe: Cqe, rest: VecDeque<Request>, link: Link) {
        if self.smooth.get() {
            return self.complete(cqe, rest, link);
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
            let (meant, before) = {
                let doing = &self.state.borrow().doing[at];
                (is_meant(&doing.request, target), doing.missed || doing.late)
            };
            at += 1;
            if !meant {
                continue;
            }
            found = true;
            match self.pick(if before { 1 } else { 3 }) {
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
            && state.slots.iter().all(|open| !open)
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

    fn has_completions(&self) -> bool {
        !self.state.borrow().posted.is_empty()
    }

    fn overflowed(&self) -> bool {
        false
    }

    fn take(&self) -> Option<Cqe> {
        self.state.borrow_mut().posted.pop_front()
    }

    fn unregister(&self) {
        self.state.borrow_mut().buffers = None;
    }

    fn now(&self) -> Tick {
        Tick::ZERO
    }

    fn pause(&self, _time: Duration) {}

    fn gone(&self) {}
}
