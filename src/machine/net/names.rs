//! Name servers: questions in datagrams and streams, and whatever comes back.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::{Listener, Machine, NetEvent, Peer, Question};
use crate::machine::{Fault, Faults, State};
use crate::policy::Rng;
use crate::time::Tick;

/// What a name server's code can see and do.
pub(crate) struct Asked<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) faults: &'a mut Faults,
    pub(crate) now: Tick,
    /// The port that the question came from.
    pub(crate) from: u16,
    answers: Vec<(Duration, Vec<u8>)>,
}

impl Asked<'_> {
    /// Sends `bytes` back after `wait`.
    pub(crate) fn answer(&mut self, wait: Duration, bytes: Vec<u8>) {
        self.answers.push((wait, bytes));
    }
}

/// A name server.
pub(crate) trait NameServer {
    /// A question came in a datagram.
    fn question(&mut self, asked: &mut Asked<'_>, bytes: &[u8]);
    /// Somebody opens a stream for questions.
    fn accept(&mut self) -> Box<dyn Peer>;
}

/// Who shall be at an address.
pub(crate) type Shared = Rc<RefCell<dyn NameServer>>;

/// Whether a name server can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Up,
    /// Nobody listens: the system there refuses.
    Refuses,
    /// What is sent to it vanishes.
    Silent,
}

/// A name server and how it can be reached.
pub(super) struct Names {
    server: Shared,
    datagrams: Reach,
}

impl Machine {
    /// Puts a name server at `address`, for datagrams and streams.
    pub(crate) fn serve_names(&self, address: SocketAddr, server: Shared) {
        let names = Names {
            server,
            datagrams: Reach::Up,
        };
        self.with(|state| state.net.names.insert(address, names));
        self.reach_names(address, Reach::Up, Reach::Up);
    }

    /// How the name server at `address` can be reached from now on. Its open streams go on.
    pub(crate) fn reach_names(&self, address: SocketAddr, datagrams: Reach, streams: Reach) {
        self.with(|state| {
            let Some(names) = state.net.names.get_mut(&address) else {
                return;
            };
            names.datagrams = datagrams;
            let server = names.server.clone();
            let listener = match streams {
                Reach::Up => Listener::Up(Rc::new(move |_: &mut Rng| server.borrow_mut().accept())),
                Reach::Refuses => Listener::Down,
                Reach::Silent => Listener::Hole,
            };
            state.net.listeners.insert(address, listener);
        });
    }
}

impl State {
    /// A datagram leaves a socket.
    pub(in crate::machine) fn ask(
        &mut self,
        ring: usize,
        socket: u64,
        to: Option<SocketAddr>,
        bytes: Vec<u8>,
    ) {
        let Some(to) = to else { return };
        self.net.questions += 1;
        if self.hit(Fault::NameLost) {
            return;
        }
        let core = self.rings.get(&ring).map_or(0, |ring| ring.core);
        let from = self.socket(socket).and_then(|it| it.port);
        let after = self.passage(core, to.ip());
        let reach = self.net.names.get(&to).map(|names| names.datagrams);
        let event = match reach {
            Some(Reach::Silent) => return,
            Some(Reach::Up) if !self.hit(Fault::NameRefused) => NetEvent::Question(Question {
                from: from.unwrap_or(0),
                ring,
                socket,
                to,
                bytes,
            }),
            _ => NetEvent::Answer {
                socket,
                bytes: Err(libc::ECONNREFUSED),
            },
        };
        self.plan_net(after, event);
    }

    /// A datagram, or an error, reaches a socket.
    pub(super) fn answer(&mut self, socket: u64, bytes: Result<Vec<u8>, i32>) {
        let Some(found) = self.socket(socket) else {
            return;
        };
        match bytes {
            Ok(bytes) => found.received.push_back(bytes),
            Err(errno) => found.broken = Some(errno),
        }
        self.deliver(socket);
    }
}

impl Machine {
    pub(super) fn question(&self, question: Question) {
        let Question {
            from,
            ring,
            socket,
            to,
            bytes,
        } = question;
        let found = self.with(|state| {
            let server = state.net.names.get(&to)?.server.clone();
            Some((server, state.rng.clone(), state.faults.clone(), state.now))
        });
        let Some((server, mut rng, mut faults, now)) = found else {
            return;
        };
        let mut asked = Asked {
            rng: &mut rng,
            faults: &mut faults,
            now,
            from,
            answers: Vec::new(),
        };
        server.borrow_mut().question(&mut asked, &bytes);
        let answers = asked.answers;
        self.with(|state| {
            state.rng = rng;
            state.faults = faults;
            let core = state.rings.get(&ring).map_or(0, |ring| ring.core);
            for (wait, bytes) in answers {
                if state.hit(Fault::NameLost) {
                    continue;
                }
                let after = wait + state.passage(core, to.ip());
                let bytes = Ok(bytes);
                state.plan_net(after, NetEvent::Answer { socket, bytes });
            }
        });
    }
}
