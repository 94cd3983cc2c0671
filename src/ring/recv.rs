//! A connection's receive stays armed for as long as it lives, so that the end of an idle
//! connection is seen without asking. Armed receives share one pool of buffers, and one fast peer
//! could take them all: then not even the FIN of an idle connection would be noticed (D37).
//!
//! Promise: a connection that has its bound unread when a submission is put together is cancelled,
//! and armed again when half of that was read. A quarter of the buffers is never lent out: what comes
//! beyond that, or beyond one connection's share, is copied and its buffer goes back at once, so
//! buffers always come back, whatever the users hold. A receive that found no buffer is armed again
//! when there is one, quiet connections first but not always, never more receives in one pass than
//! buffers (D15). A receive that stopped and has nothing unread is armed again without being asked;
//! whoever waits for that is told so, by one `Watched` or by the end.
//!
//! Why a submission and not the completion decides: one answer may be as large as the bound, and its
//! reader runs only after the completions were read. A cancel goes to the kernel no earlier for being
//! queued earlier, so this costs no memory, and an answer that was read in its turn costs no cancel.

#![allow(unsafe_code)]

use crate::ring::Ring;
use crate::ring::buffers::{Chunk, Lease};
use crate::ring::conn::{Conn, Phase, Recv};
use crate::ring::events::{End, Event};
use crate::ring::opcode;
use crate::ring::queue::Class;
use crate::ring::segments::Copied;
use crate::ring::token::{Kind, Token};
use crate::slot::Key;

impl Ring {
    /// The next received piece, in order.
    pub(crate) fn read(&mut self, key: Key) -> Option<Chunk> {
        let resume = self.config.recv_limit / 2;
        let conn = self.conns.get_mut(key.index() as usize)?;
        if conn.key != key {
            return None;
        }
        let piece = conn.pop_piece(&mut self.pieces)?;
        if conn.recv == Recv::Paused && conn.phase == Phase::Open && conn.unread <= resume {
            self.arm(key);
        }
        Some(piece)
    }

    /// Copies what has come to `buf`, in order, as much as fits, and says how much that was.
    #[inline]
    pub(crate) fn read_into(&mut self, key: Key, buf: &mut [u8]) -> usize {
        let resume = self.config.recv_limit / 2;
        let conns = &mut self.conns;
        let conn = conns.get_mut(key.index() as usize);
        let is_tenant = |conn: &&mut Conn| conn.phase != Phase::Free && conn.key == key;
        let Some(conn) = conn.filter(is_tenant) else {
            return 0;
        };
        let count = conn.copy_out(&mut self.pieces, buf);
        if conn.recv == Recv::Paused && conn.phase == Phase::Open && conn.unread <= resume {
            self.arm(key);
        }
        count
    }

    /// How many bytes [`read`](Self::read) would give.
    #[inline]
    pub(crate) fn unread(&self, key: Key) -> usize {
        self.live(key).map_or(0, |conn| conn.unread)
    }

    /// How the peer's bytes ended, if they did.
    #[cfg(test)]
    pub(crate) fn end(&self, key: Key) -> Option<End> {
        self.live(key)?.end
    }

    /// Whether the receive is armed, nothing is unread and no end was seen: only then may the
    /// connection idle or be handed out.
    #[inline]
    pub(crate) fn is_watching(&self, key: Key) -> bool {
        self.live(key).is_some_and(Conn::is_watching)
    }

    /// Whether it is [watching](Self::is_watching), and the kernel has had the receive since that
    /// stopped last: what came meanwhile can be read once there are no
    /// [completions](Self::has_completions) any more.
    #[inline]
    pub(crate) fn is_watched(&self, key: Key) -> bool {
        let heard = self.queue.queued_until_now();
        self.live(key).is_some_and(|conn| conn.is_watched(heard))
    }

    /// Stands for all that was queued until now, in [`has_taken`](Self::has_taken).
    #[inline]
    pub(crate) fn queued_until_now(&self) -> u64 {
        self.queue.queued_until_now()
    }

    /// Whether the kernel has had everything that was queued then. What it had to say of that at
    /// once is among what has [come until now](Self::come_until_now).
    pub(crate) fn has_taken(&mut self, until: u64) -> bool {
        self.queue.has_taken(until)
    }

    /// Stands for all that has come until now, in [`has_read`](Self::has_read); `None` while the kernel
    /// keeps some of it aside.
    pub(crate) fn come_until_now(&mut self) -> Option<u64> {
        self.queue.come_until_now()
    }

