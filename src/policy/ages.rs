//! Whose connection has been idle longest: it is the first to go when it has idled too long, and when
//! another endpoint wants its slot or its permit. An order of all idle connections would change
//! twice with each use; an endpoint's own are in order already, so here the endpoints are, each by a
//! moment that may lie too early, and is put right when somebody asks. Of connections that came free at
//! the same moment, that of the endpoint with the lower key counts as the oldest.
//!
//! Promise: a use costs one comparison, and O(log n) of n endpoints if nothing of its own was noted;
//! a question costs O(log n) for each endpoint that was used since the last one, and no others. There
//! is one entry for each endpoint at most. What came from another core and has idled longer than
//! anything here, and an endpoint that goes, cost O(n).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::PoolPolicy;
use super::event::EndpointKey;
use crate::slot::Key;
use crate::time::Tick;

/// Endpoints by when the oldest of their idle connections became so, or before.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    heap: BinaryHeap<Reverse<(Tick, EndpointKey)>>,
}

impl Ages {
    /// It is not among them any more.
    fn remove(&mut self, endpoint: EndpointKey) {
        self.heap.retain(|Reverse((_, it))| *it != endpoint);
    }
}

impl PoolPolicy {
    /// A connection of the endpoint has been idle since `since`, which is before what was noted.
    #[cold]
    pub(super) fn note_age(&mut self, endpoint: EndpointKey, since: Tick) {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return;
        };
        if std::mem::replace(&mut bucket.aged, since) != Tick::NEVER {
            self.ages.remove(endpoint);
        }
        self.ages.heap.push(Reverse((since, endpoint)));
    }

    /// The endpoint goes.
    pub(super) fn forget_age(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && std::mem::replace(&mut bucket.aged, Tick::NEVER) != Tick::NEVER
        {
            self.ages.remove(endpoint);
        }
    }

    /// The connection that has been idle longest, and since when.
    pub(super) fn oldest_idle(&mut self) -> Option<(Key, Tick)> {
        loop {
            let mut first = self.ages.heap.peek_mut()?;
            let Reverse((noted, endpoint)) = *first;
            let bucket = self.endpoints.get_mut(endpoint.0);
            let oldest = bucket.as_ref().and_then(|bucket| bucket.idle.last());
            let found = oldest.and_then(|key| Some((key, self.conns.get(key)?.idle_since)));
            if let Some((_, since)) = found
                && since == noted
            {
                return found;
            }
            let since = found.map_or(Tick::NEVER, |(_, since)| since);
            if let Some(bucket) = bucket {
                bucket.aged = since;
            }
            match found {
                Some(_) => *first = Reverse((since, endpoint)),
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
        let noted = self.endpoints.iter().filter(|(_, b)| b.aged != Tick::NEVER);
        assert_eq!(noted.count(), self.ages.heap.len(), "ages");
        for Reverse((noted, endpoint)) in &self.ages.heap {
            let bucket = self.endpoints.get(endpoint.0);
            assert_eq!(bucket.map(|bucket| bucket.aged), Some(*noted));
        }
        for (_, bucket) in self.endpoints.iter() {
            let idle = bucket.idle.keys(&self.conns, |c| &c.links);
            let since = idle.iter().filter_map(|key| self.conns.get(*key));
            let since: Vec<Tick> = since.map(|conn| conn.idle_since).collect();
            assert!(since.iter().rev().is_sorted(), "by age");
            assert!(since.last().is_none_or(|oldest| bucket.aged <= *oldest));
        }
    }
}
