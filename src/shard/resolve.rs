//! From an endpoint to its addresses: held by this core, known to some core, or asked of a name
//! server through this core's ring.
//!
//! Promise: a question is asked once, however many endpoints of however many cores wait for it; a
//! bounded number of questions at once, the rest in line; who waits is answered within a get's own
//! time, also when the core that asks ends or is late; an endpoint that is held costs neither a
//! lock nor a write that another core could see.
//!
//! An endpoint has a [`Resolution`] while it is being resolved; that wants questions answered. A
//! question of this core is asked by a [`Job`](jobs::Job) of its own, followed (another core asks),
//! or in line for a job. Nothing here calls back: what has ended is collected, and
//! `settle_names` hands it on until there is nothing left.

mod given;
mod held;
mod jobs;
mod tasks;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::dns::{Health, Known, Old, Question, Resolution, Want, Wanted};
use crate::error::{Error, Result};
use crate::policy::event::{EndpointKey, Event};
use crate::resolver::Resolver;
use crate::share::{LEAST_SLEEP, Turn};
use crate::time::Tick;

/// How often the clocks are compared to find out whether the machine has slept, at most.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

use super::core::Core;
use super::deferred::Call;
pub(crate) use held::Held;
use jobs::Job;
pub(crate) use jobs::MAX_RUNNING;
pub(crate) use tasks::{Finding, TaskId, Tasks};

/// What one core is finding out.
pub(crate) struct Lookups {
    resolving: BTreeMap<EndpointKey, Resolving>,
    questions: BTreeMap<Question, Interest>,
    jobs: Vec<Job>,
    line: VecDeque<Question>,
    health: Health,
    pub(crate) tasks: Tasks,
    /// Whose resolutions want something.
    ready: VecDeque<EndpointKey>,
    /// Questions that have an answer.
    answered: VecDeque<(Question, Known)>,
    /// When `lookups_due` is due.
    due: Tick,
    /// When the other cores are shown next that this one is at work, if it is.
    sign: Tick,
    /// How long the machine had slept when that was looked at, and when it is looked at next.
    slept: Duration,
    look_at_sleep: Tick,
    /// A state of chance that needs not be secret.
    chance: u64,
}

/// An endpoint being resolved.
struct Resolving {
    resolution: Resolution,
    /// The policy has asked for it.
    for_policy: bool,
    tasks: Vec<TaskId>,
    /// Of what is shared, when it began.
    epoch: u64,
}

/// A question that this core has no answer to yet.
struct Interest {
    how: How,
    since: Tick,
    old: Option<Old>,
    /// Who waits for it; nobody if it is asked ahead of time.
    endpoints: Vec<EndpointKey>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Asking,
    /// Another core asks; it is late from then on.
    Following(Tick),
    InLine,
}

impl Lookups {
    pub(crate) fn new(chance: u64, slept: Duration) -> Self {
        Self {
            resolving: BTreeMap::new(),
            questions: BTreeMap::new(),
            jobs: Vec::new(),
            line: VecDeque::new(),
            health: Health::new(),
            tasks: Tasks::default(),
            ready: VecDeque::new(),
            answered: VecDeque::new(),
            due: Tick::NEVER,
            sign: Tick::ZERO,
            slept,
            look_at_sleep: Tick::ZERO,
            chance,
        }
    }

    /// When something of it is due.
    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        (self.due != Tick::NEVER).then_some(self.due)
    }

    /// How many questions are asked, and how many endpoints wait.
    #[cfg(feature = "sim")]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.jobs.len(), self.resolving.len())
    }

    /// Whether nothing is asked, followed or waited for.
    #[cfg(feature = "sim")]
    pub(crate) fn are_over(&self) -> bool {
        let asks = self.jobs.is_empty() && self.questions.is_empty() && self.line.is_empty();
        asks && self.resolving.is_empty() && self.due == Tick::NEVER
    }

    fn set_due(&mut self) {
        let jobs = self.jobs.iter().filter_map(Job::poll_timeout);
        let resolving = self.resolving.values();
        let resolving = resolving.filter_map(|it| it.resolution.poll_timeout());
        let followed = self.questions.values().filter_map(|it| match it.how {
            How::Following(until) => Some(until),
            How::Asking | How::InLine => None,
        });
        let sign = (!self.jobs.is_empty()).then_some(self.sign);
        let due = jobs.chain(resolving).chain(followed).chain(sign).min();
        self.due = due.unwrap_or(Tick::NEVER);
    }

    /// Another number, as good as any (a Weyl sequence).
    fn chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.chance ^ (self.chance >> 29)
    }
}

