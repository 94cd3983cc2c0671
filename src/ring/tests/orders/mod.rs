//! The orders of completions that break a state machine are those that a loopback never shows. For
//! the small cases here all of them are played: every result, every order in which completions can
//! be posted, every point at which the ring can look, and a close at every one of them.
//!
//! Promise, checked in each run: the connect ends in exactly one of `Connected`, `ConnectFailed` and
//! `Closed`; the slot is reported free only when the kernel has no operation, no completion and no
//! descriptor of it left; every buffer comes back.

mod choices;
mod questions;
mod releases;
mod script;

use std::rc::Rc;

use self::choices::{Choices, every_path};
use self::script::{Act, May, Script};
use super::*;
use crate::ring::Kind;

/// No run takes more.
const MOST_STEPS: usize = 200;

const NOTHING: May = May {
    socket: &[0],
    option: &[0],
    bind: &[0],
    connect: &[(0, -libc::ECANCELED)],
    recv: &[],
    pieces: 0,
    send: &[],
    give: &[],
};

/// What the caller knows of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Connecting,
    Open,
    Expecting,
    /// It was asked to be given.
    Leaving,
    /// It was given, and nobody has taken it yet.
    Away,
    /// It was reported free.
    Free,
}

struct Run {
    ring: Ring,
    kernel: Rc<Script>,
    choices: Rc<Choices>,
    key: Key,
    known: Known,
    closed: bool,
    /// Whether what came is read, at some point.
    reads: bool,
    /// Whether its reader runs before the turn's submission.
    eager: bool,
    /// Whether it is given back, at some point at which nothing is unread.
    releases: bool,
    /// Whether the ring owes a `Watched` for that.
    owed: bool,
    /// Buffers of the user's that were given and are not back.
    owned: usize,
    /// With which numbers a question may fail, and whether it has.
    failures: &'static [i32],
    failed: bool,
    trail: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Kernel(Act),
    Turn,
    Read,
    Release,
    Close,
    Adopt,
    Keep,
}

impl Run {
    fn new(choices: &Rc<Choices>, may: May) -> Self {
        Self::bounded(choices, may, 2, 5)
    }

    /// With so many buffers, and so many bytes that one connection may hold.
    fn bounded(choices: &Rc<Choices>, may: May, recv_buffers: u16, recv_limit: usize) -> Self {
        let kernel = Script::new(choices, may);
        let config = RingConfig {
            entries: 16,
            max_connections: 1,
            max_queries: 1,
            recv_buffers,
            recv_buffer_size: 64,
            recv_limit,
            ..config()
        };
        Self {
            ring: Ring::played(config, kernel.clone()).unwrap(),
            kernel,
            choices: Rc::clone(choices),
            key: key(0),
            known: Known::Connecting,
            closed: false,
            reads: false,
            eager: false,
            releases: false,
            owed: false,
            owned: 0,
            failures: &[],
            failed: false,
            trail: Vec::new(),
        }
    }

    fn connect(&mut self, options: &SocketOptions) {
        let to = ([10, 0, 0, 1], 1).into();
        self.ring.connect(self.key, to, options, CONNECT);
    }

    /// A run that begins with an open connection, its receive armed.
    fn open(choices: &Rc<Choices>, may: May) -> Self {
        Self::new(choices, may).opened()
    }

    fn opened(mut self) -> Self {
        let run = &mut self;
        run.kernel.smooth.set(true);
        run.connect(&SocketOptions::default());
        while run.known == Known::Connecting || run.ring.needs_submit() {
            run.turn();
        }
        run.kernel.smooth.set(false);
        self
    }

    fn turn(&mut self) {
        self.ring.reap();
        while let Some(event) = self.ring.poll_event() {
            self.take(event);
        }
        while self.eager && self.ring.read(self.key).is_some() {}
        self.ring.submit().unwrap();
        let stops = self.ring.ops.has(Kind::CancelRecv, self.key);
        assert!(
            !(self.eager && stops) || self.closed,
            "what was read is cancelled"
        );
        self.ring.audit().unwrap();
    }

