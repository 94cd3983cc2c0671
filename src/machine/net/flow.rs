//! One TCP connection, both of its ends and what is under way between them.

use std::net::SocketAddr;
use std::time::Duration;

use super::{ClientEnd, Command, Io, NetEvent, Packet, Peer};
use crate::machine::{Core, Fault, Machine, State};
use crate::time::Tick;

/// What the server's kernel takes before its application reads.
const WINDOW: usize = 16 * 1024;
/// Above this a packet is large.
const LARGE: usize = 1400;

/// A connection.
pub(in crate::machine) struct Flow {
    core: Core,
    /// The client's socket, until it is closed.
    socket: Option<u64>,
    pub(super) address: SocketAddr,
    /// Empty while its code runs.
    peer: Option<Box<dyn Peer>>,
    accepted: bool,
    /// The server's application never takes it.
    pub(super) never_accepted: bool,
    pub(super) large_lost: bool,
    /// The server has closed or lost it.
    server_gone: bool,
    /// The server sends no more.
    server_ended: bool,
    /// The server was told that the client is gone.
    client_told: bool,
    /// No packet arrives any more.
    vanished: bool,
    reads: bool,
    /// Bytes that the server's application has not read.
    unread: Vec<Vec<u8>>,
    unread_end: Option<ClientEnd>,
    /// Bytes on their way up or unread there.
    filled: usize,
    last_up: Tick,
    last_down: Tick,
}

impl Flow {
    pub(super) fn new(core: Core, socket: u64, address: SocketAddr, peer: Box<dyn Peer>) -> Self {
        Self {
            core,
            socket: Some(socket),
            address,
            peer: Some(peer),
            accepted: false,
            never_accepted: false,
            large_lost: false,
            server_gone: false,
            server_ended: false,
            client_told: false,
            vanished: false,
            reads: true,
            unread: Vec::new(),
            unread_end: None,
            filled: 0,
            last_up: Tick::ZERO,
            last_down: Tick::ZERO,
        }
    }

    /// Whether the server counts it among its connections.
    pub(super) fn is_at_server(&self) -> bool {
        self.accepted && !self.server_gone && !self.client_told
    }
}

// -- the client's end --------------------------------------------------------------------------

impl State {
    /// How many bytes the connection takes now.
    pub(in crate::machine) fn room(&self, flow: u64) -> usize {
        let flow = self.net.flows.get(&flow);
        flow.map_or(WINDOW, |flow| WINDOW.saturating_sub(flow.filled))
    }

    pub(in crate::machine) fn client_sends(&mut self, flow: u64, bytes: Vec<u8>) {
        if self.hit(Fault::LocalAbort) {
            return self.break_client(flow, libc::ECONNABORTED);
        }
        if self.hit(Fault::KeepaliveDead) {
            return self.break_client(flow, libc::ETIMEDOUT);
        }
        if let Some(found) = self.net.flows.get_mut(&flow) {
            found.filled += bytes.len();
            let lost = found.large_lost && bytes.len() > LARGE;
            found.vanished |= lost;
        }
        if self.hit(Fault::ResetWhileWriting) {
            self.server_resets(flow);
        }
        self.send_up(flow, Packet::Bytes(bytes));
    }

    /// The client sends no more.
    pub(in crate::machine) fn client_ends(&mut self, flow: u64) {
        self.send_up(flow, Packet::End);
    }

    /// The client's socket is gone; with bytes unread its kernel sends a reset (RFC 9293).
    pub(in crate::machine) fn client_closes(&mut self, flow: u64, unread: bool) {
        let Some(found) = self.net.flows.get_mut(&flow) else {
            return;
        };
        found.socket = None;
        self.send_up(flow, if unread { Packet::Reset } else { Packet::End });
        self.forget_flow(flow);
    }

    fn send_up(&mut self, id: u64, packet: Packet) {
        let Some(flow) = self.net.flows.get(&id) else {
            return;
        };
        if flow.vanished {
            return;
        }
        let (core, address) = (flow.core, flow.address);
        let after = self.passage(core, address.ip());
        let at = self.now.plus(after);
        let Some(flow) = self.net.flows.get_mut(&id) else {
            return;
        };
        flow.last_up = flow.last_up.max(at);
        let after = flow.last_up.since(self.now);
        self.plan_net(after, NetEvent::Up(id, packet));
    }

