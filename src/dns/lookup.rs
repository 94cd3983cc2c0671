//! A question goes to several servers that may be dead, slow, wrong or forged, and any packet may
//! get lost. [`Lookup`] asks on until it has an answer, or until its time is up.
//!
//! Promise: it ends by its deadline, exactly once; a server is sent the question at most
//! three times over each transport (RFC 9520 section 3.1), and not again once it has said
//! that it will not answer; silence is never taken for absence, and a cut answer for none; each
//! [`Action::Send`] is followed by exactly one [`Action::Close`], and all of them come before
//! [`Action::Done`], which is the last.
//!
//! Time: a server is given its turn (one and a half of its round trips, at least 333 ms), then the
//! next one is asked as well, from a socket of its own; what was sent before may still be answered
//! until the configured timeout. A server that is out of reach or refuses gives its turn away at
//! once.
//!
//! Transport: UDP, unless the configuration says otherwise. A cut answer is asked for again over
//! TCP. So is a question whose socket somebody found: one who sends the wrong id may guess the right
//! one next, and [`MAX_MESSAGES`] that say nothing are no accident. That lasts until the server's
//! next turn, for there may be no way for TCP.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use self::failure::{failure, resolve_error};
use self::server::Server;
use self::stream::{Frame, MAX_MESSAGES, Stream};
use super::conf::ResolverConfig;
use super::health::Health;
use super::query::{Query, Sending, Verdict, parse};
use super::record::{Answer, Question};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::Rng;
use crate::time::Tick;

mod failure;
mod server;
mod stream;
#[cfg(test)]
mod tests;

/// A lookup takes no longer, whatever the settings.
const MAX_TOTAL: Duration = Duration::from_secs(10);

/// One exchange with a server, on a socket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct QueryId(u32);

/// What a query is sent over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What a lookup wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send `bytes` to `server` from a socket of its own, connected to it, and report what comes.
    /// Over TCP they have their length before them.
    Send {
        query: QueryId,
        server: SocketAddr,
        transport: Transport,
        bytes: Vec<u8>,
    },
    /// Close the socket of `query`.
    Close { query: QueryId },
    /// The result, and when what was answered was sent; of a failure, when the lookup began.
    /// Nothing follows.
    Done { answer: Answer, asked: Tick },
}

/// One question on its way to an answer.
#[derive(Debug)]
pub(crate) struct Lookup {
    question: Question,
    query: Query,
    /// In the order in which they are asked.
    servers: Vec<Server>,
    /// As [`Health`] is told of them.
    config: Vec<SocketAddr>,
    attempts: usize,
    /// How long a query is open, at most.
    timeout: Duration,
    total: Duration,
    began: Tick,
    deadline: Tick,
    /// How many turns were taken; turn `n` is server `n % servers`.
    turns: usize,
    /// When the turn is over.
    next: Tick,
    /// The query sent last.
    current: QueryId,
    open: Vec<Sent>,
    rng: Rng,
    next_query: u32,
    /// Answers with an id or letters that were not asked with.
    guesses: u32,
    actions: VecDeque<Action>,
    is_done: bool,
}

/// A query whose socket is open.
#[derive(Debug)]
struct Sent {
    query: QueryId,
    server: usize,
    sending: Sending,
    at: Tick,
    /// The next server is asked as well.
    turn_ends: Tick,
    expires: Tick,
    /// Datagrams.
    heard: u32,
    stream: Stream,
}

impl Lookup {
    /// Begins to ask `question`, to end by `deadline`. `seed` comes fresh from the system's
    /// generator for each lookup.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if no packet can carry the name.
    pub(crate) fn new(
        now: Tick,
        question: &Question,
        config: &ResolverConfig,
        health: &Health,
        deadline: Tick,
        seed: u64,
    ) -> Result<Self> {
        let mut rng = Rng::new(seed);
        let order = health.order(now, config, rng.next());
        let mut lookup = Self::idle(now, question, config, order, health, deadline, rng)?;
        lookup.advance(now, health);
        Ok(lookup)
    }

