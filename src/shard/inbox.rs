//! Other threads cannot enter a shard; they leave a job in its inbox and wake it.
//!
//! Promise: bounded; a job is run on the shard's thread, or dropped there or here when the shard
//! has ended, never lost in between.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::share::{Mailbox, Wake};

use super::deferred::Job;

/// Jobs that may wait on one shard.
const CAPACITY: usize = 4096;

/// The way for other threads to have something run on a shard.
#[derive(Clone)]
pub(crate) struct Inbox {
    jobs: Arc<Mailbox<Job>>,
}

impl Inbox {
    pub(crate) fn new(wake: Arc<Wake>) -> Self {
        Self {
            jobs: Arc::new(Mailbox::new(CAPACITY, wake)),
        }
    }

    /// Leaves a job and wakes the shard.
    pub(crate) fn send(&self, job: Job) -> Result<()> {
        self.jobs
            .push(job)
            .map_err(|_job| match self.jobs.is_closed() {
                true => Error::new(ErrorKind::NotOnShard, "the shard has ended"),
                false => Error::new(
                    ErrorKind::Exhausted,
                    format!("{CAPACITY} jobs already wait to be run on this shard"),
                ),
            })
    }

    pub(super) fn pop(&self) -> Option<Job> {
        self.jobs.pop()
    }

    /// Takes no more. Dropping what was left tells its senders.
    pub(super) fn close(&self) -> Vec<Job> {
        self.jobs.close()
    }
}
