//! What becomes of a connect: decided when it begins, told when its packets would be back.

use std::net::SocketAddr;
use std::time::Duration;

use super::flow::Flow;
use super::{Listener, NetEvent};
use crate::machine::{Core, Fault, State};
use crate::time::Tick;

/// How long Linux tries by default (`net.ipv4.tcp_syn_retries`, tcp(7)).
const TRIES: Duration = Duration::from_secs(127);

impl State {
    /// Dials `to` for a socket; the result of the connect and when it comes, or nothing if that is
    /// beyond the time anybody waits.
    pub(in crate::machine) fn dial(
        &mut self,
        core: Core,
        socket: u64,
        to: SocketAddr,
        limit: Option<Tick>,
    ) -> Option<(i32, Duration)> {
        let asks = self.net.names.contains_key(&to);
        if asks {
            self.net.questions += 1;
        } else {
            self.net.dialed.entry(to).or_default().push(self.now);
        }
        let there = self.passage(core, to.ip());
        let back = self.passage(core, to.ip());
        if let Some(refused) = self.local_refusal() {
            return Some((-refused, Duration::ZERO));
        }
        if self.hit(Fault::Unreachable) {
            let errors = [
                libc::EHOSTUNREACH,
                libc::ENETUNREACH,
                libc::EACCES,
                libc::EINVAL,
            ];
            let errno = errors[self.rng.below(4) as usize];
            return Some((-errno, there + back));
        }
        if asks && self.hit(Fault::NameStreamRefused) {
            return Some((-libc::ECONNREFUSED, there + back));
        }
        if asks && self.hit(Fault::NameStreamLost) {
            return Some((-libc::ETIMEDOUT, TRIES));
        }
        let listener = self.net.listeners.get(&to).cloned();
        let accept = match listener {
            Some(Listener::Up(accept)) if !self.hit(Fault::Refused) => accept,
            Some(Listener::Hole) => return Some((-libc::ETIMEDOUT, TRIES)),
            Some(Listener::Fails(errno)) => return Some((-errno, there + back)),
            Some(_) => return Some((-libc::ECONNREFUSED, there + back)),
            None => {
                self.check_that_it_cannot_meet_itself(socket, to);
                return Some((-libc::ECONNREFUSED, there + back));
            }
        };
        if self.hit(Fault::BlackHole) {
            return Some((-libc::ETIMEDOUT, TRIES));
        }
        let peer = accept(&mut self.rng);
        let id = self.id();
        let mut flow = Flow::new(core, socket, to, peer);
        flow.never_accepted = self.hit(Fault::NeverAccepts);
        flow.large_lost = self.hit(Fault::LargeLost);
        self.net.flows.insert(id, flow);
        if let Some(socket) = self.socket(socket) {
            socket.flow = Some(id);
        }
        self.plan_net(there, NetEvent::Accept(id));
        let mut when = there + back;
        if let Some(limit) = limit
            && limit > self.now.plus(there)
            && self.hit(Fault::LimitRace)
        {
            // Just before the limit is over, or in that moment.
            when = limit.since(self.now) - Duration::from_nanos(self.rng.below(2));
        }
        Some((0, when))
    }

    /// Nobody listens at `to`, but who connects may (C8). Every world counts on the kernel's worst
    /// choice: no seed would find the one port in 28 000.
    fn check_that_it_cannot_meet_itself(&mut self, socket: u64, to: SocketAddr) {
        let may = to.ip().is_loopback()
            && self
                .socket(socket)
                .is_some_and(|socket| socket.chosen_from.contains(&to.port()));
        if may {
            self.violate(format!("C8: a connect to {to} may meet itself"));
        }
    }

    /// Why no packet leaves at all, if so.
    fn local_refusal(&mut self) -> Option<i32> {
        if self.hit(Fault::NoPort) {
            return Some(libc::EADDRNOTAVAIL);
        }
        if self.hit(Fault::NoMemory) {
            return Some(libc::ENOBUFS);
        }
        if self.hit(Fault::AddressVanishes) {
            return Some(libc::EADDRNOTAVAIL);
        }
        if self.hit(Fault::OddErrno) {
            let errors = [libc::EINTR, libc::EALREADY, libc::EISCONN, libc::EAGAIN];
            return Some(errors[self.rng.below(4) as usize]);
        }
        None
    }
}
