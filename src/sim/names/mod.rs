//! The name servers of a world: what they know, how they can be reached, and how they treat
//! questions, by the test's wishes and the world's faults.

mod answers;
mod manner;
mod stream;
#[cfg(test)]
mod tests;
mod world;
mod zone;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

pub use self::manner::{Lie, Manner, Rcode};
pub(super) use self::zone::Zone;
use crate::machine::Machine;
use crate::machine::net::Reach;
use crate::time::Tick;

/// What lies, and answers that were cut, name as the address. Nobody has it (RFC 5737), and nobody
/// may ever dial it.
pub const LIE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66));

/// A question as a name server saw it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When, counted from the beginning of the world.
    pub at: Duration,
    /// The name, as it was written in the question.
    pub name: String,
    /// The number of the type of record (RFC 1035 §3.2.2): 1 is A, 28 is AAAA.
    pub kind: u16,
    /// The port of a datagram; `None` if the question came in a stream.
    pub port: Option<u16>,
    /// Whether it speaks EDNS.
    pub edns: bool,
}

/// One of the world's [name servers](super::World::name_servers).
///
/// It answers truthfully, unless a [`Manner`] or a fault of the world says otherwise, over UDP and
/// TCP.
#[derive(Clone)]
pub struct NameServer {
    machine: Machine,
    address: SocketAddr,
    state: Rc<RefCell<State>>,
}

/// What a name server and its streams share.
struct State {
    zone: Zone,
    manner: Manner,
    next: VecDeque<Manner>,
    asked: Vec<Asked>,
}

impl NameServer {
    pub(super) fn start(machine: &Machine, address: SocketAddr, zone: Zone) -> Self {
        let state = Rc::new(RefCell::new(State {
            zone,
            manner: Manner::default(),
            next: VecDeque::new(),
            asked: Vec::new(),
        }));
        let answers = answers::Answers(state.clone());
        machine.serve_names(address, Rc::new(RefCell::new(answers)));
        Self {
            machine: machine.clone(),
            address,
            state,
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it treats every question from now on, but for those of [`next`](Self::next).
    pub fn set(&self, manner: Manner) {
        self.state.borrow_mut().manner = manner;
    }

    /// How it treats one question; called again, the one after that, and so on.
    pub fn next(&self, manner: Manner) -> &Self {
        self.state.borrow_mut().next.push_back(manner);
        self
    }

    /// The questions that reached it, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.borrow().asked.clone()
    }

    /// It is gone without a trace: what is sent to it vanishes, in datagrams and streams.
    pub fn vanish(&self) {
        self.reach(Reach::Silent, Reach::Silent);
    }

    /// Nobody listens there any more: the system says so to each datagram and each connect.
    pub fn refuse(&self) {
        self.reach(Reach::Refuses, Reach::Refuses);
    }

    /// Datagrams are answered, streams are refused.
    pub fn refuse_streams(&self) {
        self.reach(Reach::Up, Reach::Refuses);
    }

    /// Datagrams are answered, connects vanish.
    pub fn lose_streams(&self) {
        self.reach(Reach::Up, Reach::Silent);
    }

    /// It can be reached again.
    pub fn come_back(&self) {
        self.reach(Reach::Up, Reach::Up);
    }

    fn reach(&self, datagrams: Reach, streams: Reach) {
        self.machine.reach_names(self.address, datagrams, streams);
    }
}

impl State {
    /// How the next question is treated.
    fn manner(&mut self) -> Manner {
        let next = self.next.pop_front();
        next.unwrap_or_else(|| self.manner.clone())
    }
}

fn since_beginning(now: Tick) -> Duration {
    now.since(Tick::ZERO)
}

impl fmt::Debug for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
