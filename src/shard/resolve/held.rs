//! What a core has found out of an endpoint it keeps for itself: the next who asks is answered
//! without a lock, without a count that other cores share, and without a write to memory of theirs.
//!
//! Promise: what has expired is not shown; a change that other cores make known counts from the next
//! look on. What is held of an endpoint in use is renewed before it expires, and nobody waits for
//! that.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::How;
use crate::dns::{self, Origin, Outcome, Question, Ranked, Whence};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::event::{EndpointKey, Event};
use crate::shard::EndpointRef;
use crate::shard::core::Core;
use crate::target::Target;
use crate::time::Tick;

/// How long what the hosts file says is held before it is looked at again.
const HOSTS: Duration = Duration::from_secs(5);

/// When who would renew something comes back if too much was being asked.
const AGAIN: Duration = Duration::from_millis(250);

/// The epoch of what no change can touch.
const ALWAYS: u64 = u64::MAX;

/// The targets of an endpoint, as a core holds them.
#[derive(Debug)]
pub(crate) struct Held {
    /// At least one, in the order in which they are tried.
    pub(crate) targets: Rc<[Target]>,
    pub(crate) expires: Tick,
    /// From when on it is renewed if it is in use.
    pub(super) refresh: Tick,
    /// When its newest part came.
    learned: Tick,
    pub(crate) whence: Whence,
    pub(crate) is_stale: bool,
    pub(crate) is_complete: bool,
    questions: Box<[Question]>,
    /// Of what is shared, when it was resolved.
    epoch: u64,
    /// Until when there is nothing to do but to show it: its end, or when it is to be renewed.
    quiet_until: Cell<Tick>,
}

impl Core {
    /// What is held of `endpoint`, if it is good and there is nothing to do.
    #[inline]
    pub(super) fn quiet(&self, endpoint: &EndpointRef) -> Option<&Rc<Held>> {
        if !self.is_up_to_date() {
            return None;
        }
        let held = self.endpoints.get(endpoint.key())?.held.as_ref()?;
        let is_current = held.epoch == self.links.registry().names().epoch();
        let is_quiet = held.quiet_until.get() > self.now && (is_current || held.epoch == ALWAYS);
        is_quiet.then_some(held)
    }

    /// What is held of `endpoint`, if it is still good.
    pub(super) fn held(&self, endpoint: EndpointKey) -> Option<Rc<Held>> {
        let held = self.endpoints.get(endpoint)?.held.as_ref()?;
        let is_current =
            || held.epoch == self.links.registry().names().epoch() || held.epoch == ALWAYS;
        let is_good = held.expires > self.now && is_current();
        is_good.then(|| held.clone())
    }