    /// Whether all that had come then was read, and its events are taken.
    pub(crate) fn has_read(&self, until: u64) -> bool {
        self.queue.has_read(until) && self.events.is_empty()
    }

    /// Whether the kernel took nothing when last asked: it wants time.
    pub(crate) fn is_refused(&self) -> bool {
        self.queue.is_refused()
    }

    /// How many buffers the kernel has, and how many there are.
    pub(crate) fn buffers(&self) -> (usize, usize) {
        (
            usize::from(self.pool.available()),
            usize::from(self.pool.count()),
        )
    }

    /// Whether the receive has stopped, nothing is unread, and it is armed again without anybody
    /// reading: it was cancelled, or found no buffer.
    pub(crate) fn will_watch(&self, key: Key) -> bool {
        self.live(key).is_some_and(|conn| {
            let stopped = matches!(conn.recv, Recv::Cancelling | Recv::Starved);
            conn.phase == Phase::Open && stopped && conn.unread == 0
        })
    }

    /// Asks for a `Watched` when the receive is armed again; `false`, and there is none, if it is not
    /// [about to](Self::will_watch). What comes first may be bytes or the end.
    pub(crate) fn tell_when_watched(&mut self, key: Key) -> bool {
        let will = self.will_watch(key);
        if will {
            self.at(key).awaited = true;
        }
        will
    }

    /// The receive is armed: who waits for that is told.
    fn armed(&mut self, key: Key) {
        let conn = self.at(key);
        conn.recv = Recv::Armed;
        if std::mem::take(&mut conn.awaited) {
            self.events.push(Event::Watched { key });
        }
    }

    /// Starts the receive of an open connection; it must have ended (D38).
    pub(super) fn arm(&mut self, key: Key) {
        let entry = opcode::recv(key.index(), self.transport(key));
        // SAFETY: the kernel writes into the pool's buffers only, and the pool is unmapped only
        // when the ring was drained (D10, see `buffers`).
        if unsafe { self.issue(Kind::Recv, key, entry, Class::Work) } {
            let emptied = self.queue.queued_until_now();
            let conn = self.at(key);
            if conn.recv != Recv::Off {
                conn.rearmed = emptied + 1;
            }
            self.armed(key);
        }
    }

    /// The receive reported: bytes, an end, or why it stopped. A final report may carry bytes.
    pub(super) fn on_recv(&mut self, key: Key, res: i32, lease: Option<Lease>, last: bool) {
        if self.at(key).phase != Phase::Open {
            return;
        }
        if res > 0
            && let Some(lease) = lease
        {
            self.store(key, lease);
        }
        if !last {
            self.note_full(key);
            return;
        }
        let limit = self.config.recv_limit;
        let conn = self.at(key);
        let over = match conn.recv {
            Recv::Cancelling => conn.unread > limit / 2,
            _ => conn.unread >= limit,
        };
        match -res {
            0 => self.ended(key, End::Eof),
            libc::ENOBUFS => {
                self.queue.stats.enobufs += 1;
                if over {
                    self.at(key).recv = Recv::Paused;
                } else {
                    self.starve(key);
                }
            }
            errno if errno < 0 || is_transient(errno) => {
                if over {
                    conn.recv = Recv::Paused;
                } else {
                    self.arm(key);
                }
            }
            errno => self.ended(key, End::Reset(errno)),
        }
    }

    fn ended(&mut self, key: Key, how: End) {
        let conn = self.at(key);
        conn.recv = Recv::Done;
        conn.awaited = false;
        conn.end = Some(how);
        self.events.push(Event::Ended { key, how });
    }

    /// Queues the bytes of `lease` for reading: lent if there are buffers enough, else copied.
    fn store(&mut self, key: Key, lease: Lease) {
        let count = self.pool.count();
        let scarce = self.pool.available() < count / 4;
        let conn = &mut self.conns[key.index() as usize];
        conn.unread += lease.len();
        if !scarce && conn.lent < (count / 8).max(1) {
            conn.lent += 1;
            let piece = Chunk::lent(lease);
            self.pieces.push_back(&mut conn.pieces, piece);
        } else {
            self.queue.stats.copied += 1;
            let mut rest = &*lease;
            if let Some(piece) = self.pieces.back_mut(&conn.pieces) {
                rest = &rest[piece.append(rest)..];
            }
            while !rest.is_empty() {
                let (copied, count) = Copied::new(&self.segments, rest);
                rest = &rest[count..];
                let piece = Chunk::copied(copied);
                self.pieces.push_back(&mut conn.pieces, piece);
            }
        }
        if !conn.readable_told {
            conn.readable_told = true;
            self.events.push(Event::Readable { key });
        }
    }

