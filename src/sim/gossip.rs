//! What cores tell each other, as a test loses it, repeats it, or leaves no room for it.

use super::World;

impl World {
    /// Loses all that other cores have told a core and that it has not heard yet; returns how many
    /// endpoints that was about. What the cores share is not touched: who looks sees it.
    pub fn lose_notices(&self, core: usize) -> usize {
        self.shard(core).map_or(0, |shard| shard.lose_notices())
    }

    /// A core hears of each endpoint once more, whether there is news of it or not.
    pub fn repeat_notices(&self, core: usize) {
        if let Some(shard) = self.shard(core).filter(|shard| !shard.has_ended()) {
            shard.repeat_notices();
        }
    }

    /// From now on at most `places` connections that other cores have sent may wait for a core to take
    /// them. With 0 its mailbox is always full.
    pub fn set_mailbox(&self, core: usize, places: usize) {
        if let Some(shard) = self.shard(core) {
            shard.set_mailbox(places);
        }
    }
}
