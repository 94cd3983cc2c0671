//! Between an endpoint's name and its addresses lie several questions: the candidates of a search
//! list, two families, service records and the names that those lead to. [`Resolution`] knows which
//! questions come next and when there are answers enough.
//!
//! Promise: it ends by its deadline, exactly once; all questions that can be asked at one moment are
//! asked at that moment; each question ends for itself: one that fails, or is late, takes nothing
//! from the others and is not taken for an absence (only a server's word is). Bounded: the names of
//! one search list, [`MAX_PLACES`](super::service::MAX_PLACES) names of a service,
//! [`MAX_HOPS`](super::service::MAX_HOPS) aliases.
//!
//! Whoever has something may wait [`RESOLUTION_DELAY`] for the rest (RFC 8305): one family for the
//! other, addresses for HTTPS records, the places of a service for each other, each time one of them
//! is known. What has taken [`PATIENCE`] is answered with what was known before, if it was (RFC
//! 8767): it is marked, and what is asked goes on for the next. That there was nothing before is no
//! answer: such a name is passed over for the next of the search list, and if none of them leads
//! anywhere, the list is gone through once more, and each is waited for.
//!
//! States: a candidate of the search list, asked for directly or by SRV or HTTPS records; the places
//! that such records led to; ended.

mod ask;
mod outcome;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::ask::Ask;
pub(crate) use self::outcome::{Outcome, Whence};
use super::known::{Known, Old};
use super::record::Question;
use super::search::{Ended, Search, Step};
use super::service::{Chain, Place};
use super::sources::{Local, Sources};
use crate::endpoint::Via;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Tick;

/// How long what is there waits for what is not (RFC 8305 §3).
pub(crate) const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// When old records serve instead of an answer that does not come (RFC 8767 §5).
const PATIENCE: Duration = Duration::from_millis(1800);
/// How long an outcome serves that lacks what is still being asked.
const PARTIAL: Duration = Duration::from_secs(1);

/// What is to be resolved.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Canonical, without a dot at its end.
    pub(crate) host: Arc<str>,
    pub(crate) is_absolute: bool,
    pub(crate) via: Via,
    pub(crate) port: u16,
    /// One question, answered with places ([`Records::Given`]), is all: the user's own resolver.
    pub(crate) is_given: bool,
}

/// What a resolution wants done.
#[derive(Debug)]
pub(crate) enum Want {
    /// Find this out; `known` or `asked` follows.
    Ask(Question),
    /// The result. Nothing follows.
    Done(Result<Outcome>),
}

/// The way from one name to its addresses.
#[derive(Debug)]
pub(crate) struct Resolution {
    wanted: Wanted,
    sources: Arc<Sources>,
    search: Search,
    stage: Stage,
    asks: BTreeMap<Question, Ask>,
    /// Why candidates led to nothing: the first reason of each sort.
    reasons: BTreeMap<Ended, Error>,
    wants: VecDeque<Want>,
    began: Tick,
    deadline: Tick,
    due: Tick,
    chance: u64,
    /// There is nothing but what is still being asked: nothing is passed over for being late.
    waits: bool,
    is_done: bool,
}

#[derive(Debug)]
enum Stage {
    /// The candidate's own addresses.
    Host,
    /// The candidate's SRV records.
    Services,
    /// The candidate's HTTPS records, while its addresses are asked for as well.
    Bindings(Bindings),
    /// The addresses of these.
    Places(Places),
    /// The user's resolver.
    Given,
}

#[derive(Debug)]
struct Bindings {
    chain: Chain,
    /// What was known of the names that the chain has left behind.
    by: Vec<Known>,
}

#[derive(Debug)]
struct Places {
    places: Vec<Place>,
    /// What led here, as it was known then; what comes later would lead elsewhere.
    by: Vec<Known>,
    /// Whether nothing was missing there.
    is_whole: bool,
    /// Whether records led here; what has none goes on with the search list.
    is_service: bool,
    /// How many were known when one became known last, and when that was.
    known: usize,
    changed: Tick,
}

/// What to do after a look at the stage.
enum Next {
    /// It has moved on: look again.
    Again,
    /// Nothing before then.
    Wait(Tick),
    /// The candidate leads nowhere.
    Ended(Ended, Error),
    Done(Result<Outcome>),
}

