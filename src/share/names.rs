//! Every core needs the addresses of the same few names, and a name server should be asked once.
//! [`Names`] keeps what was learnt, for all cores.
//!
//! Promise: nothing is returned after it expired; a name is asked for at most once per second,
//! whatever its TTL; nothing is kept longer than a day, the absence of a name no longer than 15
//! minutes, a failure to ask no longer than a second; at most [`MAX_NAMES`] names are kept; a
//! failure to ask never replaces addresses that are still fresh.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::sync::{RwLock, read, write};
use crate::error::Error;
use crate::time::Tick;

/// How many names are kept.
pub(super) const MAX_NAMES: usize = 4096;

const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(86_400);
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(900);
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// What is known of a name.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// Its addresses, until the tick.
    Found {
        addresses: Arc<[IpAddr]>,
        expires: Tick,
    },
    /// It has none, or nobody could be asked, until the tick.
    Failed { error: Error, expires: Tick },
}

/// What a lookup has brought.
#[derive(Debug, Clone)]
pub(crate) enum Learned {
    /// Addresses, with the TTL of the answer.
    Found {
        addresses: Arc<[IpAddr]>,
        ttl: Duration,
    },
    /// A server says that there are none, with the TTL of that answer.
    Negative { error: Error, ttl: Duration },
    /// No server gave an answer.
    Failure { error: Error },
}

/// What is known of names, shared by all cores. The keys are canonical host texts.
#[derive(Debug)]
pub(crate) struct Names {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Box<str>, Entry>,
    inserts: u64,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// Which insert made it: the order of age.
    number: u64,
}

impl Known {
    /// When it must be asked again.
    pub(crate) fn expires(&self) -> Tick {
        match self {
            Self::Found { expires, .. } | Self::Failed { expires, .. } => *expires,
        }
    }
}

impl Names {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            table: RwLock::new(Table::default()),
        }
    }

    /// What is known of `host` at `now`.
    pub(crate) fn get(&self, now: Tick, host: &str) -> Option<Known> {
        let table = read(&self.table);
        let entry = table.entries.get(host)?;
        (entry.known.expires() > now).then(|| entry.known.clone())
    }

    /// Keeps what was learnt of `host`, and returns what is known of it from now on.
    pub(crate) fn insert(&self, now: Tick, host: &str, learned: Learned) -> Known {
        let is_failure = matches!(learned, Learned::Failure { .. });
        let known = clamp(now, learned);
        let mut table = write(&self.table);
        if let Some(old) = table.entries.get(host)
            && is_failure
            && matches!(old.known, Known::Found { expires, .. } if expires > now)
        {
            return old.known.clone();
        }
        if table.entries.len() >= MAX_NAMES && !table.entries.contains_key(host) {
            table.make_room(now);
        }
        table.inserts += 1;
        let entry = Entry {
            known: known.clone(),
            number: table.inserts,
        };
        table.entries.insert(host.into(), entry);
        known
    }
}

impl Table {
    /// Removes what has expired, else the oldest entry.
    fn make_room(&mut self, now: Tick) {
        self.entries.retain(|_, entry| entry.known.expires() > now);
        if self.entries.len() < MAX_NAMES {
            return;
        }
        let oldest = self.entries.values().map(|entry| entry.number).min();
        self.entries.retain(|_, entry| Some(entry.number) != oldest);
    }
}

fn clamp(now: Tick, learned: Learned) -> Known {
    match learned {
        Learned::Found { addresses, ttl } => Known::Found {
            addresses,
            expires: now.plus(ttl.clamp(MIN_TTL, MAX_TTL)),
        },
        Learned::Negative { error, ttl } => Known::Failed {
            error,
            expires: now.plus(ttl.clamp(MIN_TTL, MAX_NEGATIVE_TTL)),
        },
        Learned::Failure { error } => Known::Failed {
            error,
            expires: now.plus(FAILURE_TTL),
        },
    }
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn at(seconds: u64) -> Tick {
        Tick::ZERO.plus(Duration::from_secs(seconds))
    }

    fn found(seconds: u64) -> Learned {
        Learned::Found {
            addresses: Arc::from([IpAddr::from([192, 0, 2, 1])]),
            ttl: Duration::from_secs(seconds),
        }
    }

    fn error() -> Error {
        Error::new(ErrorKind::Resolve, "no such name")
    }

    #[test]
    fn an_entry_serves_until_it_expires() {
        let names = Names::new();
        names.insert(at(10), "a.test", found(30));
        assert!(matches!(
            names.get(at(39), "a.test"),
            Some(Known::Found { .. })
        ));
        assert!(names.get(at(40), "a.test").is_none());
        assert!(names.get(at(10), "b.test").is_none());
    }

    #[test]
    fn d22_d23_m6_every_ttl_is_clamped_and_none_overflows() {
        let names = Names::new();
        let negative = |ttl| Learned::Negative {
            error: error(),
            ttl,
        };
        let failure = Learned::Failure { error: error() };
        let cases = [
            (found(0), 1),
            (found(60), 60),
            (found(u64::from(u32::MAX)), 86_400),
            (found(u64::MAX), 86_400),
            (negative(Duration::ZERO), 1),
            (negative(Duration::MAX), 900),
            (failure, 1),
        ];
        for (learned, seconds) in cases {
            let known = names.insert(at(5), "a.test", learned.clone());
            assert_eq!(known.expires(), at(5 + seconds), "{learned:?}");
            names.table.write().unwrap().entries.clear();
        }
        let known = names.insert(Tick::NEVER, "a.test", found(1));
        assert_eq!(known.expires(), Tick::NEVER);
    }

    #[test]
    fn d37_a_failure_never_replaces_fresh_addresses() {
        let names = Names::new();
        names.insert(at(0), "a.test", found(30));
        let kept = names.insert(at(1), "a.test", Learned::Failure { error: error() });
        assert!(matches!(kept, Known::Found { expires, .. } if expires == at(30)));
        names.insert(at(30), "a.test", Learned::Failure { error: error() });
        assert!(matches!(
            names.get(at(30), "a.test"),
            Some(Known::Failed { .. })
        ));
    }

    #[test]
    fn a_full_table_drops_the_expired_first_and_then_the_oldest() {
        let names = Names::new();
        for n in 1..MAX_NAMES {
            names.insert(at(0), &format!("name{n}"), found(100));
        }
        names.insert(at(0), "expiring", found(6));
        names.insert(at(5), "name9", found(100));
        assert!(names.get(at(5), "expiring").is_some(), "no room was needed");
        names.insert(at(6), "next", found(100));
        assert!(names.get(at(6), "name1").is_some());
        names.insert(at(6), "name9", found(100));
        assert!(names.get(at(6), "name1").is_some(), "no room was needed");
        names.insert(at(6), "another", found(100));
        assert!(names.get(at(6), "name1").is_none());
        assert!(names.get(at(6), "name2").is_some());
        assert_eq!(names.table.read().unwrap().entries.len(), MAX_NAMES);
    }
}
