//! What a resolution does at each stage of its way.

use std::sync::Arc;

use super::ask::{self, Ask, HostState, Patience};
use super::{Bindings, Next, PATIENCE, Places, RESOLUTION_DELAY, Resolution, Stage, Want};
use crate::dns::known::Known;
use crate::dns::record::{Kind, Question, Records};
use crate::dns::resolution::outcome::Outcome;
use crate::dns::search::Ended;
use crate::dns::service::{self, Place};
use crate::dns::sources::Local;
use crate::resolver::Families;
use crate::time::Tick;

impl Resolution {
    pub(super) fn look(&mut self, now: Tick) -> Next {
        match &self.stage {
            Stage::Given => self.look_at_given(now),
            Stage::Host => self.look_at_host(now),
            Stage::Services => self.look_at_services(now),
            Stage::Bindings(_) => self.look_at_bindings(now),
            Stage::Places(_) => self.look_at_places(now),
        }
    }

    fn look_at_given(&mut self, now: Tick) -> Next {
        let question = Question {
            name: self.wanted.host.clone(),
            kind: Kind::A,
        };
        match self.state(now, &question) {
            ask::State::Wait(until) => Next::Wait(until),
            ask::State::Late => Next::Wait(self.deadline),
            ask::State::Known(known) => match known {
                Known::Failed { error, .. } => Next::Done(Err(error)),
                known => {
                    let outcome = Outcome::given(&known, self.wanted.port, question);
                    Next::Done(outcome.ok_or_else(|| self.error("it leads nowhere".to_owned())))
                }
            },
        }
    }

    fn look_at_host(&mut self, now: Tick) -> Next {
        let Some(name) = self.candidate() else {
            return self.no_candidate();
        };
        match self.host(now, &name) {
            HostState::Wait(until) => Next::Wait(until),
            HostState::Ended(ended, error) => Next::Ended(ended, error),
            HostState::Found(found) => {
                let place = self.own_place();
                let outcome = Outcome::of_host(place, found, self.began, self.used());
                Next::Done(Ok(outcome))
            }
        }
    }

    fn look_at_services(&mut self, now: Tick) -> Next {
        let Some(name) = self.candidate() else {
            return self.no_candidate();
        };
        let question = Question {
            name,
            kind: Kind::Srv,
        };
        let known = match self.state(now, &question) {
            ask::State::Wait(until) => return Next::Wait(until),
            ask::State::Late => return Next::Ended(Ended::Temporary, self.late()),
            ask::State::Known(known) => known,
        };
        match &known {
            Known::Found { records, .. } | Known::Stale { records, .. } => {
                let Records::Services(records) = records else {
                    return Next::Ended(Ended::NoData, self.error("no SRV records".to_owned()));
                };
                match service::services(records) {
                    Ok(places) => self.go_to(now, places, vec![known], true, true),
                    Err(error) => Next::Done(Err(self.named(error))),
                }
            }
            other => {
                let (ended, error) = ask::ended(other, "no SRV records");
                Next::Ended(ended, error)
            }
        }
    }

    fn look_at_bindings(&mut self, now: Tick) -> Next {
        let Stage::Bindings(bindings) = &self.stage else {
            return Next::Again;
        };
        let name = bindings.chain.name().clone();
        if name.is_empty() {
            return self.no_candidate();
        }
        let question = Question {
            name: name.clone(),
            kind: Kind::Https,
        };
        let state = self.state(now, &question);
        // Asked for in the same turn: most hosts have no such records.
        let addresses = self.host(now, &name);
        let known = match (state, addresses) {
            (ask::State::Known(known), _) => Some(known),
            (ask::State::Late, _) => None,
            (ask::State::Wait(_), HostState::Found(found)) => {
                let due = self.since(&question).max(found.came).plus(RESOLUTION_DELAY);
                match due <= now {
                    true => None,
                    false => return Next::Wait(due),
                }
            }
            (ask::State::Wait(until), HostState::Wait(other)) => {
                return Next::Wait(until.min(other));
            }
            (ask::State::Wait(until), HostState::Ended(..)) => return Next::Wait(until),
        };
        self.follow_bindings(now, known)
    }

    /// Goes where the HTTPS records of the chain's name lead; `None` if they are late.
    fn follow_bindings(&mut self, now: Tick, known: Option<Known>) -> Next {
        let mut chance = self.chance;
        let Stage::Bindings(Bindings { chain, by }) = &mut self.stage else {
            return Next::Again;
        };
        let records = match &known {
            Some(Known::Found { records, .. } | Known::Stale { records, .. }) => match records {
                Records::Bindings(records) => Some(records.clone()),
                _ => None,
            },
            _ => None,
        };
        let is_whole = known.is_some();
        by.extend(known);
        let step = match &records {
            Some(records) => chain.found(records, |below| draw(&mut chance, below)),
            None => chain.nothing(),
        };
        let by = match &step {
            service::Step::Ask => Vec::new(),
            service::Step::Done(_) => std::mem::take(by),
        };
        self.chance = chance;
        match step {
            service::Step::Ask => Next::Again,
            service::Step::Done(places) => self.go_to(now, places, by, is_whole, records.is_some()),
        }
    }