    /// The client's kernel gives the connection up.
    pub(super) fn break_client(&mut self, id: u64, errno: i32) {
        let Some(flow) = self.net.flows.get_mut(&id) else {
            return;
        };
        flow.vanished = true;
        self.tell_broken(id, errno);
    }

    fn tell_broken(&mut self, id: u64, errno: i32) {
        let flow = self.net.flows.get(&id);
        let Some(id) = flow.and_then(|flow| flow.socket) else {
            return;
        };
        if let Some(socket) = self.socket(id) {
            // After the peer's end there is nothing to reset but the own sends (tcp(7)).
            let late = socket.ended && errno == libc::ECONNRESET;
            socket.broken = Some(if late { libc::EPIPE } else { errno });
            socket.unsendable = Some(libc::EPIPE);
            socket.dead = true;
        }
        self.wake_broken(id);
    }

    /// A packet reaches the client.
    pub(super) fn down(&mut self, id: u64, packet: Packet) {
        let Some(flow) = self.net.flows.get_mut(&id) else {
            return;
        };
        let Some(socket) = flow.socket else {
            // The client's kernel knows the connection no more.
            flow.client_told = true;
            self.server_hears(id, ClientEnd::Reset);
            return;
        };
        let Some(found) = self.socket(socket) else {
            return;
        };
        match packet {
            Packet::Bytes(bytes) => found.received.push_back(bytes),
            Packet::End => found.ended = true,
            Packet::Reset => return self.tell_broken(id, libc::ECONNRESET),
        }
        self.deliver(socket);
    }

    /// A connection that neither end knows is forgotten.
    fn forget_flow(&mut self, id: u64) {
        let gone = |flow: &Flow| flow.socket.is_none() && (flow.server_gone || flow.vanished);
        if self.net.flows.get(&id).is_some_and(gone) {
            self.net.flows.remove(&id);
        }
    }
}

// -- the server's end --------------------------------------------------------------------------

impl State {
    /// The server ends the connection at once.
    pub(super) fn server_resets(&mut self, id: u64) {
        self.send_down(id, Packet::Reset, Duration::ZERO);
        if let Some(flow) = self.net.flows.get_mut(&id) {
            flow.server_gone = true;
            flow.server_ended = true;
        }
        self.forget_flow(id);
    }

    fn server_hears(&mut self, id: u64, _how: ClientEnd) {
        if let Some(flow) = self.net.flows.get_mut(&id) {
            flow.server_gone = true;
        }
        self.forget_flow(id);
    }

    fn send_down(&mut self, id: u64, packet: Packet, wait: Duration) {
        let Some(flow) = self.net.flows.get(&id) else {
            return;
        };
        let said = flow.server_ended && !matches!(packet, Packet::Reset);
        if flow.vanished || said {
            return;
        }
        let (core, address) = (flow.core, flow.address);
        let after = wait + self.passage(core, address.ip());
        let at = self.now.plus(after);
        let Some(flow) = self.net.flows.get_mut(&id) else {
            return;
        };
        flow.last_down = flow.last_down.max(at);
        let after = flow.last_down.since(self.now);
        self.plan_net(after, NetEvent::Down(id, packet));
    }

    fn command(&mut self, id: u64, command: Command) {
        match command {
            Command::Send(bytes) => self.send_down(id, Packet::Bytes(bytes), Duration::ZERO),
            Command::End => {
                self.send_down(id, Packet::End, Duration::ZERO);
                if let Some(flow) = self.net.flows.get_mut(&id) {
                    flow.server_ended = true;
                }
            }
            Command::Reset => self.server_resets(id),
            Command::Timer(time, number) => self.plan_net(time, NetEvent::Timer(id, number)),
            Command::Read(on) => {
                if let Some(flow) = self.net.flows.get_mut(&id) {
                    flow.reads = on;
                }
            }
            Command::Vanish => {
                if let Some(flow) = self.net.flows.get_mut(&id) {
                    flow.vanished = true;
                }
            }
        }
    }
}

