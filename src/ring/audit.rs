//! What the ring believes of its receives against what is in flight, compared after every step of a
//! simulated world.

use crate::ring::Ring;
use crate::ring::conn::{Phase, Recv};
use crate::ring::token::Kind;

impl Ring {
    /// Every open connection is listened to, or waits in a line that somebody looks at.
    ///
    /// # Errors
    ///
    /// The one that is forgotten.
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
                Recv::Off | Recv::Paused | Recv::Done => false,
            };
            if forgotten {
                return Err(format!(
                    "I7: the receive of {key:?} is {:?} and forgotten",
                    conn.recv
                ));
            }
        }
        Ok(())
    }
}
