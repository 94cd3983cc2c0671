//! What all workloads stand on: contenders in processes of their own that take turns, servers in
//! another process, and rows of medians.

pub mod alloc;
pub mod child;
pub mod cpu;
pub mod html;
pub mod markdown;
pub mod race;
pub mod random;
pub mod record;
pub mod row;
pub mod server;
pub mod strace;
pub mod table;
pub mod workload;

pub use row::{Metric, Role};
pub use server::Kind;
pub use workload::{Case, Entry, Figures, Settings, Workload, figures};
