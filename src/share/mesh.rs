//! A connection that changes cores is more than its descriptor: what the cores know of it goes from
//! one to the other through the [`Mesh`]. The giver must learn whether it was taken, or else it
//! would keep a connection that is not its own any more, or lose one.
//!
//! Promise: nobody ever waits for another core here; every parcel has exactly one answer, also when
//! its receiver's mailbox is full, closed or never was, and when the receiver's thread panics with
//! the parcel in its hands; a parcel that was not taken comes back whole; all boxes are bounded.
//!
//! States of a parcel: in the mailbox, with the receiver, answered. Of a shard's post: open, closed.

use std::cell::Cell;
use std::sync::Arc;

use super::mailbox::Mailbox;
use super::sync::{RwLock, read, write};
use super::wake::Wake;
use super::{MAX_SHARDS, ShardId};
use crate::slot::Key;

/// How the shards of a group send each other parcels. `A` is what one must know to send a
/// descriptor to a shard, `P` what a parcel holds.
#[derive(Debug)]
pub(crate) struct Mesh<A, P> {
    /// By the shards' index, grown on demand.
    boxes: RwLock<Vec<Place<A, P>>>,
}

type Place<A, P> = Option<Arc<Boxes<A, P>>>;

/// What the others reach of one shard.
#[derive(Debug)]
struct Boxes<A, P> {
    shard: ShardId,
    address: Arc<A>,
    parcels: Mailbox<Parcel<P>>,
    answers: Arc<Mailbox<Answer<P>>>,
}

/// A shard's place in the mesh, for its own thread. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Post<A, P> {
    mesh: Arc<Mesh<A, P>>,
    own: Arc<Boxes<A, P>>,
    /// How many more parcels may be sent before an answer is taken.
    room: Cell<usize>,
    /// How many were sent.
    sent: Cell<u64>,
}

/// What was sent, in the receiver's hands. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Parcel<P> {
    from: ShardId,
    conn: Key,
    number: u64,
    content: Option<P>,
    answers: Arc<Mailbox<Answer<P>>>,
}

/// What became of a parcel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<P> {
    /// The connection, as the giver called it.
    pub(crate) conn: Key,
    /// Which of the giver's parcels it was.
    pub(crate) number: u64,
    /// What was sent, unless it was taken.
    pub(crate) returned: Option<P>,
}

impl<A, P> Default for Mesh<A, P> {
    /// Nobody is there yet.
    fn default() -> Self {
        Self {
            boxes: RwLock::new(Vec::new()),
        }
    }
}

impl<A, P> Mesh<A, P> {
    /// `shard`, which listens to `wake`, is reached at `address` from now on. At most `parcels` wait
    /// for it; at most `sent` of its own are without an answer that it has seen.
    pub(crate) fn open(
        self: &Arc<Self>,
        shard: ShardId,
        wake: &Arc<Wake>,
        address: Arc<A>,
        parcels: usize,
        sent: usize,
    ) -> Post<A, P> {
        let own = Arc::new(Boxes {
            shard,
            address,
            parcels: Mailbox::new(parcels, wake.clone()),
            answers: Arc::new(Mailbox::new(sent, wake.clone())),
        });
        let mut boxes = write(&self.boxes);
        debug_assert!(shard.index() < MAX_SHARDS);
        if boxes.len() <= shard.index() {
            boxes.resize_with(shard.index() + 1, || None);
        }
        boxes[shard.index()] = Some(own.clone());
        drop(boxes);
        Post {
            mesh: self.clone(),
            own,
            room: Cell::new(sent),
            sent: Cell::new(0),
        }
    }

    fn address(&self, shard: ShardId) -> Option<Arc<A>> {
        Some(self.boxes(shard)?.address.clone())
    }

    fn boxes(&self, shard: ShardId) -> Option<Arc<Boxes<A, P>>> {
        let boxes = read(&self.boxes);
        let found = boxes.get(shard.index())?.as_ref()?;
        (found.shard == shard).then(|| found.clone())
    }
}

impl<A, P> Post<A, P> {
    /// Sends what is known of `conn`; the answer, with the number of the parcel, comes in any case.
    /// Gives `content` back if too many answers are due already.
    pub(crate) fn send(&self, to: ShardId, conn: Key, content: P) -> Result<u64, P> {
        let Some(room) = self.room.get().checked_sub(1) else {
            return Err(content);
        };
        self.room.set(room);
        let number = self.sent.get();
        self.sent.set(number + 1);
        let parcel = Parcel {
            from: self.own.shard,
            conn,
            number,
            content: Some(content),
            answers: self.own.answers.clone(),
        };
        // What is not left there is dropped here, and answers so.
        if let Some(boxes) = self.mesh.boxes(to) {
            let _refused = boxes.parcels.push(parcel);
        }
        Ok(number)
    }

    /// Where descriptors for `shard` go, as long as it is there.
    pub(crate) fn address(&self, shard: ShardId) -> Option<Arc<A>> {
        self.mesh.address(shard)
    }

    /// From now on so many parcels may wait for this shard.
    #[cfg(feature = "sim")]
    pub(crate) fn set_room(&self, parcels: usize) {
        self.own.parcels.set_capacity(parcels);
    }

    /// The oldest parcel for this shard.
    pub(crate) fn receive(&self) -> Option<Parcel<P>> {
        self.own.parcels.pop()
    }

    /// The oldest answer to what this shard sent.
    pub(crate) fn answer(&self) -> Option<Answer<P>> {
        let answer = self.own.answers.pop()?;
        self.room.set(self.room.get() + 1);
        Some(answer)
    }
}

impl<A, P> Drop for Post<A, P> {
    fn drop(&mut self) {
        let mut boxes = write(&self.mesh.boxes);
        let place = boxes.get_mut(self.own.shard.index());
        let removed = place.and_then(|place| place.take_if(|boxes| boxes.shard == self.own.shard));
        drop(boxes);
        drop(removed);
        // Each one answers when it is dropped, outside of the box's lock.
        drop(self.own.parcels.close());
        drop(self.own.answers.close());
    }
}

impl<P> Parcel<P> {
    /// Who sent it.
    pub(crate) fn from(&self) -> ShardId {
        self.from
    }

    /// What is in it.
    pub(crate) fn content(&self) -> Option<&P> {
        self.content.as_ref()
    }

    /// Takes it for good: the giver hears so.
    pub(crate) fn take(mut self) -> Option<P> {
        self.content.take()
    }
}

impl<P> Drop for Parcel<P> {
    fn drop(&mut self) {
        let answer = Answer {
            conn: self.conn,
            number: self.number,
            returned: self.content.take(),
        };
        // There is room for it: `Post::send` counted. A giver that has gone needs none.
        let pushed = self.answers.push(answer);
        debug_assert!(pushed.is_ok() || self.answers.is_closed());
    }
}

#[cfg(test)]
mod tests;
