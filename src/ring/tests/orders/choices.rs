//! Every path through a tree of choices, one run after the other.

use std::cell::{Cell, RefCell};

/// The choices of one run. Made again from the beginning for each run.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// What was picked, and of how many.
    path: RefCell<Vec<(usize, usize)>>,
    at: Cell<usize>,
}

impl Choices {
    /// One of `count`, each in some run.
    pub(super) fn pick(&self, count: usize) -> usize {
        assert!(count > 0, "nothing to choose from");
        if count == 1 {
            return 0;
        }
        let at = self.at.replace(self.at.get() + 1);
        let mut path = self.path.borrow_mut();
        match path.get(at) {
            Some((picked, of)) => {
                assert_eq!(*of, count, "the same choices lead to another place");
                *picked
            }
            None => {
                path.push((0, count));
                0
            }
        }
    }

    /// The next path; `false` if that was the last.
    fn go_on(&self) -> bool {
        self.at.set(0);
        let mut path = self.path.borrow_mut();
        while let Some((picked, of)) = path.pop() {
            if picked + 1 < of {
                path.push((picked + 1, of));
                return true;
            }
        }
        false
    }
}

/// Calls `run` once for each path; how many there were.
pub(super) fn every_path(mut run: impl FnMut(&std::rc::Rc<Choices>)) -> u64 {
    let choices = std::rc::Rc::new(Choices::default());
    let mut count = 0;
    loop {
        run(&choices);
        count += 1;
        if !choices.go_on() {
            return count;
        }
    }
}

#[test]
fn every_path_is_taken_once() {
    let mut seen = std::collections::BTreeSet::new();
    let count = every_path(|choices| {
        let first = choices.pick(3);
        let second = choices.pick(first + 1);
        assert!(seen.insert((first, second)));
    });
    assert_eq!((count, seen.len()), (6, 6));
}
