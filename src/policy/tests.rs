//! One rule, one test.

use super::Settings;
use super::event::Action;
use super::harness::{Harness, settings};

mod addresses;
mod ages;
mod backups;
mod busy;
mod cuts;
mod eject;
mod ending;
mod fairness;
mod faults;
mod hand;
mod handover;
mod health;
mod joins;
mod looks;
mod moves;
mod names;
mod opening;
mod plans;
mod probes;
mod race;
mod received;
mod refresh;
mod rounds;
mod serving;
mod shrink;
mod slices;
mod total;

fn is_dial(action: &Action) -> bool {
    matches!(action, Action::Dial { .. })
}

fn with(change: impl FnOnce(&mut Settings)) -> Harness {
    let mut settings = settings();
    change(&mut settings);
    Harness::new(settings)
}