impl Core {
    /// Finds the targets of `endpoint` for the policy; `Resolved` or `ResolveFailed` follows.
    pub(crate) fn resolve(&mut self, endpoint: EndpointKey) {
        if let Some(error) = self.dead.clone() {
            return self.tell(Event::ResolveFailed { endpoint, error });
        }
        if let Some(held) = self.held(endpoint) {
            self.renew(endpoint, &held);
            self.tell_held(endpoint, &held);
            return;
        }
        if self.begin_resolution(endpoint, |resolving| resolving.for_policy = true) {
            self.settle_names();
        }
    }

    /// Begins to resolve `endpoint`, or joins what has begun. `false` if there is no such endpoint.
    fn begin_resolution(
        &mut self,
        endpoint: EndpointKey,
        join: impl FnOnce(&mut Resolving),
    ) -> bool {
        if let Some(resolving) = self.lookups.resolving.get_mut(&endpoint) {
            join(resolving);
            return true;
        }
        // What is asked now is asked after a sleep that nobody has noticed yet.
        self.notice_sleep();
        self.refresh_sources();
        let epoch = self.links.registry().names().epoch();
        let Some(entry) = self.endpoints.get(endpoint) else {
            return false;
        };
        let wanted = Wanted {
            host: entry.endpoint.host().into(),
            is_absolute: entry.endpoint.is_absolute(),
            via: entry.endpoint.via(),
            port: entry.endpoint.port(),
            is_given: matches!(self.config.resolver, Resolver::Custom(_)),
        };
        let deadline = self.now.plus(self.config.get_timeout);
        let sources = self.names.sources().clone();
        let chance = self.lookups.chance();
        let mut resolving = Resolving {
            resolution: Resolution::new(self.now, wanted, sources, deadline, chance),
            for_policy: false,
            tasks: Vec::new(),
            epoch,
        };
        join(&mut resolving);
        self.lookups.resolving.insert(endpoint, resolving);
        self.lookups.ready.push_back(endpoint);
        true
    }

    /// Hands on what has ended and does what is wanted, until there is nothing left.
    fn settle_names(&mut self) {
        loop {
            if let Some((question, known)) = self.lookups.answered.pop_front() {
                self.deliver(&question, &known);
            } else if let Some(endpoint) = self.lookups.ready.pop_front() {
                self.take_wants(endpoint);
            } else if !self.begin_next_in_line() {
                break;
            }
        }
        self.lookups.set_due();
    }

    /// Does what the resolution of `endpoint` wants done.
    fn take_wants(&mut self, endpoint: EndpointKey) {
        while let Some(resolving) = self.lookups.resolving.get_mut(&endpoint) {
            let resolution = &mut resolving.resolution;
            let want = resolution.poll_want().or_else(|| {
                // It may know now how long it has to wait.
                resolution.handle_timeout(self.now);
                resolution.poll_want()
            });
            match want {
                Some(Want::Ask(question)) => self.ask(endpoint, question),
                Some(Want::Done(result)) => self.resolved(endpoint, result),
                None => return,
            }
        }
    }

    fn resolved(&mut self, endpoint: EndpointKey, result: Result<crate::dns::Outcome>) {
        let Some(resolving) = self.lookups.resolving.remove(&endpoint) else {
            return;
        };
        let result = result.and_then(|outcome| self.keep(endpoint, outcome, resolving.epoch));
        for task in resolving.tasks {
            let wakers = &mut self.deferred.wakers;
            self.lookups.tasks.finish(task, result.clone(), wakers);
        }
        if !resolving.for_policy {
            return;
        }
        match result {
            Ok(held) => self.tell_held(endpoint, &held),
            Err(error) => self.tell(Event::ResolveFailed { endpoint, error }),
        }
    }

    // -- questions -----------------------------------------------------------------------------

    /// Finds the answer to `question` for `endpoint`.
    fn ask(&mut self, endpoint: EndpointKey, question: Question) {
        let known = match self.lookups.questions.contains_key(&question) {
            true => self.look_beside(&question),
            false => self.find_out(&question),
        };
        if let Some(known) = known {
            self.tell_known(endpoint, &question, known);
            return;
        }
        let Some(interest) = self.lookups.questions.get_mut(&question) else {
            return;
        };
        interest.endpoints.push(endpoint);
        let (since, old) = (interest.since, interest.old.clone());
        if let Some(resolving) = self.lookups.resolving.get_mut(&endpoint) {
            resolving.resolution.handle_asked(&question, since, old);
        }
    }

    /// What is known of `question` although it is being found out: it is asked ahead of time, or
    /// another core was faster. What has expired since serves if that takes too long.
    fn look_beside(&mut self, question: &Question) -> Option<Known> {
        let names = self.links.registry().names();
        let (known, old) = names.look(self.now, question);
        if let Some(interest) = self.lookups.questions.get_mut(question) {
            interest.old = old;
        }
        known
    }

