//! The played side: a machine and a peer in its network that behaves like the one on loopback.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::USUAL;
use super::rig::{Act, ENTRIES, Place, Rig, SLOTS, Size, World};
use crate::machine::net::{Asked, ClientEnd, Io, NameServer, Peer};
use crate::machine::{Faults, Machine, Step};
use crate::ring::buffers::Pool;
use crate::ring::kernel::Kernel;
use crate::ring::kernel::played::Played;
use crate::ring::queue::Queue;
use crate::ring::signal::Signal;

/// How often a peer looks for what it is to do.
const LOOK: Duration = Duration::from_micros(500);
/// Longer than a packet takes.
const PASSAGE: Duration = Duration::from_millis(2);
/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Default)]
struct Remote {
    acts: VecDeque<Act>,
    read: usize,
    /// How much of it was told.
    told: usize,
    end: Option<&'static str>,
}

/// A peer as the machine sees it.
struct Other {
    remote: Rc<RefCell<Remote>>,
    reads: bool,
}

impl Peer for Other {
    fn accepted(&mut self, io: &mut Io<'_>) {
        io.read(self.reads);
        io.timer(LOOK, 0);
    }

    fn data(&mut self, _io: &mut Io<'_>, bytes: &[u8]) {
        self.remote.borrow_mut().read += bytes.len();
    }

    fn ended(&mut self, _io: &mut Io<'_>, how: ClientEnd) {
        self.remote.borrow_mut().end = Some(match how {
            ClientEnd::End => "the end",
            ClientEnd::Reset => "a reset",
        });
    }

    fn timer(&mut self, io: &mut Io<'_>, _number: u64) {
        while let Some(act) = self.remote.borrow_mut().acts.pop_front() {
            match act {
                Act::Send(bytes) => io.send(bytes),
                Act::End => io.end(),
                Act::Reset => io.reset(),
                Act::Read(_) | Act::Finish => io.read(true),
            }
        }
        io.timer(LOOK, 0);
    }
}

/// A server of datagrams.
#[derive(Default)]
struct Answers {
    next: Vec<&'static [u8]>,
    asked: Option<usize>,
    from: u16,
}

impl NameServer for Answers {
    fn question(&mut self, asked: &mut Asked<'_>, bytes: &[u8]) {
        self.asked = Some(bytes.len());
        self.from = asked.from;
        for (at, answer) in self.next.drain(..).enumerate() {
            // One after the other, as on loopback.
            asked.answer(PASSAGE * at as u32, answer.to_vec());
        }
    }

    fn accept(&mut self) -> Box<dyn Peer> {
        Box::new(Other {
            remote: Rc::default(),
            reads: true,
        })
    }
}

struct Simulated {
    machine: Machine,
    accepted: Rc<RefCell<VecDeque<Rc<RefCell<Remote>>>>>,
    peers: Vec<Rc<RefCell<Remote>>>,
    answers: Rc<RefCell<Answers>>,
    ports: u16,
}

fn place(place: Place) -> SocketAddr {
    let (last, port) = match place {
        Place::Server => (1, 1),
        Place::Slow => (2, 1),
        Place::Deaf => (3, 1),
        Place::Full => (4, 1),
        Place::Datagrams => (5, 53),
        Place::DeafDatagrams => (6, 53),
    };
    ([10, 0, 0, last], port).into()
}

pub(super) fn rig(seed: u64, size: Size) -> Rig {
    let machine = Machine::new(seed, Faults::none());
    let accepted: Rc<RefCell<VecDeque<Rc<RefCell<Remote>>>>> = Rc::default();
    for (at, reads) in [(Place::Server, true), (Place::Slow, false)] {
        let accepted = Rc::clone(&accepted);
        machine.listen(
            place(at),
            Rc::new(move |_| {
                let remote = Rc::<RefCell<Remote>>::default();
                accepted.borrow_mut().push_back(Rc::clone(&remote));
                Box::new(Other { remote, reads })
            }),
        );
    }
    machine.black_hole(place(Place::Full));
    let answers = Rc::<RefCell<Answers>>::default();
    machine.serve_names(place(Place::Datagrams), answers.clone());
    let (queue, pool) = ring(&machine, 0, size);
    let world = Simulated {
        machine,
        accepted,
        peers: Vec::new(),
        answers,
        ports: 5000,
    };
    Rig::new(queue, pool, Rc::new(RefCell::new(world)))
}