    /// A copy of `question` for a server that failed lately, when [`Health`] wants to know whether
    /// it is back. The lookup is driven like any other and its answer thrown away.
    pub(crate) fn probe(
        now: Tick,
        question: &Question,
        config: &ResolverConfig,
        health: &mut Health,
        seed: u64,
    ) -> Option<Self> {
        let mut rng = Rng::new(seed);
        let server = health.probe(now, config, rng.next())?;
        let deadline = now.plus(config.timeout);
        let mut lookup =
            Self::idle(now, question, config, vec![server], health, deadline, rng).ok()?;
        lookup.attempts = 1;
        lookup.advance(now, health);
        Some(lookup)
    }

    fn idle(
        now: Tick,
        question: &Question,
        config: &ResolverConfig,
        order: Vec<SocketAddr>,
        health: &Health,
        deadline: Tick,
        mut rng: Rng,
    ) -> Result<Self> {
        let turns = order.len() as u32 * config.attempts;
        let total = deadline
            .since(now)
            .min(config.timeout.saturating_mul(turns))
            .min(MAX_TOTAL);
        let server = |address| {
            let plain = !config.edns || health.is_plain(now, address);
            Server::new(address, plain, config.use_tcp)
        };
        let case = config.randomize_case.then_some(&mut rng);
        Ok(Self {
            question: question.clone(),
            query: Query::new(question, case, config.trust_ad)?,
            servers: order.into_iter().map(server).collect(),
            config: config.servers.clone(),
            attempts: config.attempts as usize,
            timeout: config.timeout,
            total,
            began: now,
            deadline: now.plus(total),
            turns: 0,
            next: now,
            current: QueryId(0),
            open: Vec::new(),
            rng,
            next_query: 0,
            guesses: 0,
            actions: VecDeque::new(),
            is_done: false,
        })
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
        let expiring = self.open.iter().map(|sent| sent.expires);
        expiring.chain([self.deadline, self.next]).min()
    }

    /// Bytes came on the socket of `query`: a datagram, `cut` if it was longer, or any part of a
    /// stream.
    pub(crate) fn handle_bytes(
        &mut self,
        now: Tick,
        health: &mut Health,
        query: QueryId,
        bytes: &[u8],
        cut: bool,
    ) {
        let Some(sent) = self.open.iter_mut().find(|sent| sent.query == query) else {
            return;
        };
        if sent.sending.transport == Transport::Udp {
            sent.heard += 1;
            let is_flood = sent.heard >= MAX_MESSAGES;
            return match parse(bytes, &self.query, sent.sending, cut) {
                Verdict::Ignore(_) | Verdict::Malformed(_) if is_flood => {
                    self.detour(now, health, query);
                }
                verdict => self.judge(now, health, query, verdict),
            };
        }
        let mut rest = bytes;
        // A verdict may close the query; then nobody wants the rest.
        while let Some(sent) = self.open.iter_mut().find(|sent| sent.query == query) {
            let verdict = match sent.stream.next(&mut rest) {
                Frame::Message(bytes) => parse(&bytes, &self.query, sent.sending, false),
                Frame::Incomplete => return,
                Frame::Broken(what) => Verdict::Malformed(what),
            };
            self.judge(now, health, query, verdict);
        }
    }

