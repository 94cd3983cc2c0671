//! The network between the cores and the servers: packets take time, are late, and vanish where
//! the path is cut; a stream's bytes stay in order.
//!
//! Promise: what TCP promises its ends, no more. A connection exists at the server before the
//! client hears of it and may outlive the client's interest. A server's code runs between two
//! steps, never inside of one of the pool's.

mod dial;
mod flow;
mod names;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

pub(super) use self::flow::Flow;
use self::names::Names;
pub(crate) use self::names::{Asked, NameServer, Reach};
use super::schedule::Event;
use super::{Core, Faults, Machine, State};
use crate::policy::Rng;
use crate::time::Tick;

/// One way, before jitter.
const LATENCY: Duration = Duration::from_micros(100);
/// What is added at most.
const JITTER: Duration = Duration::from_micros(150);

/// Something that happens in the network.
pub(crate) enum NetEvent {
    /// A connection reaches its server.
    Accept(u64),
    /// A packet reaches the server.
    Up(u64, Packet),
    /// A packet reaches the client.
    Down(u64, Packet),
    /// A timer of a server's connection.
    Timer(u64, u64),
    /// A question reaches a name server.
    Question(Question),
    /// A datagram, or an error, reaches a client's socket.
    Answer {
        socket: u64,
        bytes: Result<Vec<u8>, i32>,
    },
}

/// A datagram on its way to a name server.
pub(crate) struct Question {
    /// The port that it comes from.
    pub(super) from: u16,
    pub(super) ring: usize,
    pub(super) socket: u64,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// What a packet of a stream carries.
#[derive(Debug)]
pub(crate) enum Packet {
    Bytes(Vec<u8>),
    /// The sender sends no more.
    End,
    /// The sender knows nothing of this connection, or wants nothing of it any more.
    Reset,
}

/// How a client's side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// It sends no more.
    End,
    /// It is gone.
    Reset,
}

/// The server's side of one connection.
pub(crate) trait Peer {
    /// The connection is there.
    fn accepted(&mut self, io: &mut Io<'_>);
    /// Bytes came.
    fn data(&mut self, io: &mut Io<'_>, bytes: &[u8]);
    /// The client's bytes end.
    fn ended(&mut self, io: &mut Io<'_>, how: ClientEnd);
    /// A timer that was set has run out.
    fn timer(&mut self, io: &mut Io<'_>, number: u64);
}

/// What a server's code can do.
pub(crate) struct Io<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) faults: &'a mut Faults,
    pub(crate) address: SocketAddr,
    pub(crate) now: Tick,
    commands: Vec<Command>,
}

enum Command {
    Send(Vec<u8>),
    End,
    Reset,
    Timer(Duration, u64),
    Read(bool),
    Vanish,
}

impl Io<'_> {
    /// Sends bytes to the client.
    pub(crate) fn send(&mut self, bytes: impl Into<Vec<u8>>) {
        self.commands.push(Command::Send(bytes.into()));
    }

    /// Sends no more.
    pub(crate) fn end(&mut self) {
        self.commands.push(Command::End);
    }

    /// Resets the connection.
    pub(crate) fn reset(&mut self) {
        self.commands.push(Command::Reset);
    }

    /// Asks for [`Peer::timer`] after `time`.
    pub(crate) fn timer(&mut self, time: Duration, number: u64) {
        self.commands.push(Command::Timer(time, number));
    }

    /// Whether the client's bytes are read; if not, its window fills up.
    pub(crate) fn read(&mut self, on: bool) {
        self.commands.push(Command::Read(on));
    }

    /// From now on no packet of the connection arrives, in either direction.
    pub(crate) fn vanish(&mut self) {
        self.commands.push(Command::Vanish);
    }
}

/// Makes the server's side of a new connection.
pub(crate) type Accept = Rc<dyn Fn(&mut Rng) -> Box<dyn Peer>>;

/// How an address answers to connects.
#[derive(Clone)]
enum Listener {
    Up(Accept),
    /// Nobody listens.
    Down,
    /// Packets vanish.
    Hole,
    /// Connects end with this error number.
    Fails(i32),
}

/// The network.
#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<SocketAddr, Listener>,
    names: BTreeMap<SocketAddr, Names>,
    /// Questions that were sent to name servers.
    questions: usize,
    flows: BTreeMap<u64, Flow>,
    /// Until when nothing passes between a core and an address; all cores if there is none.
    cuts: BTreeMap<(Option<Core>, IpAddr), Tick>,
    /// The most connections that each address had at once, as its server saw it.
    most: BTreeMap<SocketAddr, usize>,
    /// Addresses that a client tried to reach, and when.
    dialed: BTreeMap<SocketAddr, Vec<Tick>>,
    /// No core has an address of IPv6.
    lacks_v6: bool,
}

impl Machine {
    /// Puts a server at `address`.
    pub(crate) fn listen(&self, address: SocketAddr, accept: Accept) {
        self.with(|state| state.net.listeners.insert(address, Listener::Up(accept)));
    }

    /// Nobody listens at `address` any more; its connections go on.
    pub(crate) fn stop_listening(&self, address: SocketAddr) {
        self.with(|state| state.net.listeners.insert(address, Listener::Down));
    }

