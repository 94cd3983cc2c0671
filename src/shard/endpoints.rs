//! An endpoint has three sides: the policy's bucket on this core, the share that all cores have in
//! it (permits, board, counts), and the names under which users reach it. This file holds them
//! together.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::policy::event::EndpointKey;
use crate::share::{Column, EndpointId, SharedEndpoint};
use crate::target::Target;
use crate::time::Tick;

use super::busy::Joins;
use super::core::Core;
use super::counts::{self, Totals};
use super::deferred::Call;
use super::erased::{ConnectionProtocol, ProtocolKey};
use super::resolve::Held;
use super::total::TotalDemand;

/// What tells one set of connections from another, on all cores.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: Endpoint,
    pub(crate) protocol: ProtocolKey,
}

/// One endpoint as this core knows it.
pub(crate) struct Entry {
    pub(crate) key: EndpointKey,
    pub(crate) endpoint: Endpoint,
    pub(crate) protocol: Rc<dyn ConnectionProtocol>,
    pub(crate) shared: Arc<SharedEndpoint>,
    /// As last told to the policy.
    pub(crate) targets: Rc<[Target]>,
    /// What was found out of it last; good or not.
    pub(super) held: Option<Rc<Held>>,
    /// When what the policy was told last had come.
    pub(super) told: Option<Tick>,
    name: PoolKey,
    /// The addresses that this core has connections to.
    pub(super) joins: Joins,
    /// The state of the addresses that are out which the policy was told last.
    pub(super) heard: u64,
    /// The demand last told to the policy.
    pub(super) demand: Option<Tick>,
    /// It is among those whose demand is looked at again.
    pub(super) watched: bool,
    /// The kernel did not send a connection: until then none is given without need.
    pub(super) keeps_until: Tick,
    /// The demand could not be met: until then it is told again only if it can be met now.
    pub(super) again_at: Tick,
    /// What the board had of the other cores' waits when that demand was looked at last.
    pub(super) elsewhere: Option<Tick>,
    /// This core's request for a permit is queued, for a waiter that waits since then.
    pub(super) queued: Option<Tick>,
    /// The same as the board has it.
    pub(super) shown: Option<Tick>,
    /// Its counts changed since they were last published.
    dirty: bool,
}

impl Entry {
    /// It is an address: no change of names touches it.
    pub(super) fn is_fixed(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_fixed())
    }

    /// Nothing has changed since the other cores were shown what there is.
    #[cfg(feature = "sim")]
    pub(super) fn is_published(&self) -> bool {
        !self.dirty
    }
}

/// How many connections all cores hold to each of the entry's targets.
pub(crate) fn held(entry: &Entry) -> Box<[u32]> {
    let addresses = entry.targets.iter().map(|it| it.address);
    entry.shared.board().totals(addresses)
}

/// What all cores together know of an endpoint.
pub(crate) struct Account {
    pub(crate) totals: Totals,
    pub(crate) permits: u32,
    pub(crate) addresses: Vec<Column>,
    /// What each core has, by the index of its shard.
    pub(crate) cores: Vec<(usize, Totals)>,
}

impl Account {
    fn of(shared: &SharedEndpoint) -> Self {
        let cores = shared.published().by_shard().into_iter();
        Self {
            totals: Totals::from_values(&shared.published().totals()),
            permits: shared.in_use(),
            addresses: shared.board().columns(),
            cores: cores
                .map(|(shard, values)| (shard, Totals::from_values(&values)))
                .collect(),
        }
    }
}

/// The endpoints this core knows, by key, by name and by the id that cores use among themselves.
#[derive(Default)]
pub(crate) struct Endpoints {
    entries: Vec<Option<Entry>>,
    by_name: HashMap<PoolKey, EndpointKey>,
    pub(super) by_id: HashMap<EndpointId, EndpointKey>,
    dirty: Vec<EndpointKey>,
    /// Those that other cores have waited for, but not long enough.
    pub(super) watched: Vec<EndpointKey>,
    /// When the first of those is looked at again.
    pub(super) look_at: Tick,
    /// Who waits for a permit of the whole process.
    pub(super) total: TotalDemand,
}

