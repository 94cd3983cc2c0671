//! The servers of a schedule: they answer what was asked, check that it came whole and once, and
//! misbehave as the faults say.

use std::collections::VecDeque;
use std::time::Duration;

use crate::machine::Fault;
use crate::machine::net::{ClientEnd, Io, Peer};

use super::truth::{ASK, HEAD, JUNK, Truth, answer, pattern};

/// What timers are for.
const DRIP: u64 = 1;
const READ_AGAIN: u64 = 2;
const END: u64 = 3;
const RESET: u64 = 4;
const BABBLE: u64 = 5;

/// The server's side of one connection.
pub(super) struct Responder {
    truth: Truth,
    received: Vec<u8>,
    /// Bytes that go out one by one.
    drips: VecDeque<u8>,
    over: bool,
}

impl Responder {
    pub(super) fn new(truth: Truth) -> Self {
        Self {
            truth,
            received: Vec::new(),
            drips: VecDeque::new(),
            over: false,
        }
    }

    /// Takes a whole request off what was received: its number and how long its answer is to be.
    fn next_request(&mut self, io: &mut Io<'_>) -> Option<(u64, u32)> {
        if self.over || self.received.len() < HEAD {
            return None;
        }
        let field = |at: usize, len: usize| {
            let bytes = &self.received[at..at + len];
            bytes
                .iter()
                .fold(0, |all, byte| all << 8 | u64::from(*byte))
        };
        let (number, wanted, len) = (field(2, 8), field(10, 4) as u32, field(14, 4) as u32);
        let address = io.address;
        if !self.received.starts_with(ASK) {
            let start = self.received[..HEAD].escape_ascii().to_string();
            self.wrong(
                io,
                format!("S10: {address} got what is no request: {start}"),
            );
            return None;
        }
        let whole = HEAD + len as usize;
        if self.received.len() < whole {
            return None;
        }
        let body = &self.received[HEAD..whole];
        let mut expected = (0..len).map(|at| pattern(number, at));
        if !body.iter().all(|byte| expected.next() == Some(*byte)) {
            self.wrong(
                io,
                format!("I5: request {number} arrived at {address} with other bytes"),
            );
            return None;
        }
        self.received.drain(..whole);
        if !self.truth.arrived(number) {
            self.wrong(
                io,
                format!("I17: request {number} arrived at {address} again"),
            );
            return None;
        }
        Some((number, wanted))
    }

    /// Notes the mistake; the state is not borrowed while a server's code runs.
    fn wrong(&mut self, io: &mut Io<'_>, text: String) {
        self.over = true;
        self.truth.violate(text);
        io.reset();
    }

    fn answer(&mut self, io: &mut Io<'_>, number: u64, wanted: u32) {
        let bytes = answer(number, wanted);
        let half = bytes.len() / 2;
        if hit(io, Fault::AnswerStops) {
            io.send(&bytes[..half]);
            io.vanish();
            self.over = true;
        } else if hit(io, Fault::HalfClose) {
            io.send(&bytes[..half]);
            io.end();
            self.over = true;
        } else if bytes.len() < 200 && hit(io, Fault::SlowBytes) {
            self.drips.extend(bytes);
            io.timer(Duration::from_millis(2), DRIP);
        } else if self.drips.is_empty() {
            self.send_in_pieces(io, &bytes);
            self.afterwards(io);
        } else {
            self.drips.extend(bytes);
        }
    }

    fn send_in_pieces(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        let cut = io.rng.below(bytes.len() as u64 + 1) as usize;
        for piece in [&bytes[..cut], &bytes[cut..]] {
            if !piece.is_empty() {
                io.send(piece);
            }
        }
    }

    /// What may happen to the connection once it is idle.
    fn afterwards(&mut self, io: &mut Io<'_>) {
        let soon = Duration::from_micros(io.rng.below(20_000));
        for (fault, number) in [
            (Fault::IdleEnd, END),
            (Fault::IdleReset, RESET),
            (Fault::Unsolicited, BABBLE),
        ] {
            if hit(io, fault) {
                io.timer(soon, number);
            }
        }
        if hit(io, Fault::SilentLoss) {
            io.vanish();
        }
    }
}

fn hit(io: &mut Io<'_>, fault: Fault) -> bool {
    io.faults.hit(io.rng, fault)
}

impl Peer for Responder {
    fn accepted(&mut self, _io: &mut Io<'_>) {}

    fn data(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        if hit(io, Fault::NoWindow) {
            io.read(false);
            let again = Duration::from_millis(1 + io.rng.below(700));
            io.timer(again, READ_AGAIN);
        }
        while let Some((number, wanted)) = self.next_request(io) {
            self.answer(io, number, wanted);
        }
    }

    fn ended(&mut self, io: &mut Io<'_>, how: ClientEnd) {
        if how == ClientEnd::End && !self.over {
            io.end();
        }
        self.over = true;
    }

    fn timer(&mut self, io: &mut Io<'_>, number: u64) {
        match number {
            DRIP => {
                if let Some(byte) = self.drips.pop_front() {
                    io.send([byte]);
                    io.timer(Duration::from_millis(2), DRIP);
                }
            }
            READ_AGAIN => io.read(true),
            END if !self.over => {
                self.over = true;
                io.end();
            }
            RESET if !self.over => {
                self.over = true;
                io.reset();
            }
            BABBLE if !self.over && self.drips.is_empty() => io.send([JUNK; 5]),
            _ => {}
        }
    }
}
