//! The questions that this core asks: each a [`Lookup`] with its sockets, or a task of the user's
//! resolver.
//!
//! Promise: at most [`MAX_RUNNING`]; each ends by its deadline with an answer, which all cores get;
//! what a lookup wants sent waits for a socket as long as it is of use.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::dns::{self, Action, Answer, Known, Lookup, QueryId, Question};
use crate::error::Error;
use crate::host::TaskHandle;
use crate::resolver::Resolver;
use crate::ring;
use crate::shard::core::Core;
use crate::share::Heard;
use crate::slot::Key;
use crate::time::Tick;

/// Questions that one core asks at once; each has a socket per query.
pub(crate) const MAX_RUNNING: usize = 16;
/// A core that leads and was not at work for so long has lost its place: another asks.
const LEASE: Duration = Duration::from_secs(1);
/// How often a core that leads shows that it is at work.
pub(super) const SIGN: Duration = Duration::from_millis(250);

/// A question being asked.
pub(super) struct Job {
    pub(super) question: Question,
    /// Of the sources that are asked.
    generation: u64,
    /// It is asked for the server's sake, and its answer thrown away.
    is_probe: bool,
    work: Work,
}

enum Work {
    Lookup {
        lookup: Box<Lookup>,
        sockets: Vec<(QueryId, Key)>,
        /// What is to be sent once a socket is free. Bounded by the queries of one lookup.
        unsent: VecDeque<Unsent>,
    },
    /// The user's resolver; `None` before its task has begun.
    Given(Option<TaskHandle<()>>),
}

#[derive(Clone)]
struct Unsent {
    query: QueryId,
    server: SocketAddr,
    transport: ring::Transport,
    bytes: Vec<u8>,
}

impl Work {
    fn lookup(lookup: Lookup) -> Self {
        Self::Lookup {
            lookup: Box::new(lookup),
            sockets: Vec::new(),
            unsent: VecDeque::new(),
        }
    }
}

impl Job {
    pub(super) fn poll_timeout(&self) -> Option<Tick> {
        match &self.work {
            Work::Lookup { lookup, .. } => lookup.poll_timeout(),
            Work::Given(_) => None,
        }
    }

    pub(super) fn abort(self) {
        if let Work::Given(Some(task)) = self.work {
            task.abort();
        }
    }

    /// The query that has the socket `key`.
    fn query_of(&self, key: Key) -> Option<QueryId> {
        let Work::Lookup { sockets, .. } = &self.work else {
            return None;
        };
        let mut sockets = sockets.iter();
        sockets.find_map(|(query, socket)| (*socket == key).then_some(*query))
    }
}

impl super::Lookups {
    /// The job whose query has the socket `key`.
    pub(crate) fn by_socket(&self, key: Key) -> Option<(usize, QueryId)> {
        let mut jobs = self.jobs.iter().enumerate();
        jobs.find_map(|(at, job)| Some((at, job.query_of(key)?)))
    }
}

impl Core {
    /// Until when other cores trust this one with what it asks, if they hear nothing more of it.
    pub(super) fn lease(&self) -> Tick {
        self.now.plus(LEASE)
    }

    /// Shows the other cores that this one is at work.
    pub(super) fn show_work(&mut self) {
        let names = self.links.registry().names();
        names.renew(self.links.shard(), self.lease());
        self.lookups.sign = self.now.plus(SIGN);
    }

    /// Asks `question`, which is this core's to ask.
    pub(super) fn start_job(&mut self, question: &Question) {
        let sources = self.names.sources().clone();
        let deadline = self.now.plus(self.config.get_timeout);
        let work = match &self.config.resolver {
            Resolver::Custom(resolver) => {
                let resolver = resolver.clone();
                self.call_resolver(question.clone(), resolver, deadline);
                Ok(Work::Given(None))
            }
            _ => self.host.random_seed().and_then(|seed| {
                let config = &sources.config;
                let health = &self.lookups.health;
                let lookup = Lookup::new(self.now, question, config, health, deadline, seed)?;
                Ok(Work::lookup(lookup))
            }),
        };
        let generation = sources.generation;
        match work {
            Ok(work) => {
                if self.lookups.jobs.is_empty() {
                    self.lookups.sign = self.now.plus(SIGN);
                }
                let is_lookup = matches!(work, Work::Lookup { .. });
                self.lookups.jobs.push(Job {
                    question: question.clone(),
                    generation,
                    is_probe: false,
                    work,
                });
                self.advance(self.lookups.jobs.len() - 1);
                if is_lookup {
                    self.probe(question);
                }
            }
            Err(error) => {
                let (answer, asked) = (Answer::Failed(error), self.now);
                let heard = Heard {
                    answer,
                    asked,
                    generation,
                };
                self.answer(question.clone(), heard);
            }
        }
    }

    /// Now and then a copy of a question goes to a server that failed, to see whether it is back.
    fn probe(&mut self, question: &Question) {
        if self.lookups.jobs.len() >= MAX_RUNNING {
            return;
        }
        let (config, now) = (&self.names.sources().config, self.now);
        let health = &mut self.lookups.health;
        let seed = self.host.random_seed().ok();
        let probe = seed.and_then(|seed| Lookup::probe(now, question, config, health, seed));
        if let Some(lookup) = probe {
            self.lookups.jobs.push(Job {
                question: question.clone(),
                generation: 0,
                is_probe: true,
                work: Work::lookup(lookup),
            });
            self.advance(self.lookups.jobs.len() - 1);
        }
    }

    /// `question` has an answer: every core may know it.
    fn answer(&mut self, question: Question, heard: Heard) {
        let (names, chance) = (self.links.registry().names(), self.lookups.chance());
        let shard = self.links.shard();
        let known = names.finish(self.now, &question, shard, heard, chance);
        self.lookups.answered.push_back((question, known));
    }