    /// Packets to `address` that would open a connection vanish.
    pub(crate) fn black_hole(&self, address: SocketAddr) {
        self.with(|state| state.net.listeners.insert(address, Listener::Hole));
    }

    /// Connects to `address` end with `errno`.
    pub(crate) fn fail_connects(&self, address: SocketAddr, errno: i32) {
        self.with(|state| state.net.listeners.insert(address, Listener::Fails(errno)));
    }

    /// Nothing passes between `core` (or all) and `address` until `until`; what is sent meanwhile
    /// arrives afterwards, as TCP sends it again.
    pub(crate) fn cut(&self, core: Option<Core>, address: IpAddr, until: Tick) {
        self.with(|state| state.net.cuts.insert((core, address), until));
    }

    /// The address from which `core` would send to `to`: each has one of each family, unless the
    /// machine has no IPv6.
    pub(crate) fn source_of(&self, core: Core, to: IpAddr) -> Option<IpAddr> {
        let number = core as u16 + 1;
        match to {
            _ if to.is_loopback() => Some(to),
            IpAddr::V4(_) => Some(IpAddr::from([10, 255, 0, number as u8])),
            IpAddr::V6(_) if self.with(|state| state.net.lacks_v6) => None,
            IpAddr::V6(_) => Some(IpAddr::from([0x2001, 0xDB8, 0xFFFF, 0, 0, 0, 0, number])),
        }
    }

    /// Whether the machine has addresses of IPv6.
    pub(crate) fn set_ipv6(&self, on: bool) {
        self.with(|state| state.net.lacks_v6 = !on);
    }

    /// No path is cut any more.
    pub(crate) fn heal(&self) {
        self.with(|state| state.net.cuts.clear());
    }

    /// Resets every connection to `address`, as a restart of its server does.
    pub(crate) fn reset_all(&self, address: SocketAddr) {
        self.with(|state| {
            let flows = state.net.flows.iter();
            let ours = flows.filter(|(_, flow)| flow.address == address);
            let ours: Vec<u64> = ours.map(|(id, _)| *id).collect();
            for flow in ours {
                state.server_resets(flow);
            }
        });
    }

    /// The client's kernels give every connection to `address` up with `errno`.
    pub(crate) fn break_all(&self, address: SocketAddr, errno: i32) {
        self.with(|state| {
            let flows = state.net.flows.iter();
            let ours = flows.filter(|(_, flow)| flow.address == address);
            let ours: Vec<u64> = ours.map(|(id, _)| *id).collect();
            for flow in ours {
                state.break_client(flow, errno);
            }
        });
    }

    /// How many connections the server at `address` has.
    pub(crate) fn connections(&self, address: SocketAddr) -> usize {
        self.with(|state| state.net.at_server(address))
    }

    /// The most it ever had at once.
    pub(crate) fn most_connections(&self, address: SocketAddr) -> usize {
        self.with(|state| state.net.most.get(&address).copied().unwrap_or(0))
    }

    /// Every address that was dialed.
    pub(crate) fn dialed(&self) -> Vec<SocketAddr> {
        self.with(|state| state.net.dialed.keys().copied().collect())
    }

    /// How many questions were sent to name servers.
    pub(crate) fn questions(&self) -> usize {
        self.with(|state| state.net.questions)
    }

    /// When `address` was dialed.
    pub(crate) fn dials(&self, address: SocketAddr) -> Vec<Tick> {
        self.with(|state| state.net.dialed.get(&address).cloned().unwrap_or_default())
    }

    /// Something happens in the network; the server's code runs with nothing borrowed.
    pub(super) fn happen_in_net(&self, event: NetEvent) {
        match event {
            NetEvent::Accept(flow) => self.accept(flow),
            NetEvent::Up(flow, packet) => self.up(flow, packet),
            NetEvent::Timer(flow, number) => {
                self.at_peer(flow, |peer, io| peer.timer(io, number));
            }
            NetEvent::Down(flow, packet) => self.with(|state| state.down(flow, packet)),
            NetEvent::Question(question) => self.question(question),
            NetEvent::Answer { socket, bytes } => {
                self.with(|state| state.answer(socket, bytes));
            }
        }
    }
}

impl Net {
    fn at_server(&self, address: SocketAddr) -> usize {
        let flows = self.flows.values();
        flows
            .filter(|flow| flow.address == address && flow.is_at_server())
            .count()
    }
}

impl State {
    /// How long a packet takes from now, one way, between `core` and `address`.
    fn passage(&mut self, core: Core, address: IpAddr) -> Duration {
        let mut time = LATENCY + self.rng.part_of(JITTER);
        if self.hit(super::Fault::Late) {
            time += Duration::from_millis(1 + self.rng.below(200));
        }
        let now = self.now;
        self.net.cuts.retain(|_, until| *until > now);
        let cuts = [(None, address), (Some(core), address)];
        let cut = cuts.iter().filter_map(|cut| self.net.cuts.get(cut)).max();
        cut.map_or(time, |until| until.since(now) + time)
    }

    fn plan_net(&mut self, after: Duration, event: NetEvent) {
        let at = self.now.plus(after);
        self.events.plan(at, Event::Net(event));
    }
}
