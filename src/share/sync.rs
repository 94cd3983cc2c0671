//! A model checker must run the source that ships, not a copy of it. The primitives of `share/`
//! are imported from here: the standard library's, or loom's under `--cfg ringpool_loom`.
//!
//! Promise: a poisoned lock is entered as if it were not: no critical section of this layer runs
//! a caller's code, and each leaves its data whole before it can panic.

use std::sync::PoisonError;

#[cfg(ringpool_loom)]
pub(super) use loom::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(ringpool_loom))]
pub(super) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

#[cfg(not(ringpool_loom))]
pub(super) use std::sync::OnceLock;

#[cfg(ringpool_loom)]
pub(super) use once::OnceLock;

#[cfg(ringpool_loom)]
mod once {
    //! loom has no `OnceLock`, and does not see the standard one's ordering. This one has the
    //! same ordering in loom's eyes, for cells that one thread alone initialises.

    use super::{AtomicBool, Ordering};

    #[derive(Debug)]
    pub(in super::super) struct OnceLock<T> {
        made: AtomicBool,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(in super::super) fn new() -> Self {
            Self {
                made: AtomicBool::new(false),
                value: std::sync::OnceLock::new(),
            }
        }

        pub(in super::super) fn get(&self) -> Option<&T> {
            if !self.made.load(Ordering::Acquire) {
                return None;
            }
            self.value.get()
        }

        pub(in super::super) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let value = self.value.get_or_init(make);
            if !self.made.load(Ordering::Acquire) {
                self.made.store(true, Ordering::Release);
            }
            value
        }
    }
}

/// Locks `mutex`.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` for reading.
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` for writing.
pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
