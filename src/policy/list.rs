//! Idle connections leave from either end and from the middle, and so do waiters: a queue that
//! finds its entries by searching makes a cancel storm quadratic. [`List`] threads its order
//! through the entries of a [`Slots`] table.
//!
//! Promise: every operation allocates nothing and is O(1), but for `insert`, which is for what
//! happens rarely.

use crate::slot::{Key, Slots};

/// An entry's place in one list.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Links {
    prev: Option<Key>,
    next: Option<Key>,
}

impl Links {
    /// The entry after it.
    #[inline]
    pub(crate) fn next(&self) -> Option<Key> {
        self.next
    }
}

/// A doubly linked list over the entries of a table. An entry has one [`Links`] per list it can
/// be in; which one is meant is said by the accessor that every operation takes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct List {
    first: Option<Key>,
    last: Option<Key>,
    len: usize,
}

impl List {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<Key> {
        self.first
    }

    #[inline]
    pub(crate) fn last(&self) -> Option<Key> {
        self.last
    }

    /// Puts the entry, which is in no list of this accessor, in front.
    #[inline]
    pub(crate) fn push_first<T>(
        &mut self,
        table: &mut Slots<T>,
        key: Key,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let next = self.first;
        if let Some(entry) = table.get_mut(key) {
            *links(entry) = Links { prev: None, next };
        }
        match next.and_then(|next| table.get_mut(next)) {
            Some(entry) => links(entry).prev = Some(key),
            None => self.last = Some(key),
        }
        self.first = Some(key);
        self.len += 1;
    }

    /// Puts the entry, which is in no list of this accessor, at the end.
    #[inline]
    pub(crate) fn push_last<T>(
        &mut self,
        table: &mut Slots<T>,
        key: Key,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let prev = self.last;
        if let Some(entry) = table.get_mut(key) {
            *links(entry) = Links { prev, next: None };
        }
        match prev.and_then(|prev| table.get_mut(prev)) {
            Some(entry) => links(entry).next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.len += 1;
    }

    /// Puts the entry, which is in no list of this accessor, in front of the first that `is_behind`
    /// it, or at the end. Goes through the list from its first entry.
    pub(crate) fn insert<T>(
        &mut self,
        table: &mut Slots<T>,
        key: Key,
        links: impl Fn(&mut T) -> &mut Links,
        is_behind: impl Fn(&T) -> bool,
    ) {
        let mut at = self.first;
        while let Some(next) = at
            && let Some(entry) = table.get_mut(next)
            && !is_behind(entry)
        {
            at = links(entry).next;
        }
        let Some(next) = at else {
            return self.push_last(table, key, links);
        };
        let prev = table.get_mut(next).and_then(|entry| links(entry).prev);
        let Some(prev) = prev else {
            return self.push_first(table, key, links);
        };
        if let Some(entry) = table.get_mut(key) {
            *links(entry) = Links {
                prev: Some(prev),
                next: Some(next),
            };
        }
        if let Some(entry) = table.get_mut(prev) {
            links(entry).next = Some(key);
        }
        if let Some(entry) = table.get_mut(next) {
            links(entry).prev = Some(key);
        }
        self.len += 1;
    }

    /// Takes the entry, which is in this list, out.
    #[inline]
    pub(crate) fn remove<T>(
        &mut self,
        table: &mut Slots<T>,
        key: Key,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let Some(entry) = table.get_mut(key) else {
            return;
        };
        let at = std::mem::take(links(entry));
        self.unlink(table, at, links);
    }

    /// Closes the gap that an entry leaves which is taken out, and was at `at`.
    #[inline]
    pub(crate) fn unlink<T>(
        &mut self,
        table: &mut Slots<T>,
        at: Links,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let Links { prev, next } = at;
        match prev.and_then(|prev| table.get_mut(prev)) {
            Some(entry) => links(entry).next = next,
            None => self.first = next,
        }
        match next.and_then(|next| table.get_mut(next)) {
            Some(entry) => links(entry).prev = prev,
            None => self.last = prev,
        }
        self.len -= 1;
    }

    /// The keys from first to last.
    #[cfg(any(test, fuzzing, feature = "sim"))]
    pub(crate) fn keys<T>(&self, table: &Slots<T>, links: impl Fn(&T) -> &Links) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut at = self.first;
        while let Some(key) = at {
            keys.push(key);
            assert!(keys.len() <= self.len, "the list has a loop");
            at = table.get(key).and_then(|entry| links(entry).next);
        }
        assert_eq!(keys.len(), self.len);
        assert_eq!(keys.last().copied(), self.last);
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_leave_from_both_ends_and_the_middle() {
        let mut table: Slots<Links> = Slots::with_capacity(4);
        let mut list = List::default();
        let keys: Vec<Key> = (0..4)
            .map(|_| table.insert(Links::default()).unwrap())
            .collect();
        list.push_last(&mut table, keys[1], |l| l);
        list.push_last(&mut table, keys[2], |l| l);
        list.push_first(&mut table, keys[0], |l| l);
        list.push_last(&mut table, keys[3], |l| l);
        assert_eq!(list.keys(&table, |l| l), keys);
        list.remove(&mut table, keys[2], |l| l);
        assert_eq!(list.keys(&table, |l| l), [keys[0], keys[1], keys[3]]);
        list.remove(&mut table, keys[0], |l| l);
        list.remove(&mut table, keys[3], |l| l);
        assert_eq!((list.first(), list.last()), (Some(keys[1]), Some(keys[1])));
        list.remove(&mut table, keys[1], |l| l);
        assert!(list.is_empty() && list.first().is_none() && list.last().is_none());
    }

    #[test]
    fn an_entry_can_take_its_place_in_the_order() {
        let mut table: Slots<(u32, Links)> = Slots::with_capacity(5);
        let mut list = List::default();
        for number in [3, 1, 4, 2, 5] {
            let key = table.insert((number, Links::default())).unwrap();
            list.insert(&mut table, key, |e| &mut e.1, |e| e.0 > number);
        }
        let keys = list.keys(&table, |e| &e.1);
        let numbers = keys.iter().map(|key| table.get(*key).unwrap().0);
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        for key in keys {
            list.remove(&mut table, key, |e| &mut e.1);
        }
        assert!(list.is_empty() && list.first().is_none() && list.last().is_none());
    }
}
