//! What the ring reports, turned into facts for the policy and wake-ups for those who wait.

use crate::error::Error;
use crate::hooks::ConnectionInfo;
use crate::policy::event::{CloseReason, ConnKey, Event};
use crate::ring::{self, End};

use super::cells::{Cut, Stage};
use super::core::Core;
use super::deferred::Call;

impl Core {
    pub(crate) fn arrive(&mut self, event: ring::Event) {
        match event {
            ring::Event::Connected { key } => self.connected(ConnKey(key)),
            ring::Event::ConnectFailed { key, error } => self.connect_failed(ConnKey(key), error),
            ring::Event::Watched { key } => self.look_soon(ConnKey(key)),
            ring::Event::Readable { key } => self.readable(ConnKey(key)),
            ring::Event::Ended { key, how } => self.ended(ConnKey(key), how),
            ring::Event::Writable { key } => self.writable(ConnKey(key)),
            ring::Event::WriteFailed { key, error } => self.write_failed(ConnKey(key), error),
            ring::Event::WriteDone { key, buf, result } => {
                self.write_done(ConnKey(key), buf, result);
            }
            ring::Event::Given { key } => self.descriptor_sent(ConnKey(key)),
            ring::Event::GiveFailed { key, error } => {
                self.descriptor_not_sent(ConnKey(key), error);
            }
            ring::Event::Closed { key } => self.closed(ConnKey(key)),
            ring::Event::QueryBytes {
                key,
                bytes,
                truncated,
            } => {
                self.query_bytes(key, &bytes, truncated);
            }
            ring::Event::QueryFailed { key, errno } => self.query_failed(key, errno),
            ring::Event::QueryClosed { key } => {
                // Its lookup let go of it when it asked for the close.
                debug_assert!(self.lookups.by_socket(key).is_none());
                self.query_closed();
            }
            ring::Event::Fatal { error } => self.die(error),
        }
    }

    fn connected(&mut self, conn: ConnKey) {
        if let Some(cell) = self.cells.get(conn)
            && let Some(entry) = self.endpoints.get(cell.endpoint)
        {
            entry.shared.board().connected(cell.address);
        }
        self.tell(Event::Connected { conn });
    }

    fn connect_failed(&mut self, conn: ConnKey, error: Error) {
        self.forget(conn);
        self.tell(Event::ConnectFailed { conn, error });
    }

    fn readable(&mut self, conn: ConnKey) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        if cell.is_idle() && !cell.reads_for_itself() {
            self.deferred.calls.push_back(Call::IdleBytes { conn });
        } else {
            cell.read.wake(&mut self.deferred.wakers);
        }
    }

    fn ended(&mut self, conn: ConnKey, how: End) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        cell.end = Some(how);
        cell.read.wake(&mut self.deferred.wakers);
        let reason = match how {
            End::Eof => CloseReason::PeerClosed,
            End::Reset(_) => CloseReason::Reset,
        };
        self.tell(Event::Broken { conn, reason });
    }

    fn writable(&mut self, conn: ConnKey) {
        if let Some(cell) = self.cells.get_mut(conn) {
            cell.write.wake(&mut self.deferred.wakers);
        }
    }

    fn write_failed(&mut self, conn: ConnKey, error: Error) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        cell.failure.get_or_insert(error);
        cell.write.wake(&mut self.deferred.wakers);
        cell.read.wake(&mut self.deferred.wakers);
        self.tell(Event::Broken {
            conn,
            reason: CloseReason::Failed,
        });
    }

    fn write_done(&mut self, conn: ConnKey, buf: ring::OwnedBuf, result: Result<(), Error>) {
        match self.owned.get_mut(&conn) {
            Some(owned) => {
                owned.returned = Some((result, buf));
                if let Some(waker) = owned.waker.take() {
                    self.deferred.wakers.push_back(waker);
                }
            }
            // Nobody waits for it; its drop is the user's code.
            None => self.deferred.calls.push_back(Call::Drop(Box::new(buf))),
        }
    }

    fn closed(&mut self, conn: ConnKey) {
        if let Some(cell) = self.cells.get_mut(conn)
            && !cell.is_closing()
        {
            // Cut; the policy closes it when its user gives it back.
            cell.cut = Cut::Done;
            return;
        }
        if self.cells.get(conn).is_none() {
            self.expected_slot_closed(conn);
        }
        self.end_of(conn);
    }

    /// Nothing of the connection remains in the kernel, and nobody holds it.
    pub(crate) fn end_of(&mut self, conn: ConnKey) {
        self.forget(conn);
        self.tell(Event::Closed { conn });
    }

    /// The shard ends, and with it the connection.
    pub(crate) fn end_with_shard(&mut self, conn: ConnKey) {
        if let Some(cell) = self.cells.get_mut(conn) {
            if !cell.is_closing() {
                cell.stage = Stage::Closing(CloseReason::Drained);
            }
            self.forget(conn);
        }
    }

    /// Closes the socket of a connection that its user holds: it cannot go on. Every operation on
    /// it fails with `error`; the policy frees its slot when the user gives it back.
    pub(crate) fn cut(&mut self, conn: ConnKey, error: Error, reason: CloseReason) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        if cell.cut != Cut::No || cell.is_closing() {
            return;
        }
        cell.cut = Cut::UnderWay;
        cell.failure.get_or_insert(error);
        cell.read.wake(&mut self.deferred.wakers);
        cell.write.wake(&mut self.deferred.wakers);
        self.backend.close(conn.0);
        self.tell(Event::Broken { conn, reason });
    }

    /// The descriptor is gone: so is the cell, and its place on the board.
    fn forget(&mut self, conn: ConnKey) {
        let Some(mut cell) = self.cells.remove(conn) else {
            return;
        };
        self.board_closed(cell.endpoint, cell.address);
        cell.read.wake(&mut self.deferred.wakers);
        cell.write.wake(&mut self.deferred.wakers);
        let entry = self.endpoints.get(cell.endpoint);
        if let (true, Stage::Closing(reason)) = (cell.was_ready, cell.stage)
            && reason != CloseReason::HandedOver
            && let (Some(entry), Some(hook)) = (entry, &self.config.on_connection_closed)
        {
            let endpoint = entry.endpoint.clone();
            let info = ConnectionInfo {
                endpoint,
                address: cell.address,
                closed: Some(reason),
            };
            self.deferred.calls.push_back(Call::Hook {
                hook: hook.clone(),
                info,
            });
        }
        let protocol = entry
            .filter(|_| cell.state.is_some())
            .map(|entry| entry.protocol.clone());
        self.deferred
            .calls
            .push_back(Call::Ended { protocol, cell });
    }
}