    fn take(&mut self, event: Event) {
        let known = self.known;
        match event {
            Event::Connected { key } => {
                assert_eq!((key, known), (self.key, Known::Connecting));
                assert!(!self.closed);
                self.known = Known::Open;
            }
            Event::ConnectFailed { key, .. } => {
                assert_eq!((key, known), (self.key, Known::Connecting));
                assert!(!self.closed);
                self.free();
            }
            Event::Closed { key } | Event::QueryClosed { key } => {
                assert!(self.closed && key == self.key && known != Known::Free);
                self.free();
            }
            Event::WriteDone { .. } => self.owned -= 1,
            Event::Watched { .. } => {
                assert!(std::mem::take(&mut self.owed) && !self.closed);
            }
            Event::Readable { .. }
            | Event::Ended { .. }
            | Event::Writable { .. }
            | Event::WriteFailed { .. } => {
                let open = matches!(known, Known::Open | Known::Leaving);
                assert!(open && !self.closed, "{event:?}");
                self.owed &= !matches!(event, Event::Ended { .. });
            }
            Event::Given { .. } | Event::GiveFailed { .. } => {
                assert!(known == Known::Leaving && !self.closed, "{event:?}");
                self.known = match event {
                    Event::Given { .. } => Known::Away,
                    _ => Known::Open,
                };
            }
            Event::QueryBytes { .. } | Event::QueryFailed { .. } => {
                assert!(known != Known::Free && !self.closed, "{event:?}");
                assert!(!self.failed, "{event:?} after a failure");
                if let Event::QueryFailed { errno, .. } = event {
                    assert!(self.failures.contains(&errno), "{errno}");
                    self.failed = true;
                }
            }
            Event::Fatal { error } => panic!("{error}"),
        }
    }

    fn free(&mut self) {
        assert!(self.kernel.is_free(), "reported free too early");
        assert_eq!(self.owned, 0, "a buffer comes back after the end");
        self.known = Known::Free;
    }

    /// Everything that can happen next.
    fn steps(&mut self) -> Vec<Step> {
        let acts = self.kernel.acts().into_iter();
        let mut steps: Vec<Step> = acts.map(Step::Kernel).collect();
        if self.ring.has_completions() || self.ring.needs_submit() {
            steps.push(Step::Turn);
        }
        if self.reads && self.ring.unread(self.key) > 0 {
            steps.push(Step::Read);
        }
        if self.releases && self.known == Known::Open && self.ring.unread(self.key) == 0 {
            steps.push(Step::Release);
        }
        match self.known {
            Known::Expecting if !self.closed => steps.push(Step::Adopt),
            Known::Away if !self.closed => steps.push(Step::Keep),
            _ => {}
        }
        if !self.closed && self.known != Known::Free {
            steps.push(Step::Close);
        }
        steps
    }

    /// Lets everything happen, in the order of the choices, until nothing can.
    fn play(mut self) {
        for _ in 0..MOST_STEPS {
            let steps = self.steps();
            if steps.is_empty() {
                return self.finish();
            }
            let at_rest = matches!(steps[..], [Step::Close]);
            assert!(!(at_rest && self.owed), "never watched again");
            let step = steps[self.choices.pick(steps.len())];
            self.trail.push(step);
            match step {
                Step::Kernel(act) => self.kernel.act(act),
                Step::Turn => self.turn(),
                Step::Read => drop(self.ring.read(self.key).unwrap()),
                Step::Release => self.release(),
                Step::Close => {
                    (self.closed, self.owed, self.releases) = (true, false, false);
                    // Nobody closes a slot that a message is on its way to.
                    self.kernel.arriving.set(false);
                    self.ring.close(self.key);
                }
                Step::Adopt => {
                    self.kernel.arriving.set(false);
                    assert!(self.ring.adopt(self.key));
                    self.known = Known::Open;
                }
                Step::Keep => {
                    self.ring.keep(self.key);
                    self.known = Known::Open;
                }
            }
        }
        panic!("it goes on for ever");
    }

    /// What is given back is watched, or will be, or its end is known.
    fn release(&mut self) {
        self.releases = false;
        self.owed = self.ring.tell_when_watched(self.key);
        let kept = self.owed || self.ring.is_watching(self.key);
        assert!(
            kept || self.ring.end(self.key).is_some(),
            "nobody watches it"
        );
    }

    fn finish(mut self) {
        assert_eq!(self.known, Known::Free, "never reported free");
        assert!(self.ring.poll_event().is_none());
        self.ring.assert_clean();
        assert!(self.kernel.is_free());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:?}", self.trail);
        }
    }
}

