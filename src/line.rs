//! A connection has several queues, and nearly all of them are empty nearly always: a buffer for each
//! would be most of what an idle connection keeps. [`Lines`] has the entries of many short queues in
//! one table; a [`Line`] is one of them, and takes eight bytes.
//!
//! Promise: an entry leaves its queue in the order in which it came; pushing and popping are O(1) and
//! allocate nothing unless more entries are there at once, in all queues, than ever before. That
//! many places stay.

use slab::Slab;

/// One queue of a table. It is used with that table alone, and emptied before it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// One more than the index of its oldest entry; 0 if there is none.
    first: u32,
    /// The same of its newest.
    last: u32,
}

impl Line {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
    }
}

/// The entries of many queues.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    entries: Slab<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    /// One more than the index of the entry behind it; 0 if there is none.
    next: u32,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
        }
    }
}

impl<T> Lines<T> {
    /// Puts `value` behind all others of the queue.
    pub(crate) fn push_back(&mut self, line: &mut Line, value: T) {
        let place = self.entries.insert(Entry { value, next: 0 }) as u32 + 1;
        match self.entries.get_mut((line.last as usize).wrapping_sub(1)) {
            Some(last) => last.next = place,
            None => line.first = place,
        }
        line.last = place;
    }

    /// Takes the oldest entry of the queue out.
    pub(crate) fn pop_front(&mut self, line: &mut Line) -> Option<T> {
        let place = line.first.checked_sub(1)?;
        let entry = self.entries.try_remove(place as usize)?;
        line.first = entry.next;
        if entry.next == 0 {
            line.last = 0;
        }
        Some(entry.value)
    }

    /// The oldest entry of the queue.
    #[inline]
    pub(crate) fn front_mut(&mut self, line: &Line) -> Option<&mut T> {
        let place = line.first.checked_sub(1)?;
        let entry = self.entries.get_mut(place as usize)?;
        Some(&mut entry.value)
    }

    /// The newest entry of the queue.
    pub(crate) fn back_mut(&mut self, line: &Line) -> Option<&mut T> {
        let place = line.last.checked_sub(1)?;
        let entry = self.entries.get_mut(place as usize)?;
        Some(&mut entry.value)
    }

    /// Empties the queue.
    pub(crate) fn clear(&mut self, line: &mut Line) {
        while self.pop_front(line).is_some() {} // bounded: each takes one out
    }

    /// The queue, oldest first.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn iter(&self, line: &Line) -> impl Iterator<Item = &T> {
        let entry = |place: u32| self.entries.get((place as usize).wrapping_sub(1));
        let entries = std::iter::successors(entry(line.first), move |at| entry(at.next));
        entries.map(|entry| &entry.value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn queues_of_one_table_keep_their_entries_in_order(
            steps in proptest::collection::vec((0..4_usize, 0..4_u8), 0..200),
        ) {
            let mut lines = Lines::default();
            let mut model: [VecDeque<usize>; 4] = Default::default();
            let mut queues: [Line; 4] = Default::default();
            for (number, (which, what)) in steps.into_iter().enumerate() {
                let (line, model) = (&mut queues[which], &mut model[which]);
                match what {
                    0 => prop_assert_eq!(lines.pop_front(line), model.pop_front()),
                    1 if number % 8 == 0 => {
                        lines.clear(line);
                        model.clear();
                    }
                    _ => {
                        lines.push_back(line, number);
                        model.push_back(number);
                    }
                }
                prop_assert_eq!(line.is_empty(), model.is_empty());
                prop_assert_eq!(lines.back_mut(line), model.back_mut());
                prop_assert!(lines.iter(line).eq(model.iter()));
            }
            let left: usize = model.iter().map(VecDeque::len).sum();
            prop_assert_eq!(lines.entries.len(), left);
        }
    }

    #[test]
    fn r20_an_empty_queue_takes_eight_bytes() {
        assert_eq!(size_of::<Line>(), 8);
    }
}
