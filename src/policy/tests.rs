//! One rule, one test.

use super::Settings;
use super::event::Action;
use super::harness::{Harness, settings};

mod addresses;
mod backups;
mod cuts;
mod ending;
mod fairness;
mod faults;
mod health;
mod joins;
mod moves;
mod names;
mod opening;
mod race;
mod refresh;
mod rounds;
mod serving;

fn is_dial(action: &Action) -> bool {
    matches!(action, Action::Dial { .. })
}

fn with(change: impl FnOnce(&mut Settings)) -> Harness {
    let mut settings = settings();
    change(&mut settings);
    Harness::new(settings)
}
