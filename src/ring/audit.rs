//! What the ring believes of its receives against what is in flight, compared after every step of a
//! simulated world.

use crate::ring::Ring;
use crate::ring::conn::{Conn, Phase, Recv};
use crate::ring::token::Kind;
use crate::slot::Key;

impl Ring {
    /// Every open connection is listened to, or waits in a line that somebody looks at; who waits for
    /// that will be told; what a connection holds is counted, and stopped at its bound.
    ///
    /// # Errors
    ///
    /// The one that is forgotten, or whose account is wrong.
    pub(crate) fn audit(&self) -> Result<(), String> {
        if self.ended || self.queue.dead().is_some() {
            return Ok(());
        }
        for conn in self.conns.iter().filter(|it| it.phase == Phase::Leaving) {
            if self.ops.outstanding(conn.key) == 0 {
                return Err(format!(
                    "I7: {:?} leaves and nothing is under way",
                    conn.key
                ));
            }
        }
        for conn in self.conns.iter().filter(|conn| conn.phase == Phase::Open) {
            let key = conn.key;
            let forgotten = match conn.recv {
                Recv::Armed | Recv::Cancelling => !self.ops.has(Kind::Recv, key),
                Recv::Starved => {
                    let in_line = self.starved.iter().any(|line| line.contains(&key));
                    !in_line || !self.pool.starving.get()
                }
                // Only a reader brings it on, so there must be something to read.
                Recv::Paused => conn.unread <= self.config.recv_limit / 2,
                Recv::Off | Recv::Done => false,
            };
            if forgotten {
                return Err(format!(
                    "I7: the receive of {key:?} is {:?} and forgotten",
                    conn.recv
                ));
            }
            self.audit_awaited(conn)?;
            self.audit_held(conn)?;
        }
        self.audit_full()
    }

    /// Whether a `Watched` is still to come for the connection, and not queued yet.
    pub(crate) fn owes_watched(&self, key: Key) -> bool {
        self.live(key).is_some_and(|conn| conn.awaited)
    }

    /// A `Watched` is owed only while the receive can still be armed.
    fn audit_awaited(&self, conn: &Conn) -> Result<(), String> {
        let stopped = matches!(conn.recv, Recv::Cancelling | Recv::Starved | Recv::Paused);
        match conn.awaited && !stopped {
            true => Err(format!(
                "I7: the receive of {:?} is {:?}, and who waits for that was not told",
                conn.key, conn.recv
            )),
            false => Ok(()),
        }
    }

    /// What is unread and lent is what the pieces say, and a receive over its bound is being stopped.
    fn audit_held(&self, conn: &Conn) -> Result<(), String> {
        let key = conn.key;
        let bytes: usize = self
            .pieces
            .iter(&conn.pieces)
            .map(|piece| piece.len())
            .sum();
        let lent = self
            .pieces
            .iter(&conn.pieces)
            .filter(|piece| piece.is_lent())
            .count();
        let most = usize::from((self.pool.count() / 8).max(1));
        if conn.unread != bytes || usize::from(conn.lent) != lent || lent > most {
            let counted = (conn.unread, conn.lent);
            return Err(format!(
                "I4: {key:?} counts {counted:?} bytes and buffers and has {bytes} and {lent}, of {most}"
            ));
        }
        let goes_on = conn.recv == Recv::Armed && conn.unread >= self.config.recv_limit;
        if goes_on && !conn.noted && !self.ops.has(Kind::CancelRecv, key) {
            return Err(format!(
                "I8: {key:?} holds {bytes} bytes, and nobody stops its receive"
            ));
        }
        Ok(())
    }

    /// The list of those to be looked at names each tenant once, and whoever is noted is in it.
    fn audit_full(&self) -> Result<(), String> {
        let noted = self.conns.iter().filter(|conn| conn.noted);
        for conn in noted.clone() {
            let times = self.full.iter().filter(|key| **key == conn.key).count();
            if times != 1 {
                return Err(format!("I8: {:?} is {times} times in the list", conn.key));
            }
        }
        let stale = self.full.len() - noted.count();
        match stale > self.conns.len() {
            true => Err(format!("I8: {stale} that are gone are in the list")),
            false => Ok(()),
        }
    }
}
