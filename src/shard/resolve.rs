//! From an endpoint's host to its addresses: known without asking, known to some core, or asked of
//! a name server through this core's ring.
//!
//! Promise: one lookup per name on this core, however many endpoints wait for it; a bounded number
//! of lookups at once, the rest in line; a lookup ends within the get's own time.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{Config, Resolver};
use crate::dns::{self, Action, Failed, Found, Hosts, Local, Lookup, QueryId, ResolverConfig};
use crate::error::Result;
use crate::policy::event::{EndpointKey, Event};
use crate::share::{Known, Learned};
use crate::slot::Key;
use crate::time::Tick;

use super::core::Core;

/// Lookups that one core has under way; each has a socket per query.
pub(crate) const MAX_RUNNING: usize = 8;

/// What a group knows of names before it asks: read once, when the group is made.
#[derive(Debug)]
pub(crate) struct NameSources {
    hosts: Hosts,
    servers: ResolverConfig,
}

impl NameSources {
    pub(crate) fn new(config: &Config) -> Self {
        // A file that is missing or cannot be read is an empty one (hosts(5), resolv.conf(5)).
        let read = |path| std::fs::read(path).unwrap_or_default();
        match &config.resolver {
            Resolver::System => Self {
                hosts: Hosts::parse(&read("/etc/hosts")),
                servers: ResolverConfig::parse(&read("/etc/resolv.conf")),
            },
            Resolver::Servers(servers) => Self {
                hosts: Hosts::default(),
                servers: ResolverConfig {
                    servers: servers.clone(),
                    ..ResolverConfig::parse(b"")
                },
            },
        }
    }
}

/// One name being looked up, and the endpoints that wait for it.
struct Running {
    host: Rc<str>,
    endpoints: Vec<EndpointKey>,
    lookup: Lookup,
    sockets: Vec<(QueryId, Key)>,
    /// What is to be sent once a socket is free. Bounded by the queries of one lookup.
    unsent: VecDeque<(QueryId, SocketAddr, Vec<u8>)>,
}

/// The lookups of one core.
#[derive(Default)]
pub(crate) struct Lookups {
    running: Vec<Running>,
    waiting: VecDeque<EndpointKey>,
}

impl Lookups {
    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        if self.running.len() < MAX_RUNNING && !self.waiting.is_empty() {
            return Some(Tick::ZERO);
        }
        let running = self.running.iter();
        running.filter_map(|it| it.lookup.poll_timeout()).min()
    }

    /// How many run, and how many wait.
    #[cfg(feature = "sim")]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    /// The lookup whose query has the socket `key`.
    pub(crate) fn by_socket(&self, key: Key) -> Option<(usize, QueryId)> {
        self.running.iter().enumerate().find_map(|(at, running)| {
            let found = running.sockets.iter().find(|(_, socket)| *socket == key);
            found.map(|(query, _)| (at, *query))
        })
    }
}

impl Core {
    /// Finds the addresses of `endpoint`; `Resolved` or `ResolveFailed` follows.
    pub(crate) fn resolve(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get(endpoint) else {
            return;
        };
        if let Some(address) = entry.endpoint.socket_addr() {
            self.resolved(endpoint, &[address.ip()], Tick::NEVER);
            return;
        }
        let host = entry.endpoint.host();
        match dns::local(host, &self.names.hosts) {
            Local::Addresses(addresses) => self.resolved(endpoint, &addresses, Tick::NEVER),
            Local::Failed(error) => self.tell(Event::ResolveFailed { endpoint, error }),
            Local::Ask => match self.links.registry().names().get(self.now, host) {
                Some(known) => self.known(endpoint, &known),
                None => self.ask(endpoint),
            },
        }
    }

    fn known(&mut self, endpoint: EndpointKey, known: &Known) {
        match known {
            Known::Found { addresses, expires } => self.resolved(endpoint, addresses, *expires),
            Known::Failed { error, .. } => {
                self.tell(Event::ResolveFailed {
                    endpoint,
                    error: error.clone(),
                });
            }
        }
    }

    fn resolved(&mut self, endpoint: EndpointKey, addresses: &[IpAddr], expires: Tick) {
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let port = entry.endpoint.port();
        entry.addresses = addresses
            .iter()
            .map(|ip| SocketAddr::new(*ip, port))
            .collect();
        let addresses = entry.addresses.clone();
        self.tell(Event::Resolved {
            endpoint,
            addresses,
            expires,
        });
    }

