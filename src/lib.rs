//! ringpool is a connection pool for high-throughput Linux services: ask for a connection to a
//! *name*, get a live one to the least loaded of its addresses.
//!
//! Every core has its own pool, [`Pool::local`], driven by an io_uring submission loop of its own
//! inside the core's runtime (tokio-uring's, or tokio's alone: [`TaskRuntime`]); taking a connection
//! takes no lock and no atomic read-modify-write, and neither does releasing it while no other core
//! waits for one. The cores share a resolver cache, a board of connection counts and the right to
//! hold a connection.
//!
//! ```no_run
//! use ringpool::{Config, Pool, Shards};
//!
//! fn main() -> ringpool::Result<()> {
//!     Shards::builder().config(Config::default()).build()?.run_on_each(|| async {
//!         let pool = Pool::local()?;
//!         let conn = pool.get("localhost:80").await?;
//!         conn.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
//!         let head = conn.read_until(b"\r\n\r\n", 16 * 1024).await?; // every read has a maximum
//!         conn.release(); // at a message boundary: reusable
//!         assert!(head.starts_with(b"HTTP/1.1"));
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Where to go from here: [`Shards`] starts the threads, or [`Group`] joins threads you have;
//! [`Config`] has every limit; [`Conn`] and [`Stream`] read and write; [`Protocol`] keeps state
//! per connection; [`Stats`] tells what the pool holds and why it closed what it does not.

mod balance;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod config;
mod conn;
mod dns;
mod endpoint;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod hooks;
mod host;
mod line;
mod local;
#[cfg(feature = "sim")]
mod machine;
mod policy;
mod pool;
mod protocol;
mod resolved;
mod resolver;
mod ring;
mod shard;
mod shards;
mod share;
#[cfg(feature = "sim")]
pub mod sim;
mod slot;
mod stats;
mod stream;
mod target;
mod time;

pub use balance::{Balance, Weights};
pub use config::Config;
pub use conn::Conn;
pub use endpoint::{Endpoint, EndpointError, EndpointFault, Partition};
pub use error::{Error, ErrorKind, Exhaustion, Result};
pub use group::{Group, Member};
pub use hooks::{CloseReason, ConnectionInfo, HealthCheck, Hook};
pub use host::{TaskHandle, spawn};
pub use pool::{EndpointHandle, Get, Pool};
pub use protocol::{Access, Packed, Plain, Protocol};
pub use resolved::{Place, Resolved, Resolving, Source};
pub use resolver::{
    Answered, Families, IpPrefix, NameTable, Resolve, Resolver, ResolverOptions, SystemFiles,
};
pub use shard::{ShardStats, Trace, TraceRecord};
pub use shards::{Remote, Shards, ShardsBuilder, TaskRuntime};
pub use stats::{AddressStats, CoreStats, Stats};
pub use stream::{Chunk, Stream};

/// The program of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
