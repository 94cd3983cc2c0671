//! Name servers: datagrams with questions, and whatever comes back.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Machine, NetEvent, Question};
use crate::machine::{Fault, Faults, State};
use crate::policy::Rng;

/// What a name server's code can see and do.
pub(crate) struct Asked<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) faults: &'a mut Faults,
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
    /// A question came.
    fn question(&mut self, asked: &mut Asked<'_>, bytes: &[u8]);
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
        let after = self.passage(core, to.ip());
        let deaf = !self.net.names.contains_key(&to);
        if deaf || self.hit(Fault::NameRefused) {
            let event = NetEvent::Answer {
                ring,
                socket,
                bytes: Err(libc::ECONNREFUSED),
            };
            return self.plan_net(after, event);
        }
        let question = Question {
            ring,
            socket,
            to,
            bytes,
        };
        self.plan_net(after, NetEvent::Question(question));
    }

    /// A datagram, or an error, reaches a socket.
    pub(super) fn answer(&mut self, ring: usize, socket: u64, bytes: Result<Vec<u8>, i32>) {
        let Some(found) = self.socket(ring, socket) else {
            return;
        };
        match bytes {
            Ok(bytes) => found.received.push_back(bytes),
            Err(errno) => found.broken = Some(errno),
        }
        self.deliver(ring, socket);
    }
}

impl Machine {
    pub(super) fn question(&self, question: Question) {
        let Question {
            ring,
            socket,
            to,
            bytes,
        } = question;
        let found = self.with(|state| {
            let server = state.net.names.get(&to)?.clone();
            Some((server, state.rng.clone(), state.faults.clone()))
        });
        let Some((server, mut rng, mut faults)) = found else {
            return;
        };
        let mut asked = Asked {
            rng: &mut rng,
            faults: &mut faults,
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
                state.plan_net(
                    after,
                    NetEvent::Answer {
                        ring,
                        socket,
                        bytes,
                    },
                );
            }
        });
    }
}
