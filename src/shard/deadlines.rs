//! A connection has several deadlines at once: of a read, a write, a stage. They share one entry in
//! the shard's heap, set anew when it is due.
//!
//! Promise: what waits is looked at no later than its deadline and the driver's next turn; the heap
//! holds at most twice as many entries as there may be connections.

use std::cmp::Reverse;

use super::cells::Stage;
use super::core::Core;
use crate::error::{Error, ErrorKind};
use crate::policy::event::{ConnKey, Event};
use crate::time::Tick;

/// Connections whose deadline is looked at in one turn.
const MAX_TIMERS: usize = 1024;

impl Core {
    /// Sees to it that the deadlines of `conn` are looked at in time.
    pub(crate) fn arm_timer(&mut self, conn: ConnKey) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        let Some(due) = cell.deadline() else { return };
        if cell.timed <= due {
            return;
        }
        cell.timed = due;
        self.timers.push(Reverse((due, conn.0)));
        self.prune_timers();
        self.wake_if_earlier(due);
    }

    /// Connections that have ended leave their entry behind until it is due; where connections
    /// come and go quickly those would pile up.
    fn prune_timers(&mut self) {
        if self.timers.len() > 64 + 2 * self.config.max_connections_per_shard {
            // Anew, for a connection may have its moment there twice.
            self.timers.clear();
            let timed = self.cells.iter().filter(|cell| cell.timed != Tick::NEVER);
            let entries = timed.map(|cell| Reverse((cell.timed, cell.conn.0)));
            self.timers.extend(entries);
        }
    }

    /// How many entries the timers have.
    #[cfg(feature = "sim")]
    pub(crate) fn timer_count(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn timers_due(&mut self) {
        for _ in 0..MAX_TIMERS {
            let Some(Reverse((at, key))) = self.timers.peek().copied() else {
                return;
            };
            if at > self.now {
                return;
            }
            self.timers.pop();
            let conn = ConnKey(key);
            if self.cells.get(conn).is_some_and(|cell| cell.timed == at) {
                self.late(conn);
            }
        }
    }

    /// A timer entry of `conn` is due: something of it may be late.
    fn late(&mut self, conn: ConnKey) {
        let now = self.now;
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        cell.timed = Tick::NEVER;
        cell.read.expire(now, &mut self.deferred.wakers);
        let late_write = cell.write.expire(now, &mut self.deferred.wakers);
        if late_write && self.owned.contains_key(&conn) {
            self.owned_is_late(conn);
            self.arm_timer(conn);
            return;
        }
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        match cell.stage {
            Stage::Initialising(at) if at <= now => {
                cell.stage = Stage::Ready;
                let error = Error::new(
                    ErrorKind::ConnectTimeout,
                    "the protocol's init took too long",
                );
                self.tell(Event::InitFailed { conn, error });
            }
            Stage::Checking(at) | Stage::Looked(at) if at <= now => {
                cell.stage = Stage::Ready;
                self.tell(Event::HealthChecked {
                    conn,
                    healthy: false,
                });
            }
            _ => self.arm_timer(conn),
        }
    }

    /// The driver sleeps until its last known deadline; an earlier one must wake it.
    pub(crate) fn wake_if_due_earlier(&mut self) {
        let due = self.next_due();
        self.wake_if_earlier(due);
    }

    fn wake_if_earlier(&mut self, due: Tick) {
        if due < self.asleep_until {
            self.asleep_until = due;
            self.signal.ask();
        }
    }
}
