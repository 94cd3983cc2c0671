//! Who sends what, from which shard, to which endpoint.
//!
//! Promise: every server gets exactly its clients, every shard its share of the clients and of the
//! places for clients at work; the same seed gives the same plan.

use super::preset::Preset;

/// The plan of one preset's run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) preset: Preset,
    pub(crate) seed: u64,
    /// Shards that have clients.
    busy: usize,
    /// The server of each client.
    servers: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(preset: Preset, seed: u64, shards: usize) -> Self {
        let mut servers: Vec<usize> = (0..preset.clients())
            .map(|client| client / preset.clients_per_server)
            .collect();
        // Neighbours in time and on a shard are to be clients of different servers.
        fastrand::Rng::with_seed(seed).shuffle(&mut servers);
        Self {
            preset,
            seed,
            busy: shards.min(preset.parallel).max(1),
            servers,
        }
    }

    /// The server that `client` talks to.
    pub(crate) fn server_of(&self, client: usize) -> usize {
        self.servers[client]
    }

    /// The clients of a shard.
    pub(crate) fn clients_of(&self, shard: usize) -> impl Iterator<Item = usize> + use<> {
        let end = if shard < self.busy {
            self.servers.len()
        } else {
            0
        };
        (shard..end).step_by(self.busy)
    }

    /// How many clients of a shard are at work at once.
    pub(crate) fn parallel_of(&self, shard: usize) -> usize {
        let parallel = self.preset.parallel;
        match shard < self.busy {
            true => parallel / self.busy + usize::from(shard < parallel % self.busy),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_gets_its_clients_and_every_client_its_shard() {
        for preset in Preset::ALL {
            for shards in [1, 2, 3, 16, 256] {
                let plan = Plan::new(preset, 1, shards);
                let mut of_server = vec![0; preset.servers];
                let mut clients: Vec<usize> = Vec::new();
                for shard in 0..shards {
                    clients.extend(plan.clients_of(shard));
                }
                clients
                    .iter()
                    .for_each(|client| of_server[plan.server_of(*client)] += 1);
                clients.sort_unstable();
                assert_eq!(clients, (0..preset.clients()).collect::<Vec<_>>());
                assert_eq!(of_server, vec![preset.clients_per_server; preset.servers]);
            }
        }
    }

    #[test]
    fn the_places_for_clients_at_work_add_up() {
        for preset in Preset::ALL {
            for shards in [1, 2, 3, 7, 256] {
                let plan = Plan::new(preset, 1, shards);
                let places: Vec<_> = (0..shards).map(|shard| plan.parallel_of(shard)).collect();
                assert_eq!(places.iter().sum::<usize>(), preset.parallel);
                let idle = |shard: &usize| places[*shard] == 0;
                assert!(
                    (0..shards)
                        .filter(idle)
                        .all(|n| plan.clients_of(n).next().is_none())
                );
            }
        }
    }

    #[test]
    fn a_seed_gives_one_plan() {
        let servers = |seed| Plan::new(Preset::ALL[1], seed, 2).servers;
        assert_eq!(servers(5), servers(5));
        assert_ne!(servers(5), servers(6));
    }
}
