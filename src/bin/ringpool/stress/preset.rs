//! The loads that `ringpool stress` knows. All but the last two are those of conpool's stress test,
//! so that the two pools can be compared.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// Names, each with a port: what the pool sees as endpoints.
    pub(crate) servers: usize,
    /// Addresses behind each name.
    pub(crate) addresses: usize,
    pub(crate) clients_per_server: usize,
    pub(crate) messages: Messages,
    /// Clients at work at once, over all shards.
    pub(crate) parallel: usize,
    pub(crate) message_bytes: usize,
    /// Connections per endpoint that the process may hold.
    pub(crate) pool_size: usize,
    /// Whether it runs when no preset is named.
    pub(crate) by_default: bool,
}

/// How many messages a load sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Messages {
    PerClient(u32),
    /// Over all clients; the first ones send one more if it does not divide.
    Total(u32),
}

impl Preset {
    /// Every preset, in the order in which they run.
    pub(crate) const ALL: [Preset; 8] = [
        conpool("high_reuse", [2, 20, 50], 10, 32, 3),
        conpool("many_endpoints", [10, 10, 10], 50, 64, 5),
        conpool("high_concurrency", [3, 100, 5], 100, 64, 20),
        conpool("large_messages", [3, 20, 20], 30, 1024, 10),
        conpool("constrained_pool", [2, 50, 10], 50, 64, 2),
        conpool("burst_traffic", [5, 200, 2], 100, 32, 15),
        Preset {
            name: "four_addresses",
            servers: 1,
            addresses: 4,
            clients_per_server: 64,
            messages: Messages::Total(20_000),
            parallel: 64,
            message_bytes: 64,
            pool_size: 32,
            by_default: true,
        },
        Preset {
            by_default: false,
            ..conpool("extended_stress", [30, 1000, 100], 500, 128, 50)
        },
    ];

    /// Clients over all servers.
    pub(crate) fn clients(&self) -> usize {
        self.servers * self.clients_per_server
    }

    /// Messages that client `client` sends.
    pub(crate) fn messages_of(&self, client: usize) -> u32 {
        match self.messages {
            Messages::PerClient(messages) => messages,
            Messages::Total(total) => {
                let clients = u32::try_from(self.clients()).unwrap_or(u32::MAX);
                let rest = total % clients;
                total / clients + u32::from(client < rest as usize)
            }
        }
    }

    /// Messages over all clients.
    pub(crate) fn total_messages(&self) -> u64 {
        match self.messages {
            Messages::PerClient(messages) => self.clients() as u64 * u64::from(messages),
            Messages::Total(total) => u64::from(total),
        }
    }

    /// The preset in one line.
    pub(crate) fn describe(&self) -> String {
        let Preset {
            servers,
            addresses,
            clients_per_server,
            parallel,
            ..
        } = self;
        let (bytes, pool) = (self.message_bytes, self.pool_size);
        let servers = match addresses {
            1 => format!("{servers} servers"),
            _ => format!("{servers} name with {addresses} addresses"),
        };
        let messages = match self.messages {
            Messages::PerClient(messages) => format!("{messages} messages each"),
            Messages::Total(total) => format!("{total} messages in total"),
        };
        format!(
            "{servers}, {clients_per_server} clients per server, {messages} of {bytes} bytes, \
             {parallel} clients at once, pool size {pool}"
        )
    }
}

/// A preset of conpool's: servers × clients per server × messages per client.
const fn conpool(
    name: &'static str,
    [servers, clients_per_server, messages]: [usize; 3],
    parallel: usize,
    message_bytes: usize,
    pool_size: usize,
) -> Preset {
    Preset {
        name,
        servers,
        addresses: 1,
        clients_per_server,
        messages: Messages::PerClient(messages as u32),
        parallel,
        message_bytes,
        pool_size,
        by_default: true,
    }
}

impl ValueEnum for Preset {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.describe()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_those_agreed_on() {
        let table: Vec<_> = Preset::ALL
            .iter()
            .map(|p| {
                (
                    p.name,
                    p.servers,
                    p.clients_per_server,
                    p.parallel,
                    p.message_bytes,
                    p.pool_size,
                )
            })
            .collect();
        assert_eq!(
            table,
            [
                ("high_reuse", 2, 20, 10, 32, 3),
                ("many_endpoints", 10, 10, 50, 64, 5),
                ("high_concurrency", 3, 100, 100, 64, 20),
                ("large_messages", 3, 20, 30, 1024, 10),
                ("constrained_pool", 2, 50, 50, 64, 2),
                ("burst_traffic", 5, 200, 100, 32, 15),
                ("four_addresses", 1, 64, 64, 64, 32),
                ("extended_stress", 30, 1000, 500, 128, 50),
            ]
        );
        let totals: Vec<_> = Preset::ALL.iter().map(Preset::total_messages).collect();
        assert_eq!(
            totals,
            [2000, 1000, 1500, 1200, 1000, 2000, 20_000, 3_000_000]
        );
    }

    #[test]
    fn only_the_extended_one_must_be_named() {
        let named: Vec<_> = Preset::ALL
            .iter()
            .filter(|p| !p.by_default)
            .map(|p| p.name)
            .collect();
        assert_eq!(named, ["extended_stress"]);
    }

    #[test]
    fn the_clients_messages_add_up_to_the_total() {
        for preset in Preset::ALL {
            let sum: u64 = (0..preset.clients())
                .map(|c| u64::from(preset.messages_of(c)))
                .sum();
            assert_eq!(sum, preset.total_messages(), "{}", preset.name);
        }
    }
}
