//! A task that never waits stops the driver and every timer of its core: gets that all hit would
//! run for ever. A get therefore spends the runtime's cooperative budget.

use std::task::{Context, Poll};

use tokio::task::coop::{RestoreOnPending, poll_proceed};

/// One unit; it is given back when dropped, unless it has made progress.
pub(crate) type Unit = RestoreOnPending;

/// `Pending`, with the task already queued again, when the task has had its share of this turn.
/// Call `made_progress` on the result once something was handed out; else the unit is given back.
#[inline]
pub(crate) fn poll_budget(cx: &mut Context<'_>) -> Poll<Unit> {
    poll_proceed(cx)
}
