//! When connections have lived long enough. Every connection has such a moment, most are closed long
//! before it comes, and an ordered set of all would be a good part of what an idle one costs. So they
//! lie in a heap, from which nothing is taken but its first: an entry counts if its connection is
//! there, is [timed](super::conn::Conn::timed), and has that deadline.
//!
//! Promise: a deadline costs O(log n) once, of as many connections as there ever were at once; the next
//! that counts is found in as much for each before it that does not, once. When one is added, there
//! are a quarter more entries than there are connections, at most, and a few.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::PoolPolicy;
use super::conn::Conn;
use super::event::ConnKey;
use crate::slot::{Key, Slots};
use crate::time::Tick;

/// How many entries are kept however few the connections are.
const SPARE: usize = 32;

/// The ends of connections' lives, some of which ended earlier.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    heap: BinaryHeap<Reverse<(Tick, Key)>>,
}

impl PoolPolicy {
    /// The connection lives until its deadline.
    pub(super) fn begin_life(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key.0) else {
            return;
        };
        if conn.deadline == Tick::NEVER {
            return;
        }
        let deadline = conn.deadline;
        let most = self.conns.len() + self.conns.len() / 4 + SPARE;
        let heap = &mut self.lives.heap;
        if heap.len() >= most {
            // A fifth of them at least do not count: the next time is as many deadlines away.
            let timed = self.conns.iter().filter(|(_, conn)| conn.timed);
            heap.clear();
            heap.extend(timed.map(|(key, conn)| Reverse((conn.deadline, key))));
        }
        if heap.len() == heap.capacity() {
            heap.reserve_exact(most - heap.len());
        }
        heap.push(Reverse((deadline, key.0)));
        if let Some(conn) = self.conns.get_mut(key.0) {
            conn.timed = true;
        }
    }

    /// The connection that has lived long enough first, and when.
    pub(super) fn next_end(&mut self) -> Option<(Tick, ConnKey)> {
        loop {
            let first = self.lives.heap.peek_mut()?;
            let Reverse((at, key)) = *first;
            if is_meant(&self.conns, at, key) {
                return Some((at, ConnKey(key)));
            }
            PeekMut::pop(first);
        }
    }

    /// One that has lived long enough, if no other deadline comes first. It counts no more.
    pub(super) fn ended_life(&mut self, now: Tick) -> Option<ConnKey> {
        let (at, key) = self.next_end()?;
        if at > now || self.timers.is_before(at) {
            return None;
        }
        self.lives.heap.pop();
        self.conns.get_mut(key.0)?.timed = false;
        Some(key)
    }

    /// Asserts that whoever is timed will be found, and that the heap is bounded.
    #[cfg(any(test, fuzzing, feature = "sim"))]
    pub(super) fn check_lives(&self) {
        let heap = &self.lives.heap;
        let entries: std::collections::BTreeSet<_> = heap.iter().map(|entry| entry.0).collect();
        for (key, conn) in self.conns.iter() {
            assert!(!conn.timed || entries.contains(&(conn.deadline, key)));
        }
        let most = self.settings.max_connections;
        assert!(heap.len() <= most + most / 4 + SPARE, "lives");
    }
}

fn is_meant(conns: &Slots<Conn>, at: Tick, key: Key) -> bool {
    let conn = conns.get(key);
    conn.is_some_and(|conn| conn.timed && conn.deadline == at)
}