impl Endpoints {
    #[inline]
    pub(crate) fn get(&self, key: EndpointKey) -> Option<&Entry> {
        self.entries
            .get(key.0.index() as usize)?
            .as_ref()
            .filter(|entry| entry.key == key)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: EndpointKey) -> Option<&mut Entry> {
        self.entries
            .get_mut(key.0.index() as usize)?
            .as_mut()
            .filter(|entry| entry.key == key)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    /// When demands that were too young are to be looked at again.
    pub(crate) fn look_at_due(&self) -> Option<Tick> {
        let watched = (!self.watched.is_empty()).then_some(self.look_at);
        watched.into_iter().chain(self.total.look_at).min()
    }

    /// Its demand is to be looked at again at `at`.
    pub(super) fn watch(&mut self, key: EndpointKey, at: Tick) {
        if let Some(entry) = self.get_mut(key)
            && !std::mem::replace(&mut entry.watched, true)
        {
            self.watched.push(key);
        }
        self.look_at = match self.watched.len() {
            1 => at,
            _ => self.look_at.min(at),
        };
    }

    /// Its counts are to be published when the driver settles.
    #[inline]
    pub(crate) fn touch(&mut self, key: EndpointKey) {
        if let Some(entry) = self
            .entries
            .get_mut(key.0.index() as usize)
            .and_then(Option::as_mut)
            && entry.key == key
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push(key);
        }
    }

    fn insert(&mut self, entry: Entry) {
        let index = entry.key.0.index() as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        self.by_name.insert(entry.name.clone(), entry.key);
        self.by_id.insert(entry.shared.id(), entry.key);
        self.entries[index] = Some(entry);
    }

    /// Takes out what the policy let go of when it gave its place to `key`.
    fn make_room(&mut self, key: EndpointKey) -> Option<Entry> {
        let old = self.entries.get_mut(key.0.index() as usize)?.take()?;
        self.by_name.remove(&old.name);
        self.by_id.remove(&old.shared.id());
        Some(old)
    }

    fn keys(&self) -> Vec<EndpointKey> {
        self.entries
            .iter()
            .flatten()
            .map(|entry| entry.key)
            .collect()
    }
}

/// An endpoint as a user's handle knows it. If the core had to forget the endpoint meanwhile, the
/// next get makes it known again.
pub(crate) struct EndpointRef {
    name: PoolKey,
    protocol: Rc<dyn ConnectionProtocol>,
    /// Whether somebody can tell how healthy its connections are.
    checked: bool,
    /// Whether its connections never go to another core.
    stays: bool,
    key: Cell<EndpointKey>,
}

impl EndpointRef {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.name.endpoint
    }

    /// Its key, if the core has not forgotten it meanwhile.
    #[inline]
    pub(super) fn key(&self) -> EndpointKey {
        self.key.get()
    }
}

impl super::Shard {
    /// Makes the endpoint known to this core.
    pub(crate) fn endpoint(
        &self,
        endpoint: Endpoint,
        protocol_key: ProtocolKey,
        protocol: Rc<dyn ConnectionProtocol>,
    ) -> Result<Rc<EndpointRef>> {
        // The user's code, so before the core is borrowed.
        let plain_check = protocol.is_plain() && self.has_health_check();
        let checked = plain_check || self.contain(|| protocol.checks_health()).unwrap_or(true);
        let stays = !protocol.is_plain() && self.contain(|| protocol.changes_cores()) != Some(true);
        let name = PoolKey {
            endpoint,
            protocol: protocol_key,
        };
        let key = self.enter(|core| {
            core.alive()?;
            core.intern(&name, &protocol, checked, stays)
        })?;
        Ok(Rc::new(EndpointRef {
            name,
            protocol,
            checked,
            stays,
            key: Cell::new(key),
        }))
    }

    /// The figures of an endpoint, all cores together; this core's own are up to date.
    pub(crate) fn totals(&self, endpoint: &EndpointRef) -> Option<Account> {
        self.enter(|core| {
            core.alive().ok()?;
            core.publish();
            let key = core.current_key(endpoint).ok()?;
            core.endpoints
                .get(key)
                .map(|entry| Account::of(&entry.shared))
        })
    }

