//! pingora-pool, which never waits: who finds nothing opens one.

use std::hint::black_box;
use std::sync::Arc;

use pingora_pool::{ConnectionMeta, ConnectionPool};

use crate::Outcome;
use crate::harness::race::{Operation, race};
use crate::harness::{Figures, Settings};

/// The endpoint, as a hash of it.
const KEY: u64 = 7;

struct Gets(Arc<ConnectionPool<u64>>);

impl Operation for Gets {
    fn times(&mut self, count: usize) -> Outcome<()> {
        for _ in 0..count {
            let one = black_box(self.0.get(&KEY)).ok_or("none is left")?;
            let id = i32::try_from(one)?;
            // Its users watch the connection with these.
            let _watches = self.0.put(&ConnectionMeta::new(KEY, id), one);
        }
        Ok(())
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let pool = Arc::new(ConnectionPool::new(settings.connections));
    for one in 0..settings.connections {
        let meta = ConnectionMeta::new(KEY, i32::try_from(one)?);
        let _watches = pool.put(&meta, one as u64);
    }
    race(settings, &|| Ok(Gets(pool.clone())))
}
