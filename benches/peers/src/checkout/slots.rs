//! The limit: a stack of numbers that only its thread knows.

use std::cell::RefCell;
use std::hint::black_box;

use crate::Outcome;
use crate::harness::race::{Operation, race};
use crate::harness::{Figures, Settings};

struct Stack(RefCell<Vec<u64>>);

impl Operation for Stack {
    fn times(&mut self, count: usize) -> Outcome<()> {
        for _ in 0..count {
            let one = black_box(&self.0)
                .borrow_mut()
                .pop()
                .ok_or("none is left")?;
            self.0.borrow_mut().push(black_box(one));
        }
        Ok(())
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let numbers = 0..settings.connections as u64;
    race(settings, &|| {
        Ok(Stack(RefCell::new(numbers.clone().collect())))
    })
}