    /// The figures of every endpoint that any core knows or knew.
    pub(crate) fn all_totals(&self) -> Vec<(Endpoint, Account)> {
        let all = self.enter(|core| {
            if core.alive().is_err() {
                return Vec::new();
            }
            core.publish();
            core.links.registry().endpoints()
        });
        all.into_iter()
            .map(|(name, shared)| (name.endpoint, Account::of(&shared)))
            .collect()
    }

    pub(crate) fn clear(&self, endpoint: &EndpointRef) {
        self.enter(|core| {
            if core.alive().is_ok()
                && let Ok(key) = core.current_key(endpoint)
            {
                core.refresh();
                core.endpoints.touch(key);
                core.policy.clear_endpoint(core.now, key);
                core.pump();
            }
        });
    }
}

impl Core {
    #[inline]
    pub(crate) fn current_key(&mut self, endpoint: &EndpointRef) -> Result<EndpointKey> {
        let key = endpoint.key.get();
        if self.endpoints.get(key).is_some() {
            return Ok(key);
        }
        let (checked, stays) = (endpoint.checked, endpoint.stays);
        let key = self.intern(&endpoint.name, &endpoint.protocol, checked, stays)?;
        endpoint.key.set(key);
        Ok(key)
    }

    fn intern(
        &mut self,
        name: &PoolKey,
        protocol: &Rc<dyn ConnectionProtocol>,
        checked: bool,
        stays: bool,
    ) -> Result<EndpointKey> {
        if let Some(key) = self.endpoints.by_name.get(name) {
            return Ok(*key);
        }
        let label: Rc<str> = name.endpoint.to_string().into();
        let key = self.policy.add_endpoint(self.now, label)?;
        if let Some(old) = self.endpoints.make_room(key) {
            // Its counts stay in the totals; the protocol is the user's to drop.
            old.shared.retire(self.links.shard());
            self.deferred
                .calls
                .push_back(Call::Drop(Box::new(old.protocol)));
        }
        let shared = match self.links.registry().shared(name) {
            Ok(shared) => shared,
            Err(error) => {
                self.policy.remove_endpoint(key);
                return Err(error);
            }
        };
        if !checked {
            self.policy.skip_health_checks(key);
        }
        if stays {
            self.policy.never_hand_over(key);
        }
        let balance = self.config.balance_of(&name.endpoint);
        self.policy.set_balance(key, balance.clone());
        self.endpoints.insert(Entry {
            key,
            endpoint: name.endpoint.clone(),
            protocol: protocol.clone(),
            shared,
            targets: Rc::new([]),
            held: name
                .endpoint
                .socket_addr()
                .map(|it| Rc::new(Held::literal(it))),
            told: None,
            name: name.clone(),
            joins: Joins::default(),
            heard: 0,
            demand: None,
            watched: false,
            keeps_until: Tick::ZERO,
            again_at: Tick::ZERO,
            elsewhere: None,
            queued: None,
            shown: None,
            dirty: false,
        });
        Ok(key)
    }

    // -- the board -----------------------------------------------------------------------------

    pub(crate) fn board_opened(&mut self, endpoint: EndpointKey, address: SocketAddr) {
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            let spot = entry.shared.board().opened(self.links.shard(), address);
            entry.joins.begin(address, spot);
        }
        self.endpoints.touch(endpoint);
    }

    pub(crate) fn board_closed(&mut self, endpoint: EndpointKey, address: SocketAddr) {
        if let Some(entry) = self.endpoints.get_mut(endpoint)
            && entry.joins.end(address)
        {
            entry.shared.board().closed(self.links.shard(), address);
        }
        self.endpoints.touch(endpoint);
    }

    /// Shows the other cores what has changed.
    pub(crate) fn publish(&mut self) {
        while let Some(key) = self.endpoints.dirty.pop() {
            self.publish_one(key);
        }
    }

    /// The core ends: the others get its last counts.
    pub(crate) fn publish_last(&mut self) {
        self.policy.end();
        for key in self.endpoints.keys() {
            self.publish_one(key);
        }
    }

    pub(crate) fn publish_one(&mut self, key: EndpointKey) {
        let Some(entry) = self.endpoints.get_mut(key) else {
            return;
        };
        entry.dirty = false;
        if let Some(counts) = self.policy.counts(key) {
            entry
                .shared
                .published()
                .publish(self.links.shard(), &counts::values(counts));
        }
        self.publish_busy(key);
        self.publish_wait(key);
    }
}