    /// A connection that holds its bound is looked at when the next submission is put together.
    fn note_full(&mut self, key: Key) {
        let limit = self.config.recv_limit;
        let conn = self.at(key);
        if conn.unread >= limit && !std::mem::replace(&mut conn.noted, true) {
            self.full.push(key);
        }
    }

    /// How many receives the next submission cancels. Those whose bytes were read are forgotten.
    pub(super) fn count_full(&mut self) -> usize {
        let limit = self.config.recv_limit;
        let conns = &mut self.conns;
        self.full.retain(|key| {
            let conn = &mut conns[key.index() as usize];
            if conn.key != *key {
                return false;
            }
            conn.noted = conn.recv == Recv::Armed && conn.unread >= limit;
            conn.noted
        });
        self.full.len()
    }

    /// Cancels the receives of those that still hold their bound.
    pub(super) fn bound_full(&mut self) {
        while let Some(key) = self.full.pop() {
            if let Some(conn) = self.live_mut(key) {
                conn.noted = false;
                self.bound(key);
            }
        }
    }

    /// Cancels the receive of a connection that holds its bound.
    pub(super) fn bound(&mut self, key: Key) {
        let limit = self.config.recv_limit;
        let conn = self.at(key);
        if conn.phase != Phase::Open || conn.recv != Recv::Armed || conn.unread < limit {
            return;
        }
        let entry = opcode::cancel(Token::new(Kind::Recv, key).encode());
        // If the last cancel has not reported yet, its report brings the next try.
        // SAFETY: the entry points at no memory.
        if unsafe { self.issue(Kind::CancelRecv, key, entry, Class::Control) } {
            self.at(key).recv = Recv::Cancelling;
        }
    }

    /// The cancel of a receive reported. If it met the receive between two states, that is still
    /// armed; if it holds its bound, the next submission cancels it again.
    pub(super) fn on_cancel_recv(&mut self, key: Key, res: i32) {
        let armed = self.ops.has(Kind::Recv, key);
        let conn = self.at(key);
        if conn.phase == Phase::Open && conn.recv == Recv::Cancelling && res < 0 && armed {
            self.armed(key);
        }
        let conn = self.at(key);
        if conn.phase == Phase::Open {
            self.note_full(key);
        }
        let conn = self.at(key);
        if conn.phase == Phase::Closing && std::mem::take(&mut conn.old_cancel) {
            self.on_old_cancel(key);
        } else {
            self.on_cancel(key, res);
        }
    }

    /// The receive found no buffer: it waits until there is one.
    pub(super) fn starve(&mut self, key: Key) {
        let conn = self.at(key);
        conn.recv = Recv::Starved;
        let busy = usize::from(conn.unread > 0);
        self.starved[busy].push_back(key);
        self.pool.starving.set(true);
    }

    /// How many starved receives may be armed now: one for each buffer that no receive armed since
    /// the last reap may already have taken.
    pub(super) fn starved_room(&self) -> u16 {
        if !self.pool.starving.get() {
            return 0;
        }
        self.pool.available().saturating_sub(self.promised)
    }

    /// Arms starved receives, in turn, at most as many as there are buffers.
    pub(super) fn rearm_starved(&mut self) {
        let mut room = self.starved_room();
        if room == 0 {
            return;
        }
        while room > 0 {
            // Who had bytes unread may have read them since, so every fourth is one of those.
            let first = usize::from(self.queue.stats.rearms % 4 == 3);
            let next = self.starved[first]
                .pop_front()
                .or_else(|| self.starved[1 - first].pop_front());
            let Some(key) = next else { break };
            let waits = |conn: &crate::ring::conn::Conn| {
                conn.phase == Phase::Open && conn.recv == Recv::Starved
            };
            if self.live(key).is_some_and(waits) {
                self.queue.stats.rearms += 1;
                self.arm(key);
                self.promised += 1;
                room -= 1;
            }
        }
        let waiting = self.starved.iter().any(|queue| !queue.is_empty());
        self.pool.starving.set(waiting);
    }
}

/// Whether the receive stopped for no fault of the connection's.
pub(super) fn is_transient(errno: i32) -> bool {
    matches!(errno, libc::ECANCELED | libc::EINTR | libc::EAGAIN)
}