    /// Keeps what was found out of `endpoint`.
    pub(super) fn keep(
        &mut self,
        endpoint: EndpointKey,
        outcome: Outcome,
        epoch: u64,
    ) -> Result<Rc<Held>> {
        let (expires, learned) = match outcome.whence {
            Whence::Local(Origin::Hosts) => (self.now.plus(HOSTS), self.now),
            Whence::Local(_) => (Tick::NEVER, self.now),
            _ => (outcome.expires, outcome.learned),
        };
        let held = Rc::new(Held {
            targets: self.arrange(&outcome)?,
            expires,
            refresh: outcome.refresh,
            learned,
            whence: outcome.whence,
            is_stale: outcome.is_stale,
            is_complete: outcome.is_complete,
            questions: outcome.questions.into(),
            epoch,
            quiet_until: Cell::new(expires.min(outcome.refresh)),
        });
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            entry.held = Some(held.clone());
        }
        Ok(held)
    }

    /// The targets of an outcome, those to be tried first in front.
    fn arrange(&mut self, outcome: &Outcome) -> Result<Rc<[Target]>> {
        let options = &self.config.resolver_options;
        let is_local = matches!(outcome.whence, Whence::Local(_));
        let allowed = |of: &Vec<IpAddr>| -> Vec<IpAddr> {
            let of = of.iter().copied();
            of.filter(|ip| is_local || options.allows(*ip)).collect()
        };
        let addresses: Vec<Vec<IpAddr>> = outcome.addresses.iter().map(allowed).collect();
        if addresses.iter().all(Vec::is_empty) {
            let count: usize = outcome.addresses.iter().map(Vec::len).sum();
            let host = outcome.places.first().map_or("", |place| &*place.host);
            let text = format!("all {count} addresses of {host} are denied by the configuration");
            return Err(Error::new(ErrorKind::Resolve, text));
        }
        // Their records say which places come first; of one place, the addresses have an order too.
        let rank = |of: &Vec<IpAddr>| self.routes.ranked(self.now, &self.host, of);
        let ranked: Vec<Vec<Ranked>> = addresses.iter().map(rank).collect();
        if let ([place], [ranked]) = (&*outcome.places, &*ranked) {
            // Nothing need be divided: the weight is shown as its record has it.
            let target = |ranked: &Ranked| Target {
                address: SocketAddr::new(ranked.ip, place.port),
                priority: place.priority,
                group: ranked.group,
                weight: place.weight,
            };
            return Ok(ranked.iter().map(target).collect());
        }
        Ok(dns::targets(&outcome.places, &ranked).into())
    }

    /// Tells the policy what is held of `endpoint`.
    pub(super) fn tell_held(&mut self, endpoint: EndpointKey, held: &Held) {
        let renews = self.config.resolver_options.prefetch;
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        // The same answer told twice is not two answers.
        let is_new = entry.told.is_none_or(|told| told < held.learned);
        entry.told = Some(held.learned);
        entry.targets = held.targets.clone();
        let expires = match renews {
            // It asks again then, if it has use for it; what it hears is good to the end.
            true if self.now < held.refresh => held.refresh.min(held.expires),
            // Nobody could ask for all of it.
            true if !held.is_renewed() => self.now.plus(AGAIN).min(held.expires),
            _ => held.expires,
        };
        self.tell(Event::Resolved {
            endpoint,
            targets: held.targets.clone(),
            expires,
            is_fresh: is_new && held.is_complete && !held.is_stale,
        });
        self.renew_ejected(endpoint);
    }

    /// Asks ahead of time for what `held` rests on, if that is due and the endpoint is in use.
    pub(super) fn renew(&mut self, endpoint: EndpointKey, held: &Held) {
        let is_due = held.refresh <= self.now && !held.is_renewed();
        if !is_due || !self.is_in_use(endpoint) {
            return;
        }
        let prefetch = self.config.resolver_options.prefetch;
        let mut questions = held.questions.iter();
        if !prefetch || questions.all(|question| self.ask_ahead(question, held.expires)) {
            held.quiet_until.set(held.expires);
        }
        self.settle_names();
    }

    /// Asks `question` if that is due and nobody does; `false` if this core asks as many as it may.
    fn ask_ahead(&mut self, question: &Question, end: Tick) -> bool {
        if self.lookups.questions.contains_key(question) {
            return true;
        }
        if self.lookups.jobs.len() >= super::MAX_RUNNING {
            return false;
        }
        let (names, shard) = (self.links.registry().names(), self.links.shard());
        if names.refresh(self.now, question, shard, self.lease(), end) {
            let interest = super::Interest {
                how: How::Asking,
                since: self.now,
                old: None,
                endpoints: Vec::new(),
            };
            self.lookups.questions.insert(question.clone(), interest);
            self.start_job(question);
        }
        true
    }

    fn is_in_use(&mut self, endpoint: EndpointKey) -> bool {
        self.policy.counts(endpoint).is_some_and(|counts| {
            counts.idle + counts.checking + counts.in_use + counts.connecting + counts.waiters > 0
        })
    }
}

impl Held {
    /// No change can touch it.
    pub(in crate::shard) fn is_fixed(&self) -> bool {
        self.epoch == ALWAYS
    }

    /// Whether all that it rests on, if that is due, was asked for again.
    fn is_renewed(&self) -> bool {
        self.quiet_until.get() >= self.expires
    }

    /// Of an endpoint that is an address.
    pub(in crate::shard) fn literal(address: SocketAddr) -> Self {
        Self {
            targets: Rc::new([Target::new(address)]),
            expires: Tick::NEVER,
            refresh: Tick::NEVER,
            learned: Tick::ZERO,
            whence: Whence::Local(Origin::Literal),
            is_stale: false,
            is_complete: true,
            questions: Box::new([]),
            epoch: ALWAYS,
            quiet_until: Cell::new(Tick::NEVER),
        }
    }
}