    /// The socket of `query` failed: nobody listens there, there is no way, or the stream ended
    /// (`errno` 0).
    pub(crate) fn handle_failed(
        &mut self,
        now: Tick,
        health: &mut Health,
        query: QueryId,
        errno: i32,
    ) {
        let Some(sent) = self.open.iter().find(|sent| sent.query == query) else {
            return;
        };
        let (index, transport) = (sent.server, sent.sending.transport);
        let server = &mut self.servers[index];
        health.failed(now, &self.config, server.address);
        let error = match errno {
            0 => resolve_error("the connection ended before the answer".to_owned()),
            errno => Error::from_errno(ErrorKind::Resolve, errno),
        };
        server.reason = Some(error.context(format!("asking {}", server.address)));
        // A stream that broke may hold the next time.
        let is_broken = matches!(errno, 0 | libc::ECONNRESET | libc::EPIPE);
        match transport {
            Transport::Tcp if is_broken || server.is_detour => self.close(query),
            _ => self.refuse(index),
        }
        self.go_on(now, health, query);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Tick, health: &mut Health) {
        if self.is_done {
            return;
        }
        for sent in self.open.iter().filter(|sent| now >= sent.turn_ends) {
            health.failed(now, &self.config, self.servers[sent.server].address);
        }
        if now >= self.deadline {
            return self.fail();
        }
        if now >= self.next {
            self.advance(now, health);
        }
        let expired = self.open.iter().filter(|sent| now >= sent.expires);
        let expired: Vec<QueryId> = expired.map(|sent| sent.query).collect();
        for query in expired {
            self.close(query);
            self.go_on(now, health, query);
        }
    }

    /// Acts on what came for `query`.
    fn judge(&mut self, now: Tick, health: &mut Health, query: QueryId, verdict: Verdict) {
        let Some(sent) = self.open.iter().find(|sent| sent.query == query) else {
            return;
        };
        let (index, sending, at) = (sent.server, sent.sending, sent.at);
        let is_udp = sending.transport == Transport::Udp;
        // What waited while the machine was suspended says nothing of the server.
        let rtt = (is_udp && now < sent.expires).then(|| now.since(at));
        let server = &mut self.servers[index];
        let address = server.address;
        let answer = match verdict {
            Verdict::Ignore(_) => return,
            // Of another exchange on the same connection.
            Verdict::Foreign if !is_udp => return,
            // A forger could have sent it; the true one may follow.
            Verdict::Malformed(_) if is_udp => return,
            Verdict::Foreign if is_udp => {
                self.guesses += 1;
                return self.detour(now, health, query);
            }
            Verdict::Truncated if is_udp => {
                (server.transport, server.is_detour) = (Transport::Tcp, false);
                return self.ask_again(now, health, query, "answer truncated (TC");
            }
            Verdict::RetryPlain => {
                (server.plain, server.wants_plain) = (true, true);
                return self.ask_again(now, health, query, "server refused (FORMERR");
            }
            Verdict::Foreign | Verdict::Truncated => {
                return self.refused(now, health, query, "answer truncated over TCP (TC");
            }
            Verdict::Malformed(what) => {
                return self.refused(now, health, query, &format!("no answer ({what}, "));
            }
            Verdict::Refused("SERVFAIL") => {
                return self.refused(now, health, query, "server failure (SERVFAIL");
            }
            Verdict::Refused(code) => {
                return self.refused(now, health, query, &format!("server refused ({code}"));
            }
            Verdict::Found { records, ttl } => Answer::Found {
                records,
                ttl: seconds(ttl),
                server: address,
            },
            Verdict::NoData { ttl } => Answer::NoData {
                ttl: ttl.map(seconds),
                server: address,
            },
            Verdict::NxDomain { ttl } => Answer::NxDomain {
                ttl: ttl.map(seconds),
                server: address,
            },
        };
        if server.wants_plain && !sending.edns {
            health.needs_plain(now, &self.config, address);
        }
        health.answered(&self.config, address, rtt);
        self.finish(answer, at);
    }

    /// Asks the server of `query` over TCP: somebody else may write to this socket.
    fn detour(&mut self, now: Tick, health: &mut Health, query: QueryId) {
        if let Some(sent) = self.open.iter().find(|sent| sent.query == query) {
            self.servers[sent.server].detour();
        }
        let why = "no answer over TCP (asked for often enough,";
        self.ask_again(now, health, query, why);
    }

