//! What will happen, by the moment at which it does. Two things at one moment happen in the order
//! in which they were planned; whoever wants another order draws other moments.

use std::collections::BTreeMap;
use std::task::Waker;

use super::net::NetEvent;
use crate::time::Tick;

/// Something that happens at a moment.
pub(super) enum Event {
    /// A timer, or a bell that rings late.
    Wake(Waker),
    /// A wake-up of a task from another core arrives.
    Deliver(u64),
    /// An operation of a ring goes on.
    Operation {
        ring: usize,
        op: u64,
    },
    /// The thread of a ring's core is interrupted, or sleeps.
    Interrupt {
        ring: usize,
    },
    /// The time limit of an operation is over.
    Limit {
        ring: usize,
        op: u64,
    },
    Net(NetEvent),
}

/// Where an event stands, to take it back.
pub(super) type Place = (Tick, u64);

#[derive(Default)]
pub(super) struct Schedule {
    events: BTreeMap<Place, Event>,
    planned: u64,
}

impl Schedule {
    pub(super) fn plan(&mut self, at: Tick, event: Event) -> Place {
        self.planned += 1;
        let place = (at, self.planned);
        self.events.insert(place, event);
        place
    }

    pub(super) fn cancel(&mut self, place: Place) {
        self.events.remove(&place);
    }

    pub(super) fn next(&self) -> Option<Tick> {
        self.events.first_key_value().map(|(place, _)| place.0)
    }

    pub(super) fn pop(&mut self) -> Option<(Tick, Event)> {
        let (place, event) = self.events.pop_first()?;
        Some((place.0, event))
    }

    /// As [`next`](Self::next), timers left out.
    pub(super) fn next_without_timers(&self) -> Option<Tick> {
        let mut others = self.events.iter();
        others
            .find(|(_, event)| !matches!(event, Event::Wake(_)))
            .map(|(place, _)| place.0)
    }

    /// As [`pop`](Self::pop), timers left out.
    pub(super) fn pop_without_timers(&mut self) -> Option<(Tick, Event)> {
        let mut others = self.events.iter();
        let place = others
            .find(|(_, event)| !matches!(event, Event::Wake(_)))
            .map(|(place, _)| *place)?;
        self.events.remove(&place).map(|event| (place.0, event))
    }
}
