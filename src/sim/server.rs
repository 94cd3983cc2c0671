//! A server of the world, as a test scripts it and asks it afterwards.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::script::{Actor, Script, Seen};
use crate::machine::Machine;
use crate::machine::net::{Accept, Peer};
use crate::policy::Rng;
use crate::time::Tick;

/// A scripted server behind one or more addresses.
///
/// Each connection takes the next script; the last one serves all that follow.
#[derive(Clone)]
pub struct Server {
    machine: Machine,
    addresses: Vec<SocketAddr>,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    scripts: RefCell<VecDeque<Script>>,
    last: RefCell<Script>,
    seen: RefCell<Vec<Rc<RefCell<Seen>>>>,
}

impl State {
    fn accept(&self) -> Box<dyn Peer> {
        let next = self.scripts.borrow_mut().pop_front();
        if let Some(script) = &next {
            *self.last.borrow_mut() = script.clone();
        }
        let script = next.unwrap_or_else(|| self.last.borrow().clone());
        let seen = Rc::new(RefCell::new(Seen::default()));
        self.seen.borrow_mut().push(seen.clone());
        Box::new(Actor::new(script, seen))
    }
}

impl Server {
    pub(super) fn start(machine: &Machine, addresses: Vec<SocketAddr>) -> Self {
        let server = Self {
            machine: machine.clone(),
            addresses,
            state: Rc::default(),
        };
        server.listen();
        server
    }

    /// What the next connection's server does.
    pub fn on_connect(&self, script: Script) -> &Self {
        self.state.scripts.borrow_mut().push_back(script);
        self
    }

    /// Every address listens again.
    pub fn listen(&self) {
        for address in &self.addresses {
            let state = self.state.clone();
            let accept: Accept = Rc::new(move |_: &mut Rng| state.accept());
            self.machine.listen(*address, accept);
        }
    }

    /// Nobody listens any more: connects are refused. Connections that exist go on.
    pub fn refuse(&self) {
        for address in &self.addresses {
            self.machine.stop_listening(*address);
        }
    }

    /// Connects are not answered at all.
    pub fn black_hole(&self) {
        for address in &self.addresses {
            self.machine.black_hole(*address);
        }
    }

    /// Connects end with this error number, as when there is no route.
    pub fn fail(&self, errno: i32) {
        for address in &self.addresses {
            self.machine.fail_connects(*address, errno);
        }
    }

    /// The kernels of the cores give every connection up with this error number, as when keepalive
    /// fails or their socket is destroyed. The server hears nothing of it.
    pub fn break_all(&self, errno: i32) {
        for address in &self.addresses {
            self.machine.break_all(*address, errno);
        }
    }

    /// Resets every connection, as a restart does.
    pub fn reset_all(&self) {
        for address in &self.addresses {
            self.machine.reset_all(*address);
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many connections it was asked for, those included that the client gave up before.
    pub fn connects(&self) -> usize {
        self.state.seen.borrow().len()
    }

    /// When each connect to `address` began, counted from the beginning of the world; those
    /// included that found nobody.
    pub fn dials(&self, address: SocketAddr) -> Vec<Duration> {
        let dials = self.machine.dials(address).into_iter();
        dials.map(|at| at.since(Tick::ZERO)).collect()
    }

    /// The most connections it ever had at `address` at once.
    pub fn most_connections(&self, address: SocketAddr) -> usize {
        self.machine.most_connections(address)
    }

    /// How many connections it has now at `address`.
    pub fn connections(&self, address: SocketAddr) -> usize {
        self.machine.connections(address)
    }

    /// What it received on connection `n`, counted from 0; nothing if there was none.
    pub fn received(&self, n: usize) -> Vec<u8> {
        let seen = self.state.seen.borrow();
        let seen = seen.get(n).map(|seen| seen.borrow().received.clone());
        seen.unwrap_or_default()
    }

    /// Whether the client has ended or reset connection `n`.
    pub fn is_ended(&self, n: usize) -> bool {
        let seen = self.state.seen.borrow();
        seen.get(n).is_some_and(|seen| {
            let seen = seen.borrow();
            seen.ended || seen.reset
        })
    }

    /// The first mistake: bytes that a script did not expect.
    pub(super) fn mistake(&self) -> Option<String> {
        let seen = self.state.seen.borrow();
        seen.iter().find_map(|seen| seen.borrow().mistake.clone())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
