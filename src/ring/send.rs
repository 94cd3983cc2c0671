//! Writes come in small pieces and from many tasks; sends are dear and at most one per connection
//! may be in flight. While one is, what is written is gathered for the next (D38).
//!
//! Promise: bytes leave in the order of the calls, a short send goes on where it stopped, no
//! signal is raised (D27). A buffer given by the user comes back exactly once, whatever happens.
//! What was written in one turn leaves in one send.

#![allow(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use crate::line::Line;
use crate::ring::Ring;
use crate::ring::conn::Phase;
use crate::ring::events::Event;
use crate::ring::op::Payload;
use crate::ring::opcode;
use crate::ring::owned::OwnedBuf;
use crate::ring::queue::Class;
use crate::ring::token::Kind;
use crate::slot::Key;

/// The user's half-close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Half {
    #[default]
    Open,
    /// After what is queued.
    Asked,
    UnderWay,
    Shut,
}

/// What a connection still has to send.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    waiting: Line,
    unsent: usize,
    /// How much of the payload in flight was sent already.
    sent: usize,
    half: Half,
    failed: i32,
    /// Noted for the next submission.
    dirty: bool,
    wants_room: bool,
    wants_flush: bool,
}

impl SendQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether nothing is left to do and nobody waits to hear it.
    #[inline]
    fn is_quiet(&self) -> bool {
        let nobody_waits = !self.wants_room && !self.wants_flush;
        nobody_waits && self.waiting.is_empty() && self.half == Half::Open
    }

    fn is_flushed(&self) -> bool {
        self.unsent == 0 && self.waiting.is_empty() && matches!(self.half, Half::Open | Half::Shut)
    }
}

impl Ring {
    /// Copies as much of `bytes` as the connection's bound allows and says how much that was. If
    /// it is not all, a `Writable` follows when there is room.
    ///
    /// # Errors
    ///
    /// `Closed` if the connection or its write half is closed, `Io` if a send failed.
    pub(crate) fn write(&mut self, key: Key, bytes: &[u8]) -> Result<usize> {
        self.writable(key)?;
        let limit = self.config.send_limit;
        let queue = &mut self.conns[key.index() as usize].send;
        let count = bytes.len().min(limit.saturating_sub(queue.unsent));
        queue.wants_room |= count < bytes.len();
        queue.unsent += count;
        let mut rest = &bytes[..count];
        if let Some(Payload::Copied(last)) = self.unsent.back_mut(&queue.waiting) {
            rest = &rest[self.segments.append(last, rest)..];
        }
        while !rest.is_empty() {
            let mut segment = self.segments.take(rest.len());
            rest = &rest[segment.extend(rest)..];
            let payload = Payload::Copied(segment);
            self.unsent.push_back(&mut queue.waiting, payload);
        }
        if count > 0 {
            self.note_dirty(key);
        }
        Ok(count)
    }

    /// Queues the user's buffer behind what was written before. It comes back by `WriteDone`.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write), with the buffer.
    pub(crate) fn write_owned(&mut self, key: Key, buf: OwnedBuf) -> Result<(), (Error, OwnedBuf)> {
        if let Err(error) = self.writable(key) {
            return Err((error, buf));
        }
        let queue = &mut self.conns[key.index() as usize].send;
        queue.unsent += buf.len();
        let payload = Payload::Owned(buf);
        self.unsent.push_back(&mut queue.waiting, payload);
        self.note_dirty(key);
        Ok(())
    }

    /// How many bytes were taken and not sent yet.
    #[inline]
    pub(crate) fn unsent(&self, key: Key) -> usize {
        self.live(key).map_or(0, |conn| conn.send.unsent)
    }

    /// Whether it is [watched](Self::is_watched) and nothing is left to send: as whoever used it last
    /// leaves it, if the next may have it.
    #[inline]
    pub(crate) fn is_at_rest(&self, key: Key) -> bool {
        let heard = self.queue.queued_until_now();
        self.live(key)
            .is_some_and(|conn| conn.is_watched(heard) && conn.send.unsent == 0)
    }

    /// Whether nothing is left to send and no half-close is under way.
    pub(crate) fn is_flushed(&self, key: Key) -> bool {
        self.live(key).is_none_or(|conn| conn.send.is_flushed())
    }

    /// Asks for one `Writable` as soon as [`is_flushed`](Self::is_flushed).
    pub(crate) fn notify_flushed(&mut self, key: Key) {
        if let Some(conn) = self.live_mut(key) {
            conn.send.wants_flush = true;
            self.tell_writable(key);
        }
    }

    /// Half-closes the connection after everything queued. Nothing can be written any more.
    pub(crate) fn shutdown_write(&mut self, key: Key) {
        let Some(conn) = self.live_mut(key) else {
            return;
        };
        if conn.phase == Phase::Open && conn.send.half == Half::Open {
            conn.send.half = Half::Asked;
            self.note_dirty(key);
        }
    }

    pub(super) fn writable(&self, key: Key) -> Result<()> {
        let conn = self.live(key).ok_or_else(Self::closed)?;
        if conn.phase != Phase::Open || self.ended {
            return Err(Self::closed());
        }
        if conn.send.failed != 0 {
            return Err(Error::on_connection(conn.send.failed));
        }
        if conn.send.half != Half::Open {
            return Err(Error::new(ErrorKind::Closed, "the write half is closed"));
        }
        Ok(())
    }

    fn note_dirty(&mut self, key: Key) {
        if !self.at(key).send.dirty && !self.ops.has(Kind::Send, key) {
            self.at(key).send.dirty = true;
            self.dirty.push(key);
            self.signal.ask();
        }
    }

