//! ringpool is a connection pool for high-throughput Linux services.

mod config;
mod endpoint;
mod error;
mod policy;
mod slot;
mod time;

pub use error::{Error, ErrorKind, Exhaustion, Result};