    /// Asks the server of `query` once more, otherwise than before; if it was asked often enough and
    /// nothing else is open to it, `why` is what remains of it.
    fn ask_again(&mut self, now: Tick, health: &mut Health, query: QueryId, why: &str) {
        let Some(sent) = self.open.iter().find(|sent| sent.query == query) else {
            return;
        };
        let server = sent.server;
        let may_be_asked = self.servers[server].may_be_asked();
        let mut others = self.open.iter().filter(|sent| sent.query != query);
        if !may_be_asked && !others.any(|sent| sent.server == server) {
            return self.refused(now, health, query, why);
        }
        self.close(query);
        if !may_be_asked {
            return self.go_on(now, health, query);
        }
        let turn = (self.current, self.next);
        self.send(now, health, server);
        if turn.0 != query {
            // It is another server's turn.
            (self.current, self.next) = turn;
        }
    }

    /// The server of `query` will not answer: `text` and its address say why.
    fn refused(&mut self, now: Tick, health: &mut Health, query: QueryId, text: &str) {
        let Some(sent) = self.open.iter().find(|sent| sent.query == query) else {
            return;
        };
        let index = sent.server;
        let server = &mut self.servers[index];
        health.failed(now, &self.config, server.address);
        server.reason = Some(resolve_error(format!("{text} from {})", server.address)));
        self.refuse(index);
        self.go_on(now, health, query);
    }

    /// Nothing more is expected of the server.
    fn refuse(&mut self, server: usize) {
        self.servers[server].refused = true;
        let queries = self.open.iter().filter(|sent| sent.server == server);
        let queries: Vec<QueryId> = queries.map(|sent| sent.query).collect();
        queries.into_iter().for_each(|query| self.close(query));
    }

    /// After `query` was closed: the next server is asked at once if it was this one's turn.
    fn go_on(&mut self, now: Tick, health: &Health, query: QueryId) {
        let has_turn = self.open.iter().any(|sent| sent.query == self.current);
        if query == self.current || !has_turn {
            self.advance(now, health);
        }
    }

    /// Asks the next server that may answer; what was sent before may still be answered.
    fn advance(&mut self, now: Tick, health: &Health) {
        while self.turns < self.servers.len() * self.attempts {
            let server = self.turns % self.servers.len();
            self.turns += 1;
            self.servers[server].begin_turn();
            if self.servers[server].may_be_asked() {
                return self.send(now, health, server);
            }
        }
        self.next = Tick::NEVER;
        if self.open.is_empty() {
            self.fail();
        }
    }

    fn send(&mut self, now: Tick, health: &Health, index: usize) {
        let is_known = |id| self.open.iter().any(|sent| sent.sending.id == id);
        let mut id = self.rng.next() as u16;
        while is_known(id) {
            id = self.rng.next() as u16;
        }
        let query = QueryId(self.next_query);
        self.next_query += 1;
        let round = self.turns.saturating_sub(1) / self.servers.len();
        let server = &mut self.servers[index];
        let transport = server.transport;
        let is_tcp = transport == Transport::Tcp;
        server.sends[usize::from(is_tcp)] += 1;
        let sending = Sending {
            id,
            edns: !server.plain,
            transport,
        };
        let wait = health.wait(server.address, is_tcp, round as u32, self.timeout);
        self.current = query;
        self.next = now.plus(wait);
        self.open.push(Sent {
            query,
            server: index,
            sending,
            at: now,
            turn_ends: self.next,
            expires: now.plus(self.timeout),
            heard: 0,
            stream: Stream::default(),
        });
        self.actions.push_back(Action::Send {
            query,
            server: server.address,
            transport,
            bytes: self.query.encode(sending),
        });
    }

    fn close(&mut self, query: QueryId) {
        self.open.retain(|sent| sent.query != query);
        self.actions.push_back(Action::Close { query });
    }

    fn finish(&mut self, answer: Answer, asked: Tick) {
        for sent in std::mem::take(&mut self.open) {
            self.actions.push_back(Action::Close { query: sent.query });
        }
        self.is_done = true;
        self.actions.push_back(Action::Done { answer, asked });
    }

    fn fail(&mut self) {
        let error = failure(&self.question, &self.servers, self.guesses, self.total);
        self.finish(Answer::Failed(error), self.began);
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}
