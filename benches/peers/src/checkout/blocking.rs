//! r2d2, whose gets block.

use std::convert::Infallible;
use std::hint::black_box;

use r2d2::{ManageConnection, Pool};

use crate::Outcome;
use crate::harness::race::{Operation, race};
use crate::harness::{Figures, Settings};

struct Numbers;

impl ManageConnection for Numbers {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

struct Gets(Pool<Numbers>);

impl Operation for Gets {
    fn times(&mut self, count: usize) -> Outcome<()> {
        for _ in 0..count {
            drop(black_box(self.0.get()?));
        }
        Ok(())
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let builder = Pool::builder().max_size(settings.connections as u32);
    let pool = builder.test_on_check_out(false).build(Numbers)?;
    race(settings, &|| Ok(Gets(pool.clone())))
}
