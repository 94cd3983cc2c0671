//! What is known of a question, as those who need an answer are told it.

use std::net::SocketAddr;

use super::record::Records;
use crate::error::Error;
use crate::time::Tick;

/// What is known of a question.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// Records, fresh.
    Found {
        records: Records,
        server: SocketAddr,
        /// When the answer came.
        learned: Tick,
        /// From when on it is worth to ask again before they expire.
        refresh: Tick,
        expires: Tick,
    },
    /// Records whose time is over; nothing better could be had, and is not asked for before `until`.
    Stale {
        records: Records,
        server: SocketAddr,
        until: Tick,
    },
    /// The name has no records of this kind.
    NoData { server: SocketAddr },
    /// There is no such name.
    NxDomain { server: SocketAddr },
    /// Nobody could be asked, and nobody is before `until`.
    Failed { error: Error, until: Tick },
}

/// What was known of a question that is being asked again.
#[derive(Debug, Clone)]
pub(crate) enum Old {
    Found {
        records: Records,
        server: SocketAddr,
    },
    /// There was nothing, of this kind or at all.
    Absent,
}