/// Plays every order that begins as `begin` does, then those in which only cancels end anything.
fn every_order(what: &str, may: May, begin: impl Fn(&Rc<Choices>, May) -> Run) {
    let silent = May {
        connect: &[],
        recv: &[],
        // Where pieces are all that comes, they came in the first pass.
        pieces: if may.recv.is_empty() { 0 } else { may.pieces },
        send: &[],
        ..may
    };
    for (may, least) in [(may, 1_000), (silent, 10)] {
        let count = every_path(|choices| begin(choices, may).play());
        println!("{what}: {count} orders");
        assert!(count > least, "{count} orders are not all");
    }
}

fn connecting(choices: &Rc<Choices>, may: May, options: &SocketOptions) -> Run {
    let mut run = Run::new(choices, may);
    run.connect(options);
    run
}

#[test]
fn c11_k4_k5_k13_every_order_of_a_connect_its_limit_and_a_close() {
    let may = May {
        socket: &[0, -libc::ENFILE],
        connect: &[
            (0, -libc::ECANCELED),
            (0, -libc::ETIME),
            (0, -libc::EALREADY),
            (-libc::ECONNREFUSED, -libc::ECANCELED),
            (-libc::ECANCELED, -libc::ETIME),
            (-libc::EINTR, -libc::ETIME),
        ],
        ..NOTHING
    };
    let plain = SocketOptions::default();
    every_order("connect, limit, close", may, |choices, may| {
        connecting(choices, may, &plain)
    });
}

#[test]
fn c11_c1_k4_every_order_of_a_connect_with_an_option_and_a_close() {
    let may = May {
        option: &[0, -libc::EINVAL],
        connect: &[
            (0, -libc::ECANCELED),
            (-libc::ECONNREFUSED, -libc::ECANCELED),
        ],
        ..NOTHING
    };
    let nodelay = SocketOptions {
        nodelay: true,
        ..SocketOptions::default()
    };
    every_order("option, connect, close", may, |choices, may| {
        connecting(choices, may, &nodelay)
    });
}

#[test]
fn k14_k12_e1_e2_every_order_of_a_close_and_an_armed_receive() {
    let may = May {
        recv: &[0, -libc::ECONNRESET],
        pieces: 1,
        ..NOTHING
    };
    every_order("receive, close", may, |choices, may| {
        Run::open(choices, may)
    });
}

#[test]
fn k14_k9_r11_every_order_of_a_receive_that_is_bounded_and_read() {
    let may = May {
        recv: &[0],
        pieces: 1,
        ..NOTHING
    };
    every_order("bounded receive, close", may, |choices, may| {
        let mut run = Run::open(choices, may);
        run.reads = true;
        run
    });
}

#[test]
fn k14_k10_k12_e10_every_order_of_a_close_a_receive_and_a_send() {
    let may = May {
        recv: &[0],
        send: &[5, 2, -libc::EPIPE],
        ..NOTHING
    };
    every_order("send, receive, close", may, |choices, may| {
        let mut run = Run::open(choices, may);
        let buf = crate::ring::OwnedBuf::new(b"hello".to_vec());
        run.ring.write_owned(run.key, buf).unwrap();
        run.owned = 1;
        run
    });
}

fn leaving(choices: &Rc<Choices>, may: May) -> Run {
    let mut run = Run::open(choices, may);
    let to = run.ring.address().unwrap();
    run.ring.give(run.key, to, key(1));
    run.known = Known::Leaving;
    run
}

#[test]
fn k14_x11_x13_every_order_of_a_give_that_may_fail_and_a_close() {
    let may = May {
        recv: &[0],
        give: &[0, -libc::EBADFD],
        ..NOTHING
    };
    every_order("give, keep, close", may, leaving);
}

#[test]
fn k14_x11_every_order_of_a_give_bytes_and_a_close() {
    let may = May {
        pieces: 1,
        give: &[0],
        ..NOTHING
    };
    every_order("give, bytes, close", may, leaving);
}

#[test]
fn x11_k14_every_order_of_an_expected_connection_and_a_close() {
    let may = May {
        recv: &[0, -libc::ECONNRESET],
        pieces: 1,
        ..NOTHING
    };
    every_order("expect, adopt, close", may, |choices, may| {
        let mut run = Run::new(choices, may);
        assert!(run.ring.expect(run.key));
        run.known = Known::Expecting;
        run.kernel.arriving.set(true);
        run
    });
}