    /// What is known of `question`; `None` if it is being found out, by whomever.
    fn find_out(&mut self, question: &Question) -> Option<Known> {
        let may_lead = self.lookups.jobs.len() < MAX_RUNNING;
        let lease = may_lead.then(|| self.lease());
        let names = self.links.registry().names();
        let turn = names.join(self.now, question, self.links.shard(), lease);
        let (how, since, old) = match turn {
            Turn::Known(known) => {
                return Some(known);
            }
            Turn::Lead { old } => (How::Asking, self.now, old),
            Turn::Follow { since, until, old } => (How::Following(until), since, old),
            Turn::Later { old } => (How::InLine, self.now, old),
        };
        let questions = &mut self.lookups.questions;
        let interest = questions.entry(question.clone()).or_insert(Interest {
            how,
            since,
            old: None,
            endpoints: Vec::new(),
        });
        (interest.how, interest.old) = (how, old);
        match how {
            How::Asking => self.start_job(question),
            How::Following(_) => {}
            How::InLine => self.lookups.line.push_back(question.clone()),
        }
        None
    }

    /// Looks again at a question that this core does not ask itself.
    fn look_again(&mut self, question: Question) {
        if let Some(known) = self.find_out(&question) {
            self.lookups.answered.push_back((question, known));
        }
    }

    /// Begins the next question in line, if one may be asked.
    fn begin_next_in_line(&mut self) -> bool {
        if self.lookups.jobs.len() >= MAX_RUNNING {
            return false;
        }
        let Some(question) = self.lookups.line.pop_front() else {
            return false;
        };
        self.look_again(question);
        true
    }

    /// A question has an answer: whoever waits for it is told.
    fn deliver(&mut self, question: &Question, known: &Known) {
        let interest = self.lookups.questions.remove(question);
        for endpoint in interest.into_iter().flat_map(|it| it.endpoints) {
            self.tell_known(endpoint, question, known.clone());
            self.lookups.ready.push_back(endpoint);
        }
    }

    fn tell_known(&mut self, endpoint: EndpointKey, question: &Question, known: Known) {
        if let Some(resolving) = self.lookups.resolving.get_mut(&endpoint) {
            let resolution = &mut resolving.resolution;
            resolution.handle_known(self.now, question, known);
        }
    }

    /// Another core has answered what this one follows, or has gone.
    pub(super) fn hear_names(&mut self) {
        self.look_again_at(|how| matches!(how, How::Following(_)));
    }

    fn look_again_at(&mut self, which: impl Fn(How) -> bool) {
        let questions = self.lookups.questions.iter();
        let again: Vec<Question> = questions
            .filter(|(_, interest)| which(interest.how))
            .map(|(question, _)| question.clone())
            .collect();
        for question in again {
            self.look_again(question);
        }
        self.settle_names();
    }

    /// Time has passed.
    pub(crate) fn lookups_due(&mut self) {
        let now = self.now;
        if self.lookups.due > now {
            return;
        }
        self.jobs_due();
        for (endpoint, resolving) in &mut self.lookups.resolving {
            let due = resolving.resolution.poll_timeout();
            if due.is_some_and(|due| due <= now) {
                resolving.resolution.handle_timeout(now);
                self.lookups.ready.push_back(*endpoint);
            }
        }
        self.look_again_at(|how| matches!(how, How::Following(until) if until <= now));
    }

    /// After a sleep of the machine nothing that was known counts as fresh.
    pub(crate) fn notice_sleep(&mut self) {
        if self.now < self.lookups.look_at_sleep {
            return;
        }
        self.lookups.look_at_sleep = self.now.plus(BETWEEN_LOOKS);
        let slept = self.host.slept();
        if slept >= self.lookups.slept + LEAST_SLEEP {
            self.lookups.slept = slept;
            self.links.registry().names().woke_up(self.now, slept);
            self.names_changed();
        }
    }

    /// The core can do no more: it asks and follows nothing from now on, others ask at once what it
    /// was asking, and who waits here is told.
    pub(crate) fn end_names(&mut self, error: &Error) {
        let lookups = &mut self.lookups;
        lookups.tasks.fail_all(error, &mut self.deferred.wakers);
        for job in lookups.jobs.drain(..) {
            job.abort();
        }
        lookups.line.clear();
        lookups.ready.clear();
        lookups.due = Tick::NEVER;
        // They may hold errors of the user's own resolver.
        let resolving = std::mem::take(&mut lookups.resolving);
        let questions = std::mem::take(&mut lookups.questions);
        let answered = std::mem::take(&mut lookups.answered);
        let rest = Box::new((resolving, questions, answered));
        self.deferred.calls.push_back(Call::Drop(rest));
        self.links.registry().names().abandon(self.links.shard());
    }
}