    /// The task of the user's resolver runs.
    pub(super) fn resolver_runs(&mut self, question: &Question, task: TaskHandle<()>) {
        let job = self
            .lookups
            .jobs
            .iter_mut()
            .find(|it| it.question == *question);
        match job.map(|job| &mut job.work) {
            Some(Work::Given(place)) => *place = Some(task),
            _ => task.abort(),
        }
    }

    /// The user's resolver has answered.
    pub(super) fn resolver_answered(&mut self, question: &Question, answer: Answer) {
        self.refresh();
        if let Some(job) = self.take_job(question) {
            let heard = Heard {
                answer,
                // What it says holds from now on, whatever it took to find out.
                asked: self.now,
                generation: job.generation,
            };
            self.answer(job.question, heard);
            self.settle_names();
            self.pump();
        }
    }

    /// The task of the user's resolver was dropped before it had an answer: `error` is told here,
    /// and another core asks for its own.
    pub(super) fn resolver_dropped(&mut self, question: &Question, error: Error) {
        self.refresh();
        if let Some(job) = self.take_job(question) {
            let names = self.links.registry().names();
            names.give_up(question, self.links.shard());
            let until = self.now;
            let known = Known::Failed { error, until };
            self.lookups.answered.push_back((job.question, known));
            self.settle_names();
            self.pump();
        }
    }

    fn take_job(&mut self, question: &Question) -> Option<Job> {
        let jobs = &mut self.lookups.jobs;
        let at = jobs.iter().position(|it| it.question == *question)?;
        Some(jobs.swap_remove(at))
    }

    /// Does what the lookup at `at` wants done.
    fn advance(&mut self, at: usize) {
        while let Some(Job {
            work:
                Work::Lookup {
                    lookup,
                    sockets,
                    unsent,
                },
            ..
        }) = self.lookups.jobs.get_mut(at)
            && let Some(action) = lookup.poll_action()
        {
            match action {
                Action::Send {
                    query,
                    server,
                    transport,
                    bytes,
                } => {
                    let transport = match transport {
                        dns::Transport::Udp => ring::Transport::Udp,
                        dns::Transport::Tcp => ring::Transport::Tcp,
                    };
                    unsent.push_back(Unsent {
                        query,
                        server,
                        transport,
                        bytes,
                    });
                    self.send_queries(at);
                }
                Action::Close { query } => {
                    unsent.retain(|it| it.query != query);
                    if let Some(at) = sockets.iter().position(|(it, _)| *it == query) {
                        let (_, key) = sockets.swap_remove(at);
                        self.backend.close_query(key);
                    }
                }
                Action::Done { answer, asked } => {
                    let job = self.lookups.jobs.swap_remove(at);
                    if !job.is_probe {
                        let heard = Heard {
                            answer,
                            asked,
                            generation: job.generation,
                        };
                        self.answer(job.question, heard);
                    }
                    return;
                }
            }
        }
    }

    /// Sends what the lookup at `at` wants sent, as far as there are sockets. The rest waits for
    /// one to be closed, or for the lookup to give it up.
    fn send_queries(&mut self, at: usize) {
        while let Some(Work::Lookup { unsent, .. }) = self.work(at)
            && let Some(next) = unsent.front().cloned()
        {
            let Ok(key) = self.ask_server(next.server, next.transport, next.bytes) else {
                return;
            };
            if let Some(Work::Lookup {
                sockets, unsent, ..
            }) = self.work(at)
            {
                sockets.push((next.query, key));
                unsent.pop_front();
            }
        }
    }

    fn work(&mut self, at: usize) -> Option<&mut Work> {
        self.lookups.jobs.get_mut(at).map(|job| &mut job.work)
    }

    // -- what comes ----------------------------------------------------------------------------

    /// Does something to the lookup whose query has the socket `key`.
    fn with_query(
        &mut self,
        key: Key,
        work: impl FnOnce(&mut Lookup, Tick, &mut dns::Health, QueryId),
    ) {
        let Some((at, query)) = self.lookups.by_socket(key) else {
            return;
        };
        let super::Lookups { jobs, health, .. } = &mut self.lookups;
        if let Work::Lookup { lookup, .. } = &mut jobs[at].work {
            work(lookup, self.now, health, query);
        }
        self.advance(at);
        self.settle_names();
    }

    pub(crate) fn query_bytes(&mut self, key: Key, bytes: &[u8], truncated: bool) {
        self.with_query(key, |lookup, now, health, query| {
            lookup.handle_bytes(now, health, query, bytes, truncated);
        });
    }

    pub(crate) fn query_failed(&mut self, key: Key, errno: i32) {
        self.with_query(key, |lookup, now, health, query| {
            lookup.handle_failed(now, health, query, errno);
        });
    }

    /// The socket of a query is closed: another query may have it.
    pub(crate) fn query_closed(&mut self) {
        for at in 0..self.lookups.jobs.len() {
            self.send_queries(at);
        }
    }

    pub(super) fn jobs_due(&mut self) {
        let now = self.now;
        if !self.lookups.jobs.is_empty() && self.lookups.sign <= now {
            self.show_work();
        }
        let mut at = 0;
        while let Some(job) = self.lookups.jobs.get(at) {
            if job.poll_timeout().is_none_or(|due| due > now) {
                at += 1;
                continue;
            }
            // Not due any more, or ended, its place taken by another: looked at again.
            let super::Lookups { jobs, health, .. } = &mut self.lookups;
            if let Work::Lookup { lookup, .. } = &mut jobs[at].work {
                lookup.handle_timeout(now, health);
            }
            self.advance(at);
        }
    }
}
