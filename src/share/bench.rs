//! What cores share, as `benches/parts.rs` drives it: on one thread, so with no other core's stores
//! in the way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::permits::Permits;
use super::{Load, Mesh, Parcel, Post, ShardId, Spot, Wake};
use crate::slot::Key;
use crate::time::Tick;

fn shard(number: usize) -> ShardId {
    ShardId::new(number, 1)
}

fn at(nanos: u64) -> Tick {
    Tick::from_nanos(nanos)
}

/// The board of an endpoint that some cores have used, each with every address.
#[derive(Debug)]
pub struct OneBoard {
    board: Board,
    addresses: Vec<SocketAddr>,
    spot: Option<Spot>,
    written: u32,
}

impl OneBoard {
    /// At most 256 cores and 128 addresses.
    #[must_use]
    pub fn new(cores: usize, addresses: u8) -> Self {
        let board = Board::new(cores);
        let all = (1..=addresses).map(|last| SocketAddr::from(([192, 0, 2, last], 80)));
        let addresses: Vec<_> = all.collect();
        let mut spot = None;
        for &address in &addresses {
            spot = board.opened(shard(0), address);
            (1..cores).for_each(|core| _ = board.opened(shard(core), address));
        }
        Self {
            board,
            addresses,
            spot,
            written: 0,
        }
    }

    /// How many connections all cores hold to each address: read when one is opened.
    #[must_use]
    pub fn totals(&self) -> Box<[u32]> {
        self.board.totals(&self.addresses)
    }

    /// One core writes what has changed in a turn: how busy an address is, and who waits.
    pub fn write(&mut self) {
        self.written = self.written.wrapping_add(1);
        if let Some(spot) = self.spot {
            let load = Load {
                in_use: self.written,
                latency: Some(Duration::from_nanos(1)),
            };
            self.board.publish_load(shard(0), spot, load);
        }
        let since = at(u64::from(self.written));
        self.board.publish_wait(shard(0), Some(since));
    }

    /// Whether somebody waits on another core: read with each connection that comes back while this
    /// core knows of a demand.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.board.wait_elsewhere(shard(0)).is_some()
    }
}

/// The permits of an endpoint, one of which each core holds.
#[derive(Debug)]
pub struct OneLimit(Permits);

impl OneLimit {
    /// With some to spare.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        let permits = Permits::new(1_000);
        (0..cores).for_each(|core| _ = permits.acquire(shard(core), at(0)));
        Self(permits)
    }

    /// A permit is taken and given back: with each connection that is opened, and closed.
    pub fn take_and_give_back(&self) {
        self.0.acquire(shard(0), at(1));
        self.0.release(shard(0));
    }
}

/// What a parcel is made of here; the pool's own holds a little more.
type Content = [u64; 8];

/// One connection that goes to and fro between two cores, as far as the cores know of it: the
/// request, the slot, the claim, the permit, the parcel and its answer. The kernel's part is in
/// `benches/handover.rs`.
#[derive(Debug)]
pub struct Handover {
    permits: Permits,
    posts: [Post<(), Content>; 2],
    giver: usize,
    handed_over: u64,
}

impl Default for Handover {
    fn default() -> Self {
        let mesh = Arc::new(Mesh::default());
        let wake = Arc::new(Wake::new());
        let open = |core| mesh.open(shard(core), &wake, Arc::new(()), 8, 8);
        let permits = Permits::new(1);
        permits.acquire(shard(0), at(0));
        Self {
            permits,
            posts: [open(0), open(1)],
            giver: 0,
            handed_over: 0,
        }
    }
}

impl Handover {
    /// The connection changes cores; how often it has.
    pub fn once(&mut self) -> u64 {
        let (from, to) = (self.giver, 1 - self.giver);
        let slot = Key::new(7, 0);
        self.permits.acquire(shard(to), at(1));
        self.permits.expect(shard(to), slot);
        let Some(claim) = self.permits.claim(shard(from), at(1)).0 else {
            return self.handed_over;
        };
        let sent = self.posts[from].send(shard(to), slot, [0; 8]);
        let parcel = self.posts[to].receive();
        let moved = self.permits.transfer(shard(from), claim, None).0;
        let taken = parcel.and_then(Parcel::take);
        let answered = self.posts[from].answer();
        self.permits.unclaim(shard(from), claim);
        if sent.is_ok() && moved && taken.is_some() && answered.is_some() {
            self.giver = to;
            self.handed_over += 1;
        }
        self.handed_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_timed_is_done() {
        let mut board = OneBoard::new(3, 4);
        assert_eq!(*board.totals(), [3; 4]);
        assert!(!board.is_awaited());
        board.write();
        let limit = OneLimit::new(2);
        limit.take_and_give_back();
        assert_eq!(limit.0.in_use(), 2);
        let mut handover = Handover::default();
        assert_eq!(
            (handover.once(), handover.once(), handover.once()),
            (1, 2, 3)
        );
        assert_eq!(handover.permits.held(shard(1)), 1);
    }
}
