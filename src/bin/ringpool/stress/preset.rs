//! The loads that `ringpool stress` knows. The first six and the last are those of conpool's stress
//! test, so that the two pools can be compared.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::course::Course;

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// Names, each with a port: what the pool sees as endpoints.
    pub(crate) servers: usize,
    /// Addresses behind each name, those included that the name does not have yet.
    pub(crate) addresses: usize,
    pub(crate) clients_per_server: usize,
    pub(crate) messages: Messages,
    /// Clients at work at once, over all shards.
    pub(crate) parallel: usize,
    pub(crate) message_bytes: usize,
    /// Connections per endpoint that the process may hold.
    pub(crate) pool_size: usize,
    /// Connections that the process may hold to all endpoints together, if that is less.
    pub(crate) total_size: Option<usize>,
    /// What happens meanwhile.
    pub(crate) course: Course,
    /// Whether it runs when no preset is named.
    pub(crate) by_default: bool,
}

/// How many messages a load sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Messages {
    PerClient(u32),
    /// Over all clients; the first ones send one more if it does not divide.
    Total(u32),
    /// As many as there is time for, until the course has ended.
    InTime,
}

impl Preset {
    /// Every preset, in the order in which they run.
    pub(crate) const ALL: [Preset; 13] = [
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
            total_size: None,
            course: Course::Steady,
            by_default: true,
        },
        Preset {
            name: "dns_changes",
            servers: 1,
            addresses: 8,
            clients_per_server: 64,
            messages: Messages::InTime,
            parallel: 64,
            message_bytes: 64,
            pool_size: 32,
            total_size: None,
            course: Course::DnsChanges,
            by_default: true,
        },
        Preset {
            name: "address_dies",
            servers: 1,
            addresses: 4,
            clients_per_server: 64,
            messages: Messages::InTime,
            parallel: 64,
            message_bytes: 64,
            pool_size: 32,
            total_size: None,
            course: Course::AddressDies,
            by_default: true,
        },
        Preset {
            name: "outage",
            servers: 1,
            addresses: 4,
            clients_per_server: 2000,
            messages: Messages::InTime,
            parallel: 2000,
            message_bytes: 64,
            pool_size: 64,
            total_size: None,
            course: Course::Outage,
            by_default: true,
        },
        Preset {
            name: "uneven_cores",
            servers: 1,
            addresses: 1,
            clients_per_server: 64,
            messages: Messages::InTime,
            parallel: 64,
            message_bytes: 64,
            pool_size: 32,
            total_size: None,
            course: Course::UnevenCores,
            by_default: true,
        },
        Preset {
            total_size: Some(20),
            ..conpool("process_limit", [10, 10, 100], 50, 64, 5)
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
            Messages::InTime => u32::MAX,
        }
    }

    /// Messages over all clients, if that is known before.
    pub(crate) fn total_messages(&self) -> Option<u64> {
        match self.messages {
            Messages::PerClient(messages) => Some(self.clients() as u64 * u64::from(messages)),
            Messages::Total(total) => Some(u64::from(total)),
            Messages::InTime => None,
        }
    }

    /// How far apart the numbers of connections to the addresses of a name that has `named` may lie:
    /// one for each shard, and never more than half of what is even, or many shards would make
    /// everything even.
    pub(crate) fn most_apart(&self, named: usize, shards: usize) -> usize {
        shards.min(self.pool_size / (2 * named.max(1))).max(1)
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
            Messages::InTime => "messages".to_owned(),
        };
        let total = match self.total_size {
            Some(total) => format!(", {total} in all"),
            None => String::new(),
        };
        let course = self.course.describe();
        format!(
            "{servers}, {clients_per_server} clients per server, {messages} of {bytes} bytes, \
             {parallel} clients at once, pool size {pool}{total}{course}"
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
        total_size: None,
        course: Course::Steady,
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
                ("dns_changes", 1, 64, 64, 64, 32),
                ("address_dies", 1, 64, 64, 64, 32),
                ("outage", 1, 2000, 2000, 64, 64),
                ("uneven_cores", 1, 64, 64, 64, 32),
                ("process_limit", 10, 10, 50, 64, 5),
                ("extended_stress", 30, 1000, 500, 128, 50),
            ]
        );
        let totals: Vec<_> = Preset::ALL
            .iter()
            .filter_map(Preset::total_messages)
            .collect();
        assert_eq!(
            totals,
            [
                2000, 1000, 1500, 1200, 1000, 2000, 20_000, 10_000, 3_000_000
            ]
        );
    }

    #[test]
    fn what_is_even_is_so_for_any_number_of_shards() {
        let preset = Preset::ALL.iter().find(|p| p.name == "dns_changes");
        let most = |shards| preset.map(|it| it.most_apart(8, shards));
        assert_eq!([1, 2, 8, 64].map(most), [1, 2, 2, 2].map(Some));
        assert_eq!(preset.map(|it| it.most_apart(3, 64)), Some(5));
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
            if let Some(total) = preset.total_messages() {
                assert_eq!(sum, total, "{}", preset.name);
            }
        }
    }
}
