//! Questions in a stream: each with its length before it, as each answer (RFC 7766).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::State;
use super::answers::{Came, Replies};
use super::manner::Break;
use crate::machine::net::{ClientEnd, Io, Peer};

/// One stream, on the name server's side.
pub(super) struct Stream {
    server: Rc<RefCell<State>>,
    /// What has come of the next question.
    came: Vec<u8>,
    /// Answers whose time has not come.
    later: VecDeque<Later>,
    timers: u64,
    pieces: Option<usize>,
    /// It says no more.
    over: bool,
}

/// An answer whose time has not come.
struct Later {
    timer: u64,
    bytes: Vec<u8>,
    breaks: Option<(usize, Break)>,
}

impl Stream {
    pub(super) fn new(server: Rc<RefCell<State>>) -> Self {
        Self {
            server,
            came: Vec::new(),
            later: VecDeque::new(),
            timers: 0,
            pieces: None,
            over: false,
        }
    }

    /// The next whole question, if it has come.
    fn next(&mut self) -> Option<Vec<u8>> {
        let (len, rest) = self.came.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let question = rest.get(..len)?.to_vec();
        self.came.drain(..2 + len);
        Some(question)
    }

    fn reply(&mut self, io: &mut Io<'_>, replies: Replies) {
        self.pieces = replies.pieces;
        for (wait, message) in replies.messages {
            let Ok(len) = u16::try_from(message.len()) else {
                continue;
            };
            let mut bytes = len.to_be_bytes().to_vec();
            bytes.extend(message);
            if wait.is_zero() && self.later.is_empty() {
                self.send(io, &bytes, replies.breaks);
                continue;
            }
            self.timers += 1;
            io.timer(wait, self.timers);
            self.later.push_back(Later {
                timer: self.timers,
                bytes,
                breaks: replies.breaks,
            });
        }
    }

    fn send(&mut self, io: &mut Io<'_>, bytes: &[u8], breaks: Option<(usize, Break)>) {
        if self.over {
            return;
        }
        let most = breaks.map_or(bytes.len(), |(after, _)| after.min(bytes.len()));
        for piece in bytes[..most].chunks(self.pieces.unwrap_or(usize::MAX)) {
            io.send(piece);
        }
        self.over = breaks.is_some();
        match breaks {
            Some((_, Break::End)) => io.end(),
            Some((_, Break::Reset)) => io.reset(),
            Some((_, Break::Stall)) | None => {}
        }
    }
}

impl Peer for Stream {
    fn accepted(&mut self, _io: &mut Io<'_>) {}

    fn data(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        self.came.extend_from_slice(bytes);
        while let Some(question) = self.next() {
            let came = Came {
                rng: io.rng,
                faults: io.faults,
                now: io.now,
                port: None,
            };
            let replies = self.server.borrow_mut().replies(came, &question);
            self.reply(io, replies);
        }
    }

    fn ended(&mut self, io: &mut Io<'_>, _how: ClientEnd) {
        io.end();
    }

    fn timer(&mut self, io: &mut Io<'_>, number: u64) {
        let at = self.later.iter().position(|it| it.timer == number);
        if let Some(later) = at.and_then(|at| self.later.remove(at)) {
            self.send(io, &later.bytes, later.breaks);
        }
    }
}