    fn go_to(
        &mut self,
        now: Tick,
        mut places: Vec<Place>,
        by: Vec<Known>,
        is_whole: bool,
        is_service: bool,
    ) -> Next {
        let families = self.sources.config.families;
        for place in &mut places {
            place.hints.retain(|hint| families.contain(*hint));
        }
        self.stage = Stage::Places(Places {
            places,
            by,
            is_whole,
            is_service,
            known: 0,
            changed: now,
        });
        Next::Again
    }

    fn look_at_places(&mut self, now: Tick) -> Next {
        let Stage::Places(mut stage) = std::mem::replace(&mut self.stage, Stage::Given) else {
            return Next::Again;
        };
        let next = self.look_at(now, &mut stage);
        self.stage = Stage::Places(stage);
        next
    }

    fn look_at(&mut self, now: Tick, stage: &mut Places) -> Next {
        let hosts: Vec<HostState> = stage
            .places
            .iter()
            .map(|it| self.host(now, &it.host))
            .collect();
        let known = hosts
            .iter()
            .filter(|it| matches!(it, HostState::Found(_)))
            .count();
        if known != stage.known {
            (stage.known, stage.changed) = (known, now);
        }
        let waiting = hosts.iter().filter_map(HostState::waits).min();
        let has_hints = || stage.places.iter().any(|place| !place.hints.is_empty());
        if let Some(until) = waiting {
            let hurries = known > 0 || has_hints();
            let due = stage.changed.plus(RESOLUTION_DELAY);
            if !hurries || now < due {
                return Next::Wait(if hurries { due.min(until) } else { until });
            }
        }
        match Outcome::of_places(now, stage, &hosts, self.began, self.used()) {
            Some(outcome) => Next::Done(Ok(outcome)),
            None => self.no_places(hosts, stage.is_service),
        }
    }

    /// No place has an address.
    fn no_places(&mut self, hosts: Vec<HostState>, is_service: bool) -> Next {
        let ended = hosts.into_iter().filter_map(HostState::into_ended);
        let worst = ended.max_by_key(|(ended, _)| *ended);
        let (ended, error) = worst.unwrap_or_else(|| (Ended::Temporary, self.late()));
        match is_service {
            true if ended == Ended::Temporary && self.begins_to_wait() => Next::Again,
            true => Next::Done(Err(self.named(error))),
            false => Next::Ended(ended, error),
        }
    }

    // -- questions -----------------------------------------------------------------------------

    /// How things stand with a question; asks it if it was not asked yet.
    fn state(&mut self, now: Tick, question: &Question) -> ask::State {
        self.want(now, question);
        let (patience, ask) = (self.patience(), self.asks.get(question));
        ask.map_or(ask::State::Late, |ask| ask.state(now, patience))
    }

    fn want(&mut self, now: Tick, question: &Question) {
        if !self.asks.contains_key(question) {
            self.asks.insert(question.clone(), Ask::new(now));
            self.wants.push_back(Want::Ask(question.clone()));
        }
    }

    fn since(&self, question: &Question) -> Tick {
        self.asks.get(question).map_or(Tick::ZERO, Ask::since)
    }

    /// How things stand with the addresses of `name`; asks for them if that was not done yet.
    fn host(&mut self, now: Tick, name: &Arc<str>) -> HostState {
        match self.sources.local(name) {
            Local::Addresses { addresses, .. } => return HostState::local(addresses),
            Local::Failed(error) => return HostState::Ended(Ended::Absent, error),
            Local::Ask => {}
        }
        let question = |kind| Question {
            name: name.clone(),
            kind,
        };
        let (v6, v4) = (question(Kind::Aaaa), question(Kind::A));
        let config = &self.sources.config;
        let wants_v4 = config.families != Families::V6;
        let wants_v6 = match config.families {
            Families::Both => !config.no_aaaa,
            Families::V4 => false,
            Families::V6 => true,
        };
        let is_known = |of: &Question| {
            self.asks
                .get(of)
                .is_some_and(|ask| ask.as_known().is_some())
        };
        let is_second = config.single_request && wants_v4;
        if wants_v6 && (!is_second || is_known(&v4)) {
            self.want(now, &v6);
        }
        if wants_v4 {
            self.want(now, &v4);
        }
        let asks = [self.asks.get(&v6), self.asks.get(&v4)];
        ask::host(now, self.patience(), asks, self.sources.config.strict_error)
    }

    fn patience(&self) -> Patience {
        Patience {
            late: self.began.plus(PATIENCE),
            waits: self.waits,
        }
    }

    /// The questions that the outcome rests on.
    fn used(&self) -> Vec<Question> {
        self.asks.keys().cloned().collect()
    }

    fn candidate(&self) -> Option<Arc<str>> {
        self.search.current().map(Arc::from)
    }

    pub(super) fn own_place(&self) -> Place {
        Place {
            host: self.wanted.host.clone(),
            port: self.wanted.port,
            priority: 0,
            weight: 1,
            hints: Vec::new(),
        }
    }
}

/// A number below `below`, from a state that goes on (SplitMix64).
fn draw(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    (mixed >> 33) as usize % below.max(1)
}
