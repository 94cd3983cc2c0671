//! Whose connection has been idle longest: it is the first to go when it has idled too long, and
//! when another endpoint wants its slot or its permit. An order of all idle connections would
//! change twice with each use; an endpoint's own are in order already, so here the endpoints are,
//! each by a moment that may lie too early, and is put right when somebody asks. Of connections
//! that came free at the same moment, that of the endpoint with the lower key counts as the oldest.
//!
//! Promise: a use costs one comparison, and O(log n) of n endpoints if nothing of its own was noted
//! or what was noted is later; a question costs O(log n) for each endpoint that was used since it
//! was first in the order last, n at most, and as much for each note that a later one replaced,
//! once. There are twice as many entries as there were endpoints at once, at most, and a few.

use std::cmp::Reverse;
#[cfg(any(test, fuzzing, feature = "sim"))]
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::PoolPolicy;
use super::event::EndpointKey;
use crate::slot::Key;
use crate::time::Tick;

/// How many entries are kept however few the endpoints are.
const SPARE: usize = 8;

/// Endpoints by when the oldest of their idle connections became so, or before. An entry counts if
/// its endpoint is there and has the same moment noted.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    heap: BinaryHeap<Reverse<(Tick, EndpointKey)>>,
}

impl PoolPolicy {
    /// A connection of the endpoint has been idle since `since`, which is before what was noted.
    #[cold]
    pub(super) fn note_age(&mut self, endpoint: EndpointKey, since: Tick) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        bucket.aged = since;
        if self.ages.heap.len() < most(self.endpoints.len()) {
            self.ages.heap.push(Reverse((since, endpoint)));
            return;
        }
        // Half of them at least do not count: the next time is as many notes away.
        let noted = self.endpoints.iter().filter(|(_, b)| b.aged != Tick::NEVER);
        let entries = noted.map(|(key, bucket)| Reverse((bucket.aged, EndpointKey(key))));
        self.ages.heap.clear();
        self.ages.heap.extend(entries);
    }

    /// The connection that has been idle longest, and since when.
    pub(super) fn oldest_idle(&mut self) -> Option<(Key, Tick)> {
        loop {
            let mut first = self.ages.heap.peek_mut()?;
            let Reverse((noted, endpoint)) = *first;
            let bucket = self.endpoints.get_mut(endpoint.0);
            let Some(bucket) = bucket.filter(|bucket| bucket.aged == noted) else {
                PeekMut::pop(first);
                continue;
            };
            let oldest = bucket.idle.last();
            let found = oldest.and_then(|key| Some((key, self.conns.get(key)?.idle_since)));
            if let Some((_, since)) = found
                && since == noted
            {
                return found;
            }
            bucket.aged = found.map_or(Tick::NEVER, |(_, since)| since);
            match found {
                Some((_, since)) => *first = Reverse((since, endpoint)),
                None => drop(PeekMut::pop(first)),
            }
        }
    }

    /// The longest idle connection, and when it has been idle too long.
    pub(super) fn idle_deadline(&mut self) -> Option<(Key, Tick)> {
        let (oldest, since) = self.oldest_idle()?;
        let deadline = since.plus(self.settings.max_idle_time);
        (deadline != Tick::NEVER).then_some((oldest, deadline))
    }

    /// Asserts that the oldest can be found.
    #[cfg(any(test, fuzzing, feature = "sim"))]
    pub(super) fn check_ages(&self) {
        let limit = most(self.settings.max_endpoints);
        assert!(self.ages.heap.len() <= limit, "notes");
        let entries: BTreeSet<_> = self.ages.heap.iter().map(|Reverse(entry)| *entry).collect();
        for (key, bucket) in self.endpoints.iter() {
            let idle = bucket.idle.keys(&self.conns, |c| &c.links);
            let since = idle.iter().filter_map(|key| self.conns.get(*key));
            let since: Vec<Tick> = since.map(|conn| conn.idle_since).collect();
            assert!(since.iter().rev().is_sorted(), "by age");
            let entry = (bucket.aged, EndpointKey(key));
            assert!(
                bucket.aged == Tick::NEVER || entries.contains(&entry),
                "ages"
            );
            assert!(since.last().is_none_or(|oldest| bucket.aged <= *oldest));
        }
    }
}

/// Entries for `endpoints`: as many again as count may be there that do not.
fn most(endpoints: usize) -> usize {
    2 * endpoints + SPARE
}
