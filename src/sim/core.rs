//! A simulated core: a shard of the pool, and what makes it the one that tasks of the core find.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Result;
use crate::group::{Group, Member};
use crate::local;
use crate::machine::{Current, Machine, Scope};
use crate::shard::Shard;

/// Records of the policy between two steps, at most.
const TRACE: usize = 4096;

/// One core of a world.
pub(super) struct SimCore {
    place: Current,
    shard: RefCell<Option<Rc<Shard>>>,
    member: RefCell<Option<Member>>,
    before: RefCell<Option<Rc<Shard>>>,
}

impl SimCore {
    /// A core with a shard of `group`.
    pub(super) fn start(
        machine: &Machine,
        core: usize,
        group: &Group,
        room: usize,
        trace: bool,
    ) -> Result<Rc<Self>> {
        let place = Current {
            machine: machine.clone(),
            core,
        };
        let this = Rc::new(Self {
            place,
            shard: RefCell::default(),
            member: RefCell::default(),
            before: RefCell::default(),
        });
        machine.set_scope(core, this.clone());
        this.join(group, room, trace)?;
        Ok(this)
    }

    /// Gives the core a shard, if it has none.
    pub(super) fn join(&self, group: &Group, room: usize, trace: bool) -> Result<()> {
        let member = group.join_machine(&self.place, room)?;
        if trace {
            member.shard().start_trace(TRACE);
        }
        *self.shard.borrow_mut() = Some(member.shard().clone());
        *self.member.borrow_mut() = Some(member);
        Ok(())
    }

    /// The shard, until it has ended.
    pub(super) fn shard(&self) -> Option<Rc<Shard>> {
        self.shard.borrow().clone()
    }

    /// Ends the shard as dropping its [`Member`] does; the core's other tasks go on.
    pub(super) fn leave(&self) {
        let member = self.member.borrow_mut().take();
        let shard = self.shard.borrow_mut().take();
        self.place.machine.inside(self.place.core, || {
            drop(member);
            drop(shard);
        });
    }

    /// Ends everything on the core, as the end of its runtime does: first the tasks.
    pub(super) fn die(&self) {
        self.place.machine.end_core(self.place.core);
        self.leave();
    }
}

impl Scope for SimCore {
    fn enter(&self) {
        let before = local::swap(self.shard().filter(|shard| !shard.has_ended()));
        *self.before.borrow_mut() = before;
    }

    fn leave(&self) {
        let before = self.before.borrow_mut().take();
        drop(local::swap(before));
    }
}
