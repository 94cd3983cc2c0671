//! A name's addresses come from several servers that may be dead, slow, wrong or forged, by two
//! queries of which either may get lost. [`Lookup`] asks on until it knows, or until its time is
//! up.
//!
//! Promise: it ends by its deadline, exactly once; a server is asked at most `attempts` times per
//! family, and not again once it has said that it will not answer (except once without EDNS); the
//! absence of one family is never taken for the absence of the name, nor silence for absence;
//! each [`Action::Send`] is followed by exactly one [`Action::Close`], and all of them come before
//! [`Action::Done`], which is the last.
//!
//! States of each family: asking; answered; absent; failed (every server was asked as often as it
//! may). Once one family has an answer or says that there is no such name, the other has
//! [`RESOLUTION_DELAY`] left (RFC 8305).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::conf::ResolverConfig;
use super::query::{Family, Question, Verdict, keep_some, parse};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Tick;

/// How long the slower family is waited for.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// A lookup takes no longer, whatever the settings.
const MAX_TOTAL: Duration = Duration::from_secs(10);
/// A server gets at least so long before the next is asked as well.
const MIN_ATTEMPT: Duration = Duration::from_millis(333);
/// When one family did not answer, the other is not kept for longer than this.
const MAX_PARTIAL_TTL: Duration = Duration::from_secs(30);

/// One datagram's exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct QueryId(u32);

/// What a lookup wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send `bytes` to `server` from a socket of its own, connected to it, and report what comes.
    Send {
        query: QueryId,
        server: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Close the socket of `query`.
    Close { query: QueryId },
    /// The result. Nothing follows.
    Done(Result<Found, Failed>),
}

/// The addresses of a name, IPv6 first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// At least one, at most 64.
    pub(crate) addresses: Vec<IpAddr>,
    /// How long they may be kept, as the servers say.
    pub(crate) ttl: Duration,
}

/// Why there are no addresses.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// If a server said that there are none: how long that may be kept.
    pub(crate) absent: Option<Duration>,
}

/// The search for one name's addresses.
#[derive(Debug)]
pub(crate) struct Lookup {
    host: String,
    servers: Vec<Server>,
    attempts: usize,
    /// How long one server is waited for.
    patience: Duration,
    total: Duration,
    deadline: Tick,
    /// Since one family is known.
    hurry: Option<Tick>,
    asks: [Ask; 2],
    sent: Vec<Sent>,
    ids: Ids,
    next_query: u32,
    actions: VecDeque<Action>,
    is_done: bool,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// It did not understand EDNS.
    plain: bool,
}

/// The question for one family.
#[derive(Debug)]
struct Ask {
    question: Question,
    state: State,
    /// How many turns were taken; turn `n` is server `n % servers`.
    turns: usize,
    /// By server: it will not answer this.
    refused: Vec<bool>,
    /// When the next server is asked.
    next: Tick,
    /// The query sent last.
    current: QueryId,
    /// The last thing that a server said or the system knew, short of an answer.
    reason: Option<Error>,
}

#[derive(Debug)]
enum State {
    Asking,
    Answered { addresses: Vec<IpAddr>, ttl: u32 },
    Absent(Absence),
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Absence {
    of_name: bool,
    ttl: u32,
    server: SocketAddr,
}

/// A query whose socket is open.
#[derive(Debug)]
struct Sent {
    query: QueryId,
    ask: usize,
    server: usize,
    id: u16,
    edns: bool,
}

/// Ids that nobody off the path can guess, from a seed that nobody knows (SplitMix64).
#[derive(Debug)]
struct Ids(u64);

impl Lookup {
    /// Begins to look up `host`, to end by `deadline`. `seed` comes fresh from the system's
    /// generator for each lookup.
    pub(crate) fn new(
        now: Tick,
        host: &str,
        config: &ResolverConfig,
        deadline: Tick,
        seed: u64,
    ) -> Result<Self> {
        let turns = config.servers.len() as u32 * config.attempts;
        let total = deadline
            .since(now)
            .min(config.timeout.saturating_mul(turns))
            .min(MAX_TOTAL);
        let ask = |family| {
            Ok::<_, Error>(Ask {
                question: Question::new(host, family)?,
                state: State::Asking,
                turns: 0,
                refused: vec![false; config.servers.len()],
                next: now,
                current: QueryId(0),
                reason: None,
            })
        };
        let server = |&address| Server {
            address,
            plain: false,
        };
        let mut lookup = Self {
            host: host.to_owned(),
            servers: config.servers.iter().map(server).collect(),
            attempts: config.attempts as usize,
            patience: config.timeout.min(MIN_ATTEMPT.max(total / turns.max(1))),
            total,
            deadline: now.plus(total),
            hurry: None,
            asks: [ask(Family::V6)?, ask(Family::V4)?],
            sent: Vec::new(),
            ids: Ids(seed),
            next_query: 0,
            actions: VecDeque::new(),
            is_done: false,
        };
        lookup.handle_timeout(now);
        Ok(lookup)
    }