fn ring(machine: &Machine, core: usize, size: Size) -> (Queue, Rc<Pool>) {
    let signal = Rc::new(Signal::default());
    let pool = Pool::new(size.buffers, size.buffer, signal).unwrap();
    let kernel = machine.kernel(core, SLOTS as usize, size.completions as usize);
    let played = Played::new(ENTRIES as usize, &pool, kernel);
    (Queue::new(Kernel::Played(played)), pool)
}

impl Simulated {
    /// Lets the machine go on until `done`; `false` if that never comes.
    fn until(&self, mut done: impl FnMut() -> bool) -> bool {
        let end = self.machine.now().plus(PATIENCE);
        while !done() {
            if self.machine.step() == Step::Stuck || self.machine.now() > end {
                return false;
            }
        }
        true
    }

    fn pass(&self, time: Duration) {
        let end = self.machine.now().plus(time);
        self.until(|| self.machine.now() >= end);
    }
}

impl World for Simulated {
    fn is_kernel(&self) -> bool {
        false
    }

    fn other(&mut self) -> (Queue, Rc<Pool>) {
        ring(&self.machine, 1, USUAL)
    }

    fn no_ring(&self) -> i32 {
        99
    }

    fn address(&mut self, at: Place) -> SocketAddr {
        place(at)
    }

    fn accept(&mut self) {
        assert!(self.until(|| !self.accepted.borrow().is_empty()));
        self.peers.extend(self.accepted.borrow_mut().pop_front());
    }

    fn act(&mut self, at: usize, act: Act) -> Option<String> {
        let remote = Rc::clone(&self.peers[at]);
        remote.borrow_mut().acts.push_back(act);
        assert!(self.until(|| remote.borrow().acts.is_empty() || remote.borrow().end.is_some()));
        match act {
            Act::Send(_) | Act::End | Act::Reset => {
                self.pass(PASSAGE);
                None
            }
            Act::Read(count) => {
                let enough = || remote.borrow().read >= remote.borrow().told + count;
                if !self.until(enough) {
                    return Some("reads less".to_owned());
                }
                remote.borrow_mut().told += count;
                Some(format!("reads {count}"))
            }
            Act::Finish => {
                self.until(|| remote.borrow().end.is_some());
                let end = remote.borrow().end.unwrap_or("nothing");
                Some(format!("sees {end}"))
            }
        }
    }

    fn answer(&mut self, answers: &[&'static [u8]]) -> usize {
        *self.answers.borrow_mut() = Answers {
            next: answers.to_vec(),
            asked: None,
            from: 0,
        };
        self.until(|| self.answers.borrow().asked.is_some());
        self.answers.borrow().asked.unwrap_or(usize::MAX)
    }

    fn asked_from(&self) -> u16 {
        self.answers.borrow().from
    }

    fn free_port(&mut self) -> u16 {
        self.ports += 1;
        self.ports
    }

    fn settle(&mut self) {
        self.pass(PASSAGE);
    }

    fn wait(&mut self, queue: &mut Queue) -> bool {
        self.until(|| queue.has_completions())
    }

    fn mistakes(&self) -> Vec<String> {
        let left = |count: &dyn Fn(usize) -> usize| count(0) + count(1);
        let sockets = left(&|core| self.machine.sockets(core));
        let operations = left(&|core| self.machine.operations(core));
        let mut mistakes = Vec::from_iter(self.machine.first_violation());
        if sockets > 0 || operations > 0 {
            mistakes.push(format!(
                "{sockets} sockets and {operations} operations are left"
            ));
        }
        mistakes
    }
}