    /// Joins the lookup of the endpoint's name, starts one, or waits for its turn to.
    fn ask(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get(endpoint) else {
            return;
        };
        let host: Rc<str> = entry.endpoint.host().into();
        if let Some(running) = self.lookups.running.iter_mut().find(|it| it.host == host) {
            running.endpoints.push(endpoint);
            return;
        }
        if self.lookups.running.len() >= MAX_RUNNING {
            self.lookups.waiting.push_back(endpoint);
            return;
        }
        match self.start_lookup(&host) {
            Ok(lookup) => {
                self.lookups.running.push(Running {
                    host,
                    endpoints: vec![endpoint],
                    lookup,
                    sockets: Vec::new(),
                    unsent: VecDeque::new(),
                });
                self.advance(self.lookups.running.len() - 1);
            }
            Err(error) => self.tell(Event::ResolveFailed { endpoint, error }),
        }
    }

    fn start_lookup(&self, host: &str) -> Result<Lookup> {
        let deadline = self.now.plus(self.config.get_timeout);
        Lookup::new(
            self.now,
            host,
            &self.names.servers,
            deadline,
            self.host.random_seed()?,
        )
    }

    /// Does what the lookup at `at` wants done.
    fn advance(&mut self, at: usize) {
        while let Some(running) = self.lookups.running.get_mut(at)
            && let Some(action) = running.lookup.poll_action()
        {
            match action {
                Action::Send {
                    query,
                    server,
                    bytes,
                } => {
                    running.unsent.push_back((query, server, bytes));
                    self.send_queries(at);
                }
                Action::Close { query } => {
                    running.unsent.retain(|(unsent, _, _)| *unsent != query);
                    let socket = running.sockets.iter().position(|(it, _)| *it == query);
                    if let Some(socket) = socket {
                        let (_, key) = running.sockets.swap_remove(socket);
                        self.backend.close_datagram(key);
                    }
                }
                Action::Done(outcome) => {
                    self.looked_up(at, outcome);
                    return;
                }
            }
        }
    }

    /// Sends what the lookup at `at` wants sent, as far as there are sockets. The rest waits for
    /// one to be closed, or for the lookup to give it up.
    fn send_queries(&mut self, at: usize) {
        while let Some(running) = self.lookups.running.get_mut(at)
            && let Some((query, server, bytes)) = running.unsent.front()
        {
            let Ok(key) = self.backend.datagram(*server, bytes.clone()) else {
                return;
            };
            running.sockets.push((*query, key));
            running.unsent.pop_front();
        }
    }

    /// The socket of a query is closed: another query may have it.
    pub(crate) fn datagram_closed(&mut self) {
        for at in 0..self.lookups.running.len() {
            self.send_queries(at);
        }
    }

    /// The lookup at `at` has ended: every core may know what it found.
    fn looked_up(&mut self, at: usize, outcome: std::result::Result<Found, Failed>) {
        let ended = self.lookups.running.swap_remove(at);
        let learned = match outcome {
            Ok(Found { addresses, ttl }) => {
                let addresses: Arc<[IpAddr]> = addresses.into();
                Learned::Found { addresses, ttl }
            }
            Err(Failed {
                error,
                absent: Some(ttl),
            }) => Learned::Negative { error, ttl },
            Err(Failed {
                error,
                absent: None,
            }) => Learned::Failure { error },
        };
        let names = self.links.registry().names();
        let known = names.insert(self.now, &ended.host, learned);
        for endpoint in ended.endpoints {
            self.known(endpoint, &known);
        }
        if !self.lookups.waiting.is_empty() {
            // The next in line begins in the driver's turn, not in here: a line of names that fail
            // at once would nest as deep as it is long.
            self.signal.wake();
        }
    }

    /// Begins the lookups that waited for a place, as far as there are any.
    fn begin_waiting(&mut self) {
        while self.lookups.running.len() < MAX_RUNNING
            && let Some(next) = self.lookups.waiting.pop_front()
        {
            self.resolve(next);
        }
    }

    pub(crate) fn lookups_due(&mut self) {
        self.begin_waiting();
        let mut at = 0;
        while let Some(running) = self.lookups.running.get_mut(at) {
            if running
                .lookup
                .poll_timeout()
                .is_none_or(|due| due > self.now)
            {
                at += 1;
                continue;
            }
            // Not due any more, or ended, its place taken by another: looked at again.
            running.lookup.handle_timeout(self.now);
            self.advance(at);
        }
    }

    pub(crate) fn datagram(&mut self, key: Key, bytes: &[u8], truncated: bool) {
        if let Some((at, query)) = self.lookups.by_socket(key) {
            self.lookups.running[at]
                .lookup
                .handle_datagram(self.now, query, bytes, truncated);
            self.advance(at);
        }
    }

    pub(crate) fn datagram_failed(&mut self, key: Key, errno: i32) {
        if let Some((at, query)) = self.lookups.by_socket(key) {
            self.lookups.running[at]
                .lookup
                .handle_failed(self.now, query, errno);
            self.advance(at);
        }
    }
}
