//! A task asks for the pool of the core it runs on; this is where the core's thread keeps it.
//!
//! Promise: a thread without a shard, and a thread that is being torn down, get an error, never a
//! panic.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::{Error, ErrorKind, Result};
use crate::shard::Shard;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Shard>>> = const { RefCell::new(None) };
}

/// The shard of this thread.
pub(crate) fn current() -> Result<Rc<Shard>> {
    let current = CURRENT.try_with(|current| current.borrow().clone());
    current.ok().flatten().ok_or_else(|| {
        Error::new(
            ErrorKind::NotOnShard,
            "this thread has no pool: run on a thread of `Shards`, or `Group::join` it first",
        )
    })
}

/// Makes `shard` this thread's. An error if it has one.
pub(crate) fn set(shard: Rc<Shard>) -> Result<()> {
    CURRENT.with(|current| {
        let mut current = current.borrow_mut();
        if current.is_some() {
            let text = "this thread already has a pool";
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        *current = Some(shard);
        Ok(())
    })
}

/// Makes `shard` the thread's for a while and returns the one before.
#[cfg(feature = "sim")]
pub(crate) fn swap(shard: Option<Rc<Shard>>) -> Option<Rc<Shard>> {
    CURRENT.replace(shard)
}

/// Takes the shard away from this thread, if it is `shard`.
pub(crate) fn unset(shard: &Shard) {
    let taken = CURRENT.try_with(|current| {
        let mut current = current.borrow_mut();
        let ours = current
            .as_ref()
            .is_some_and(|it| std::ptr::eq(&**it, shard));
        if ours { current.take() } else { None }
    });
    // Dropped here, outside of the borrow: its drop may look at the thread's shard again.
    drop(taken);
}
