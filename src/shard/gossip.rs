//! What cores tell each other can be lost, come twice, or find no room: here a simulated world makes it
//! so. What the cores share stays as it is; only what is said of it is touched.

use super::Shard;

impl Shard {
    /// Loses all that this core was told and has not heard; returns how many endpoints that was about.
    pub(crate) fn lose_notices(&self) -> usize {
        self.enter(|core| core.links.drain_notices().len())
    }

    /// Tells this core of every endpoint once more, whether there is news of it or not.
    pub(crate) fn repeat_notices(&self) {
        self.enter(|core| {
            let all = core.endpoints.iter().map(|entry| entry.shared.id());
            all.for_each(|it| core.links.remind(it));
        });
    }

    /// From now on so many connections from other cores may wait here to be taken.
    pub(crate) fn set_mailbox(&self, places: usize) {
        self.enter(|core| core.handover.set_room(places));
    }
}