    /// What to do next; `None` until something happens.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        if self.is_done {
            return None;
        }
        let asking = self.asks.iter().filter(|ask| ask.is_asking());
        let next = asking.map(|ask| ask.next).min();
        [Some(self.deadline), self.hurry, next]
            .into_iter()
            .flatten()
            .min()
    }

    /// A datagram came on the socket of `query`; `cut` if it was longer than `bytes`.
    pub(crate) fn handle_datagram(&mut self, now: Tick, query: QueryId, bytes: &[u8], cut: bool) {
        let Some(sent) = self.sent.iter().find(|sent| sent.query == query) else {
            return;
        };
        let (ask, server, edns) = (sent.ask, sent.server, sent.edns);
        let question = &self.asks[ask].question;
        let state = match parse(bytes, question, sent.id, edns, cut) {
            Verdict::Ignore(_) => return,
            Verdict::Answer { addresses, ttl } => State::Answered { addresses, ttl },
            Verdict::NoData { ttl } => self.absent(false, ttl, server),
            Verdict::NxDomain { ttl } => self.absent(true, ttl, server),
            Verdict::RetryPlain => {
                self.servers[server].plain = true;
                self.close(query);
                if self.asks[ask].current == query {
                    self.send(now, ask, server);
                }
                return;
            }
            Verdict::Truncated => {
                let server = self.at(server);
                let text = format!("answer truncated (TC from {server}), and only UDP is spoken");
                return self.refused(now, query, resolve_error(text));
            }
            Verdict::Refused(code) => {
                let text = match code {
                    "SERVFAIL" => "server failure",
                    _ => "server refused",
                };
                let text = format!("{text} ({code} from {})", self.at(server));
                return self.refused(now, query, resolve_error(text));
            }
        };
        self.settle(now, ask, state);
    }

    /// The socket of `query` failed: nobody listens there, or there is no way.
    pub(crate) fn handle_failed(&mut self, now: Tick, query: QueryId, errno: i32) {
        let Some(sent) = self.sent.iter().find(|sent| sent.query == query) else {
            return;
        };
        let step = format!("asking {}", self.at(sent.server));
        let error = Error::from_errno(ErrorKind::Resolve, errno).context(step);
        self.refused(now, query, error);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Tick) {
        if self.is_done {
            return;
        }
        if now >= self.deadline || self.hurry.is_some_and(|hurry| now >= hurry) {
            self.finish();
            return;
        }
        for ask in 0..self.asks.len() {
            if self.asks[ask].is_asking() && now >= self.asks[ask].next {
                self.advance(now, ask);
            }
        }
    }

    fn at(&self, server: usize) -> SocketAddr {
        self.servers[server].address
    }

    fn absent(&self, of_name: bool, ttl: Option<u32>, server: usize) -> State {
        State::Absent(Absence {
            of_name,
            ttl: ttl.unwrap_or(0),
            server: self.at(server),
        })
    }

    /// The server of `query` will not answer: the next is asked at once.
    fn refused(&mut self, now: Tick, query: QueryId, reason: Error) {
        let Some(sent) = self.sent.iter().find(|sent| sent.query == query) else {
            return;
        };
        let (ask, server) = (sent.ask, sent.server);
        self.close(query);
        self.asks[ask].refused[server] = true;
        self.asks[ask].reason = Some(reason);
        let nobody_left = self.asks[ask].refused.iter().all(|&refused| refused);
        if self.asks[ask].current == query || nobody_left {
            self.advance(now, ask);
        }
    }

    /// Asks the next server that may answer; what was sent before may still be answered.
    fn advance(&mut self, now: Tick, ask: usize) {
        let servers = self.servers.len();
        while self.asks[ask].turns < servers * self.attempts {
            let server = self.asks[ask].turns % servers;
            self.asks[ask].turns += 1;
            if !self.asks[ask].refused[server] {
                self.send(now, ask, server);
                return;
            }
        }
        let is_answer_possible = self.sent.iter().any(|sent| sent.ask == ask);
        if is_answer_possible && now < self.asks[ask].next {
            // A server that was asked before still has its time.
            return;
        }
        self.settle(now, ask, State::Failed);
    }

    fn send(&mut self, now: Tick, ask: usize, server: usize) {
        let id = self.ids.next(&self.sent);
        let edns = !self.servers[server].plain;
        let bytes = match self.asks[ask].question.encode(id, edns) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.asks[ask].reason = Some(error);
                self.settle(now, ask, State::Failed);
                return;
            }
        };
        let query = QueryId(self.next_query);
        self.next_query += 1;
        self.asks[ask].current = query;
        self.asks[ask].next = now.plus(self.patience);
        self.sent.push(Sent {
            query,
            ask,
            server,
            id,
            edns,
        });
        let server = self.at(server);
        self.actions.push_back(Action::Send {
            query,
            server,
            bytes,
        });
    }

    fn close(&mut self, query: QueryId) {
        self.sent.retain(|sent| sent.query != query);
        self.actions.push_back(Action::Close { query });
    }

    fn close_all_of(&mut self, ask: usize) {
        let sent = self.sent.iter().filter(|sent| sent.ask == ask);
        let queries: Vec<QueryId> = sent.map(|sent| sent.query).collect();
        queries.into_iter().for_each(|query| self.close(query));
    }

    /// One family is known, or given up.
    fn settle(&mut self, now: Tick, ask: usize, state: State) {
        let says_something = match &state {
            State::Answered { .. } => true,
            State::Absent(absence) => absence.of_name,
            State::Asking | State::Failed => false,
        };
        self.asks[ask].state = state;
        self.close_all_of(ask);
        if self.asks.iter().all(|ask| !ask.is_asking()) {
            self.finish();
        } else if says_something {
            self.hurry = Some(now.plus(RESOLUTION_DELAY));
        }
    }

    fn finish(&mut self) {
        for ask in 0..self.asks.len() {
            self.close_all_of(ask);
        }
        self.is_done = true;
        let result = self.result();
        self.actions.push_back(Action::Done(result));
    }

    fn result(&self) -> Result<Found, Failed> {
        let (mut by_family, mut ttl) = (Vec::new(), Duration::MAX);
        for ask in &self.asks {
            ttl = ttl.min(match &ask.state {
                State::Answered { addresses, ttl } => {
                    by_family.push(addresses.as_slice());
                    seconds(*ttl)
                }
                State::Absent(_) => Duration::MAX,
                State::Asking | State::Failed => MAX_PARTIAL_TTL,
            });
        }
        if by_family.is_empty() {
            return Err(self.failure());
        }
        let addresses = keep_some(by_family.concat());
        Ok(Found { addresses, ttl })
    }

    fn failure(&self) -> Failed {
        let absences = || {
            self.asks.iter().filter_map(|ask| match ask.state {
                State::Absent(absence) => Some(absence),
                _ => None,
            })
        };
        let (error, absent) = if let Some(absence) = absences().find(|absence| absence.of_name) {
            let text = format!("no such name (NXDOMAIN from {})", absence.server);
            (resolve_error(text), Some(seconds(absence.ttl)))
        } else if absences().count() == self.asks.len() {
            let server = absences()
                .map(|absence| absence.server.to_string())
                .next_back();
            let text = format!("no addresses (NODATA from {})", server.unwrap_or_default());
            let ttl = absences().map(|absence| absence.ttl).min();
            (resolve_error(text), ttl.map(seconds))
        } else {
            let reason = self.asks.iter().rev().find_map(|ask| ask.reason.clone());
            (reason.unwrap_or_else(|| self.silence()), None)
        };
        Failed {
            error: error.context(format!("resolving {}", self.host)),
            absent,
        }
    }

    fn silence(&self) -> Error {
        let whom = match self.servers.as_slice() {
            [server] => server.address.to_string(),
            servers => format!("{} servers", servers.len()),
        };
        let within = match self.total.subsec_millis() {
            0 => format!("{} s", self.total.as_secs()),
            _ => format!("{} ms", self.total.as_millis()),
        };
        resolve_error(format!("no answer from {whom} within {within}"))
    }
}

impl Ask {
    fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking)
    }
}

impl Ids {
    /// The next id; no open query has it.
    fn next(&mut self, sent: &[Sent]) -> u16 {
        loop {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = (mixed >> 48) as u16;
            if sent.iter().all(|sent| sent.id != id) {
                return id;
            }
        }
    }
}

fn resolve_error(text: String) -> Error {
    Error::new(ErrorKind::Resolve, text)
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

#[cfg(test)]
mod tests;
