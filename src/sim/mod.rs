//! A service's retries, timeouts and shutdown are right or wrong in orders of events that a test on
//! a real network hardly ever sees. In a [`World`] the service's own code runs on the pool's own
//! code, and the network, the name servers, the clock and the order of tasks come from one number.
//!
//! Promise: the same seed gives the same run, byte for byte. Time is virtual and moves only when
//! nothing can run: a test of a one-minute timeout takes microseconds. A run in which nothing can
//! go on any more ends with a [`Stuck`] that says who waits for what.
//!
//! ```
//! use ringpool::sim::{Script, World};
//! use ringpool::{ErrorKind, Pool};
//!
//! let world = World::new(7)?;
//! let server = world.server("redis.test:6379", &["10.0.0.1"])?;
//! server.on_connect(Script::new().expect("PING\r\n").send("+PONG\r\n"));
//! server.on_connect(Script::new().expect("PING\r\n").end()); // the second one hangs up
//! world.run_on(0, async {
//!     let pool = Pool::local()?;
//!     let first = pool.get("redis.test:6379").await?;
//!     first.write_all(b"PING\r\n").await?;
//!     assert_eq!(first.read_line(64).await?, "+PONG");
//!     let second = pool.get("redis.test:6379").await?;
//!     second.write_all(b"PING\r\n").await?;
//!     assert_eq!(second.read_line(64).await.unwrap_err().kind(), ErrorKind::Closed);
//!     Ok::<(), ringpool::Error>(())
//! })??;
//! assert_eq!(server.received(0), b"PING\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Names are asked of the world's own [name servers](World::name_servers), which answer truthfully
//! unless a [`Manner`] says otherwise.
//!
//! Tasks, waits and limits inside of a world are [`spawn`](crate::spawn), [`sleep`] and
//! [`timeout`]; what a runtime offers instead is not known to the world, and never ends there.

mod core;
mod files;
mod gossip;
mod names;
mod script;
mod server;
pub mod swarm;
mod world;

use std::future::Future;
use std::time::Duration;

pub use self::names::{Asked, LIE, Lie, Manner, NameServer, Rcode};
pub use self::script::{Gate, Script};
pub use self::server::Server;
pub use self::world::{Stuck, World, WorldBuilder};
use crate::error::{Error, ErrorKind, Result};
use crate::machine;
pub use crate::machine::Fault;
use crate::time::Tick;

/// The virtual time since the world began; `None` outside of a world.
pub fn now() -> Option<Duration> {
    let place = machine::current()?;
    Some(place.machine.now().since(Tick::ZERO))
}

/// Waits for `time` of the world's clock.
///
/// # Panics
///
/// Outside of a world.
pub async fn sleep(time: Duration) {
    let machine = here().machine;
    machine.sleep_until(machine.now().plus(time)).await;
}

/// Runs `future` for `time` of the world's clock at most.
///
/// # Errors
///
/// [`ErrorKind::GetTimeout`] if it was not done by then; it is dropped.
///
/// # Panics
///
/// Outside of a world.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output> {
    let machine = here().machine;
    let late = machine.sleep_until(machine.now().plus(time));
    let done = crate::ring::until(late, future).await;
    done.ok_or_else(|| {
        let text = format!("not done after {} ms", time.as_millis());
        Error::new(ErrorKind::GetTimeout, text)
    })
}

#[allow(clippy::expect_used)]
fn here() -> machine::Current {
    machine::current().expect("called outside of a simulated world")
}
