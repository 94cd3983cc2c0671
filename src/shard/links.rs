//! A core's place among the others: what they share, how it is reached, and what it was told.

use std::sync::Arc;

use crate::config::Config;
use crate::error::Result;
use crate::ring::Address;
use crate::share::{EndpointId, Limits, MAX_SHARDS, Member, Mesh, Post, Registry, ShardId, Wake};

use super::counts;
use super::deferred::Job;
use super::endpoints::PoolKey;
use super::handover::Load;
use super::inbox::Inbox;
use super::sources::{Disk, SourceFiles};

/// What the cores of one pool share.
pub(crate) struct SharedState {
    pub(crate) registry: Arc<Registry<PoolKey>>,
    mesh: Arc<Mesh<Address, Load>>,
    names: Arc<SourceFiles>,
}

impl SharedState {
    pub(crate) fn new(config: &Config, disk: Arc<dyn Disk>) -> Self {
        let limits = Limits {
            shards: MAX_SHARDS,
            endpoints: config.max_endpoints,
            permits: u32::try_from(config.max_connections_per_endpoint).unwrap_or(u32::MAX),
            total: match config.max_connections_total {
                0 => None,
                most => Some(u32::try_from(most).unwrap_or(u32::MAX)),
            },
            gauges: counts::GAUGES,
            counters: counts::COUNTERS,
            stale: config.resolver_options.stale_max,
        };
        let registry = Arc::new(Registry::new(limits));
        Self {
            registry,
            mesh: Arc::default(),
            names: SourceFiles::new(config, disk),
        }
    }
}

/// This core's place among the others.
pub(crate) struct Links {
    member: Option<Member<PoolKey>>,
    registry: Arc<Registry<PoolKey>>,
    mesh: Arc<Mesh<Address, Load>>,
    shard: ShardId,
    wake: Arc<Wake>,
    notices: Vec<EndpointId>,
    pub(crate) names: Arc<SourceFiles>,
    pub(crate) inbox: Inbox,
}

impl Links {
    pub(crate) fn join(shared: &SharedState) -> Result<Self> {
        let member = shared.registry.join()?;
        let wake = member.wake().clone();
        Ok(Self {
            shard: member.id(),
            registry: shared.registry.clone(),
            mesh: shared.mesh.clone(),
            inbox: Inbox::new(wake.clone()),
            wake,
            member: Some(member),
            notices: Vec::new(),
            names: shared.names.clone(),
        })
    }

    /// Connections can come from other cores and go to them.
    pub(super) fn open_post(
        &self,
        address: Arc<Address>,
        parcels: usize,
        sent: usize,
    ) -> Post<Address, Load> {
        self.mesh
            .open(self.shard, &self.wake, address, parcels, sent)
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    pub(crate) fn registry(&self) -> &Arc<Registry<PoolKey>> {
        &self.registry
    }

    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// The other cores forget this one: its permits, its gauges, its requests. Returns the jobs that
    /// nobody ran, for the caller to drop where the user's code may run.
    pub(crate) fn leave(&mut self) -> Vec<Job> {
        self.member = None;
        self.inbox.close()
    }

    /// Whether a question that this core follows has ended or lost its leader.
    pub(super) fn take_names(&self) -> bool {
        self.member.as_ref().is_some_and(Member::take_names)
    }

    /// Tells this core once more to look at `endpoint`.
    #[cfg(feature = "sim")]
    pub(super) fn remind(&self, endpoint: EndpointId) {
        if let Some(member) = &self.member {
            member.remind(endpoint);
        }
    }

    pub(super) fn drain_notices(&mut self) -> Vec<EndpointId> {
        if let Some(member) = &self.member {
            member.drain_notices(&mut self.notices);
        }
        std::mem::take(&mut self.notices)
    }
}
