//! What a server does on one connection, step by step, as a test wants it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::machine::net::{ClientEnd, Io, Peer};

/// What a server does on one connection: the steps of a test, in order.
///
/// After the last step the connection stays open and what comes is kept.
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Expect(Vec<u8>),
    Any(usize),
    Send(Vec<u8>),
    Wait(Duration),
    Until(Gate),
    Read(bool),
    End,
    Reset,
    Vanish,
}

impl Script {
    /// A server that accepts and does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Waits for exactly these bytes. Others are a mistake that the run reports.
    #[must_use]
    pub fn expect(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Step::Expect(bytes.into()))
    }

    /// Waits for `count` bytes, whatever they are.
    #[must_use]
    pub fn take(self, count: usize) -> Self {
        self.then(Step::Any(count))
    }

    /// Sends bytes.
    #[must_use]
    pub fn send(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Step::Send(bytes.into()))
    }

    /// Lets time pass.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Waits until the test opens the gate.
    #[must_use]
    pub fn until(self, gate: &Gate) -> Self {
        self.then(Step::Until(gate.clone()))
    }

    /// Reads no more, so that what the client sends piles up; with `true`, reads again.
    #[must_use]
    pub fn read(self, on: bool) -> Self {
        self.then(Step::Read(on))
    }

    /// Sends no more (FIN). The client's bytes are still read.
    #[must_use]
    pub fn end(self) -> Self {
        self.then(Step::End)
    }

    /// Resets the connection (RST).
    #[must_use]
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// From here on no packet arrives, in either direction.
    #[must_use]
    pub fn vanish(self) -> Self {
        self.then(Step::Vanish)
    }
}

/// Something that a script waits for and a test opens.
#[derive(Debug, Clone, Default)]
pub struct Gate(Rc<RefCell<bool>>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens it, for good.
    pub fn open(&self) {
        *self.0.borrow_mut() = true;
    }

    fn is_open(&self) -> bool {
        *self.0.borrow()
    }
}

/// What a server saw of one connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) received: Vec<u8>,
    pub(super) ended: bool,
    pub(super) reset: bool,
    pub(super) mistake: Option<String>,
}

/// How often a script that waits for a gate looks at it.
const LOOK: Duration = Duration::from_millis(1);

/// The server's side of one connection.
pub(super) struct Actor {
    steps: std::vec::IntoIter<Step>,
    current: Option<Step>,
    /// Received and not expected yet.
    waiting: Vec<u8>,
    seen: Rc<RefCell<Seen>>,
}

impl Actor {
    pub(super) fn new(script: Script, seen: Rc<RefCell<Seen>>) -> Self {
        let mut steps = script.steps.into_iter();
        Self {
            current: steps.next(),
            steps,
            waiting: Vec::new(),
            seen,
        }
    }

    /// Does steps until one must wait.
    fn go_on(&mut self, io: &mut Io<'_>) {
        while let Some(step) = self.current.take() {
            if let Some(step) = self.do_one(io, step) {
                self.current = Some(step);
                return;
            }
            self.current = self.steps.next();
        }
    }

    /// Does a step; gives it back if it must wait.
    fn do_one(&mut self, io: &mut Io<'_>, step: Step) -> Option<Step> {
        match step {
            Step::Expect(bytes) if self.waiting.len() < bytes.len() => {
                let so_far = bytes.starts_with(&self.waiting);
                if !so_far {
                    self.mistaken(io, &bytes);
                }
                return so_far.then_some(Step::Expect(bytes));
            }
            Step::Expect(bytes) => {
                if self.waiting.starts_with(&bytes) {
                    self.waiting.drain(..bytes.len());
                } else {
                    self.mistaken(io, &bytes);
                }
            }
            Step::Any(count) if self.waiting.len() < count => return Some(Step::Any(count)),
            Step::Any(count) => drop(self.waiting.drain(..count)),
            Step::Send(bytes) => io.send(bytes),
            Step::Wait(time) => {
                io.timer(time, 1);
                return Some(Step::Wait(Duration::ZERO));
            }
            Step::Until(gate) if gate.is_open() => {}
            Step::Until(gate) => {
                io.timer(LOOK, 0);
                return Some(Step::Until(gate));
            }
            Step::Read(on) => io.read(on),
            Step::End => io.end(),
            Step::Reset => io.reset(),
            Step::Vanish => io.vanish(),
        }
        None
    }

    fn mistaken(&mut self, io: &mut Io<'_>, wanted: &[u8]) {
        let (wanted, got) = (wanted.escape_ascii(), self.waiting.escape_ascii());
        let text = format!("{}: expected \"{wanted}\", got \"{got}\"", io.address);
        self.seen.borrow_mut().mistake.get_or_insert(text);
        io.reset();
    }
}

impl Peer for Actor {
    fn accepted(&mut self, io: &mut Io<'_>) {
        self.go_on(io);
    }

    fn data(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        self.seen.borrow_mut().received.extend_from_slice(bytes);
        self.waiting.extend_from_slice(bytes);
        if matches!(self.current, Some(Step::Expect(_) | Step::Any(_))) {
            self.go_on(io);
        }
    }

    fn ended(&mut self, _io: &mut Io<'_>, how: ClientEnd) {
        let mut seen = self.seen.borrow_mut();
        match how {
            ClientEnd::End => seen.ended = true,
            ClientEnd::Reset => seen.reset = true,
        }
    }

    fn timer(&mut self, io: &mut Io<'_>, _number: u64) {
        if matches!(self.current, Some(Step::Wait(_))) {
            self.current = self.steps.next();
        }
        self.go_on(io);
    }
}
