//! Benchmarks are crates of their own (`benches/`) and see what is public. With the feature `bench`
//! alone this is public too, for `benches/parts.rs`, and is no part of the interface: parts that no
//! user can reach, each with the work that is timed.

pub use crate::policy::bench::OneEndpoint;
pub use crate::ring::bench::there_and_back;
pub use crate::share::bench::{Handover, OneBoard, OneLimit};