    /// Starts the sends of every connection that was written to since the last submission.
    pub(super) fn start_sends(&mut self) {
        while let Some(key) = self.dirty.pop() {
            if let Some(conn) = self.live_mut(key) {
                conn.send.dirty = false;
                self.start_send(key);
            }
        }
    }

    /// Sends the next payload, or half-closes when that was asked and nothing is left.
    fn start_send(&mut self, key: Key) {
        loop {
            let conn = self.at(key);
            if conn.phase != Phase::Open || conn.send.failed != 0 || self.ops.has(Kind::Send, key) {
                return;
            }
            let Some(payload) = self.next_unsent(key) else {
                break;
            };
            if payload.len() == 0 {
                self.give_back(key, payload, Ok(()));
                continue;
            }
            self.at(key).send.sent = 0;
            if let Some(payload) = self.ops.set_payload(key, payload) {
                let bytes = payload.from(0);
                // SAFETY: just put into the table.
                unsafe { self.issue_send(key, bytes) };
            }
            return;
        }
        let conn = self.at(key);
        if conn.send.half == Half::Asked {
            conn.send.half = Half::UnderWay;
            let entry = opcode::shutdown(key.index());
            // SAFETY: the entry points at no memory.
            unsafe { self.issue(Kind::Shutdown, key, entry, Class::Work) };
        }
        self.tell_writable(key);
    }

    /// Sends the rest of the payload in the table.
    fn push_send(&mut self, key: Key) {
        let sent = self.at(key).send.sent;
        let Some(payload) = self.ops.payload(key) else {
            return;
        };
        let bytes = payload.from(sent);
        // SAFETY: it is in the table.
        unsafe { self.issue_send(key, bytes) };
    }

    /// Sends these bytes.
    ///
    /// # Safety
    ///
    /// They are of the slot's payload in the operation table.
    unsafe fn issue_send(&mut self, key: Key, (start, len): (*const u8, usize)) {
        let entry = opcode::send(key.index(), start, len);
        // SAFETY: the bytes are in the table (the caller's promise), which gives them to nobody while
        // a send is in flight (rule 3 of `op`), and nobody writes to them there.
        unsafe { self.issue(Kind::Send, key, entry, Class::Work) };
    }

    /// A send reported.
    pub(super) fn on_send(&mut self, key: Key, res: i32) {
        if self.is_query(key) {
            self.on_query_step(key, Kind::Send, res);
            return;
        }
        if self.at(key).phase != Phase::Open {
            return;
        }
        if super::recv::is_transient(-res) {
            self.push_send(key);
            return;
        }
        if res <= 0 {
            self.send_failed(key, if res < 0 { -res } else { libc::EPIPE });
            return;
        }
        let len = self.ops.payload(key).map_or(0, Payload::len);
        let queue = &mut self.at(key).send;
        let count = (res as usize).min(len.saturating_sub(queue.sent));
        queue.sent += count;
        queue.unsent -= count;
        if queue.sent < len {
            self.push_send(key);
        } else {
            if let Some(payload) = self.ops.take_payload(key) {
                self.give_back(key, payload, Ok(()));
            }
            if self.at(key).send.is_quiet() {
                return;
            }
            self.start_send(key);
        }
        self.tell_writable(key);
    }

    fn send_failed(&mut self, key: Key, errno: i32) {
        let error = Error::on_connection(errno);
        self.at(key).send.failed = errno;
        let told = error.clone();
        self.events.push(Event::WriteFailed { key, error: told });
        self.give_back_all(key, &error);
    }

    pub(super) fn on_shutdown(&mut self, key: Key) {
        let conn = self.at(key);
        if conn.send.half == Half::UnderWay {
            conn.send.half = Half::Shut;
            self.tell_writable(key);
        }
    }

    /// Queues one `Writable` if somebody waits for what is now the case.
    fn tell_writable(&mut self, key: Key) {
        let limit = self.config.send_limit;
        let conn = &mut self.conns[key.index() as usize];
        let queue = &mut conn.send;
        if conn.phase != Phase::Open || queue.failed != 0 {
            return;
        }
        let room = queue.wants_room && queue.unsent <= limit / 2;
        let flushed = queue.wants_flush && queue.is_flushed();
        queue.wants_room &= !room;
        queue.wants_flush &= !flushed;
        if (room || flushed) && !conn.writable_told {
            conn.writable_told = true;
            self.events.push(Event::Writable { key });
        }
    }

    /// The slot ends: buffers of the user's that are not sent go back.
    pub(super) fn return_unsent(&mut self, key: Key) {
        if !self.at(key).send.is_empty() || self.ops.payload(key).is_some() {
            self.give_back_all(key, &Self::closed());
        }
    }

    fn give_back_all(&mut self, key: Key, error: &Error) {
        if let Some(payload) = self.ops.take_payload(key) {
            self.give_back(key, payload, Err(error.clone()));
        }
        while let Some(payload) = self.next_unsent(key) {
            self.give_back(key, payload, Err(error.clone()));
        }
    }

    fn next_unsent(&mut self, key: Key) -> Option<Payload> {
        let queue = &mut self.conns[key.index() as usize].send;
        self.unsent.pop_front(&mut queue.waiting)
    }

    fn give_back(&mut self, key: Key, payload: Payload, result: Result<()>) {
        match payload {
            Payload::Owned(_) if self.is_query(key) => {}
            Payload::Owned(buf) => self.events.push(Event::WriteDone { key, buf, result }),
            Payload::Copied(segment) => self.segments.put(segment),
        }
    }
}