impl Machine {
    /// Runs the server's code for a connection, then does what it asked for.
    pub(super) fn at_peer(&self, id: u64, call: impl FnOnce(&mut dyn Peer, &mut Io<'_>)) {
        let taken = self.with(|state| {
            let flow = state.net.flows.get_mut(&id)?;
            if flow.server_gone || !flow.accepted {
                return None;
            }
            let peer = flow.peer.take()?;
            // The server's code draws from the same seed, but not while the state is borrowed.
            let (rng, faults) = (state.rng.clone(), state.faults.clone());
            Some((peer, flow.address, rng, faults, state.now))
        });
        let Some((mut peer, address, mut rng, mut faults, now)) = taken else {
            return;
        };
        let mut io = Io {
            rng: &mut rng,
            faults: &mut faults,
            address,
            now,
            commands: Vec::new(),
        };
        call(&mut *peer, &mut io);
        let commands = io.commands;
        self.with(|state| {
            state.rng = rng;
            state.faults = faults;
            if let Some(flow) = state.net.flows.get_mut(&id) {
                flow.peer = Some(peer);
            }
            for command in commands {
                state.command(id, command);
            }
        });
        self.read_on(id);
    }

    /// Gives the server's application what it has not read, if it reads again.
    fn read_on(&self, id: u64) {
        loop {
            let next = self.with(|state| {
                let flow = state.net.flows.get_mut(&id)?;
                if !flow.reads || flow.server_gone || flow.peer.is_none() {
                    return None;
                }
                if !flow.unread.is_empty() {
                    return Some(Packet::Bytes(flow.unread.remove(0)));
                }
                flow.unread_end.take().map(|how| match how {
                    ClientEnd::End => Packet::End,
                    ClientEnd::Reset => Packet::Reset,
                })
            });
            match next {
                Some(packet) => self.hand_up(id, packet),
                None => return,
            }
        }
    }

    pub(super) fn accept(&self, id: u64) {
        let there = self.with(|state| {
            let flow = state.net.flows.get_mut(&id)?;
            flow.accepted = true;
            let (address, never) = (flow.address, flow.never_accepted);
            let count = state.net.at_server(address);
            let most = state.net.most.entry(address).or_default();
            *most = (*most).max(count);
            if !never && state.hit(Fault::AcceptThenReset) {
                state.server_resets(id);
                return None;
            }
            (!never).then_some(())
        });
        if there.is_some() {
            self.at_peer(id, |peer, io| peer.accepted(io));
        }
    }

    /// A packet reaches the server's kernel.
    pub(super) fn up(&self, id: u64, packet: Packet) {
        let read = self.with(|state| {
            let flow = state.net.flows.get_mut(&id)?;
            if flow.server_gone {
                // Nobody is there any more.
                if flow.socket.is_some() && !matches!(packet, Packet::Reset) {
                    state.send_down(id, Packet::Reset, Duration::ZERO);
                }
                state.forget_flow(id);
                return None;
            }
            let can_read = flow.reads && !flow.never_accepted && flow.unread.is_empty();
            if can_read || matches!(packet, Packet::Reset) {
                return Some(packet);
            }
            match packet {
                Packet::Bytes(bytes) => flow.unread.push(bytes),
                Packet::End => flow.unread_end = Some(ClientEnd::End),
                Packet::Reset => {}
            }
            if flow.never_accepted && flow.unread_end.is_some() {
                // Nobody but the kernel has it, and the kernel lets go.
                flow.server_gone = true;
                state.forget_flow(id);
            }
            None
        });
        if let Some(packet) = read {
            self.hand_up(id, packet);
        }
    }

    /// The server's application reads.
    fn hand_up(&self, id: u64, packet: Packet) {
        match packet {
            Packet::Bytes(bytes) => {
                self.at_peer(id, |peer, io| peer.data(io, &bytes));
                self.with(|state| {
                    let flow = state.net.flows.get_mut(&id)?;
                    flow.filled = flow.filled.saturating_sub(bytes.len());
                    let socket = flow.socket?;
                    state.push_out(socket);
                    Some(())
                });
            }
            Packet::End => {
                self.at_peer(id, |peer, io| peer.ended(io, ClientEnd::End));
                self.with(|state| {
                    // Whoever has heard the client's end and has nothing to say closes.
                    if let Some(flow) = state.net.flows.get_mut(&id) {
                        flow.client_told = flow.socket.is_none();
                        flow.server_gone |= flow.client_told;
                    }
                    state.forget_flow(id);
                });
            }
            Packet::Reset => {
                self.at_peer(id, |peer, io| peer.ended(io, ClientEnd::Reset));
                self.with(|state| state.server_hears(id, ClientEnd::Reset));
            }
        }
    }
}