impl Resolution {
    /// Begins to resolve, to end by `deadline`. `chance` is any number.
    pub(crate) fn new(
        now: Tick,
        wanted: Wanted,
        sources: Arc<Sources>,
        deadline: Tick,
        chance: u64,
    ) -> Self {
        let search = Search::new(&wanted.host, wanted.is_absolute, &sources.config);
        let mut resolution = Self {
            wanted,
            sources,
            search,
            stage: Stage::Given,
            asks: BTreeMap::new(),
            reasons: BTreeMap::new(),
            wants: VecDeque::new(),
            began: now,
            deadline,
            due: Tick::ZERO,
            chance,
            waits: false,
            is_done: false,
        };
        match resolution.sources.local(&resolution.wanted.host) {
            Local::Addresses { addresses, origin } => {
                let place = resolution.own_place();
                resolution.done(Ok(Outcome::local(place, addresses, origin)));
            }
            Local::Failed(error) => resolution.done(Err(error)),
            Local::Ask => {
                resolution.begin_candidate();
                resolution.advance(now);
            }
        }
        resolution
    }

    /// What to do next; `None` until something happens.
    pub(crate) fn poll_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        (!self.is_done).then_some(self.due)
    }

    /// This is known of a question.
    pub(crate) fn handle_known(&mut self, now: Tick, question: &Question, known: Known) {
        if let Some(ask) = self.asks.get_mut(question) {
            ask.tell(now, known);
            self.advance(now);
        }
    }

    /// A question is being asked, since `since`; `old` was known of it before. The caller calls
    /// [`handle_timeout`](Self::handle_timeout) when it has told all that it knows at this moment.
    pub(crate) fn handle_asked(&mut self, question: &Question, since: Tick, old: Option<Old>) {
        if let Some(ask) = self.asks.get_mut(question) {
            ask.is_asked(since, old);
            self.due = Tick::ZERO;
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Tick) {
        if now >= self.due {
            self.advance(now);
        }
    }

    fn advance(&mut self, now: Tick) {
        while !self.is_done {
            match self.look(now) {
                Next::Again => {}
                Next::Wait(_) if now >= self.deadline => {
                    let error = self.reason(Ended::Temporary);
                    self.no_more(Ended::Temporary, error);
                }
                Next::Wait(until) => {
                    self.due = until.min(self.deadline);
                    return;
                }
                Next::Ended(ended, error) => {
                    let ended = self.remember(ended, error);
                    match self.search.next(ended) {
                        Step::Try => self.begin_candidate(),
                        Step::Done(Ended::Temporary) if self.begins_to_wait() => self.start_over(),
                        Step::Done(worst) => {
                            let error = self.reason(worst);
                            self.no_more(worst, error);
                        }
                    }
                }
                Next::Done(result) => self.done(result),
            }
        }
    }

    fn begin_candidate(&mut self) {
        self.stage = match (self.wanted.is_given, self.wanted.via) {
            (true, _) => Stage::Given,
            (false, Via::Address) => Stage::Host,
            (false, Via::Srv) => Stage::Services,
            (false, Via::Https) => {
                let name = self.search.current().unwrap_or_default();
                Stage::Bindings(Bindings {
                    chain: Chain::new(name),
                    by: Vec::new(),
                })
            }
        };
    }

    /// Whether something is still being asked that was not waited for so far; from now on it is.
    fn begins_to_wait(&mut self) -> bool {
        let begins = !self.waits && self.asks.values().any(Ask::is_open);
        self.waits |= begins;
        begins
    }

    /// Goes through the search list once more, with what is known by now.
    fn start_over(&mut self) {
        let Wanted {
            host, is_absolute, ..
        } = &self.wanted;
        self.search = Search::new(host, *is_absolute, &self.sources.config);
        self.reasons.clear();
        self.begin_candidate();
    }

    // -- the end -------------------------------------------------------------------------------

    fn no_candidate(&self) -> Next {
        let error = self.error("not a name that a server can be asked for".to_owned());
        Next::Done(Err(error))
    }

    fn remember(&mut self, ended: Ended, error: Error) -> Ended {
        self.reasons.entry(ended).or_insert(error);
        ended
    }

    fn reason(&mut self, ended: Ended) -> Error {
        let error = self.reasons.remove(&ended);
        error.map_or_else(|| self.late(), |error| self.named(error))
    }

    /// The servers have nothing. The hosts file may come after them.
    fn no_more(&mut self, ended: Ended, error: Error) {
        let result = match self.sources.after_servers(&self.wanted.host, ended) {
            Local::Addresses { addresses, origin } => {
                Ok(Outcome::local(self.own_place(), addresses, origin))
            }
            Local::Failed(_) | Local::Ask => Err(error),
        };
        self.done(result);
    }

    fn done(&mut self, result: Result<Outcome>) {
        self.is_done = true;
        self.wants.push_back(Want::Done(result));
    }

    fn late(&self) -> Error {
        let within = self.deadline.since(self.began);
        self.error(format!("no answer within {within:?}"))
    }

    fn error(&self, text: String) -> Error {
        self.named(Error::new(ErrorKind::Resolve, text))
    }

    fn named(&self, error: Error) -> Error {
        error.context(format!("resolving {}", self.wanted.host))
    }
}
