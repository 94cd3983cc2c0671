//! What really happened, as the clients and servers of a schedule see it together: who asked what,
//! and that nobody got anybody else's answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::machine::Fault;
use crate::machine::Machine;

/// The first bytes of a request and of an answer.
pub(super) const ASK: &[u8; 2] = b"RQ";
pub(super) const TELL: &[u8; 2] = b"RP";
/// What a server sends that nobody asked for.
pub(super) const JUNK: u8 = 0xEE;
/// Bytes in front of a request's body: mark, number, length of the answer, length of the body.
pub(super) const HEAD: usize = 2 + 8 + 4 + 4;
/// Bytes in front of an answer's body: mark, number, length of the body.
pub(super) const ANSWER_HEAD: usize = 2 + 8 + 4;

/// Shared by all clients and servers of one schedule.
#[derive(Clone)]
pub(super) struct Truth(Rc<Inner>);

struct Inner {
    machine: Machine,
    asked: Cell<u64>,
    arrived: RefCell<BTreeSet<u64>>,
    /// Requests whose askers gave the connection back without their answers.
    abandoned: RefCell<BTreeSet<u64>>,
    answered: Cell<u64>,
    forgotten: Cell<bool>,
}

impl Truth {
    pub(super) fn new(machine: &Machine) -> Self {
        Self(Rc::new(Inner {
            machine: machine.clone(),
            asked: Cell::new(0),
            arrived: RefCell::default(),
            abandoned: RefCell::default(),
            answered: Cell::new(0),
            forgotten: Cell::new(false),
        }))
    }

    pub(super) fn violate(&self, text: String) {
        self.0.machine.with(|state| state.violate(text));
    }

    /// Whether `fault` happens now.
    pub(super) fn hit(&self, fault: Fault) -> bool {
        self.0.machine.with(|state| state.hit(fault))
    }

    /// A number that no other request has.
    pub(super) fn ask(&self) -> u64 {
        self.0.asked.set(self.0.asked.get() + 1);
        self.0.asked.get()
    }

    /// A request has arrived at a server. The pool sends nothing twice (I17).
    pub(super) fn arrived(&self, number: u64) -> bool {
        let asked = number > 0 && number <= self.0.asked.get();
        let first = self.0.arrived.borrow_mut().insert(number);
        asked && first
    }

    /// The asker of `number` gives the connection back without its answer.
    pub(super) fn abandon(&self, number: u64) {
        self.0.abandoned.borrow_mut().insert(number);
    }

    /// Whether the asker of `number` did so. If its answer was still on its way then, nobody could
    /// know of it, and the next user may get it: that is the user's fault, not the pool's.
    pub(super) fn is_abandoned(&self, number: u64) -> bool {
        self.0.abandoned.borrow().contains(&number)
    }

    /// A client has its answer.
    pub(super) fn answered(&self) {
        self.0.answered.set(self.0.answered.get() + 1);
    }

    /// How many answers clients got.
    pub(super) fn answers(&self) -> u64 {
        self.0.answered.get()
    }

    /// One guard may be forgotten in a schedule: its permit is lost until its core drains.
    pub(super) fn may_forget(&self) -> bool {
        !self.0.forgotten.get() && self.hit(Fault::Forgotten) && !self.0.forgotten.replace(true)
    }

    pub(super) fn has_forgotten(&self) -> bool {
        self.0.forgotten.get()
    }
}

/// A request: its number, how long the answer's body is to be, and a body of `len` bytes.
pub(super) fn request(number: u64, answer: u32, len: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + len as usize);
    bytes.extend_from_slice(ASK);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&answer.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend((0..len).map(|at| pattern(number, at)));
    bytes
}

/// The answer to request `number`.
pub(super) fn answer(number: u64, len: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ANSWER_HEAD + len as usize);
    bytes.extend_from_slice(TELL);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend((0..len).map(|at| pattern(!number, at)));
    bytes
}

/// Byte `at` of what belongs to `number`: lost, repeated and foreign bytes show.
pub(super) fn pattern(number: u64, at: u32) -> u8 {
    let mixed = number
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(u64::from(at).wrapping_mul(0xD134_2543_DE82_EF95));
    (mixed >> 56) as u8
}
