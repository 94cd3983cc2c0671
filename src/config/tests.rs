use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::resolver::{Families, IpPrefix, NameTable};

/// One field: a change of the default settings that must be accepted at each end of the field's
/// range, and changes that must be refused, with the message.
struct Row {
    field: &'static str,
    accepted: Vec<Config>,
    refused: Vec<(Config, &'static str)>,
}

/// The default settings with some fields changed.
macro_rules! with {
    ($($field:ident: $value:expr),*) => {
        Config { $($field: $value,)* ..Config::default() }
    };
}

/// A row for a field that is checked on its own.
macro_rules! row {
    ($field:ident, [$($good:expr),* $(,)?], [$(($bad:expr, $message:expr)),* $(,)?]) => {
        Row {
            field: stringify!($field),
            accepted: vec![$(with!($field: $good)),*],
            refused: vec![$((with!($field: $bad), $message)),*],
        }
    };
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A row for a count from 1 to a million.
macro_rules! count {
    ($field:ident) => {
        row!(
            $field,
            [1, 1_000_000],
            [
                (
                    0,
                    concat!(stringify!($field), " is 0, must be 1 to 1000000")
                ),
                (
                    1_000_001,
                    concat!(stringify!($field), " is 1000001, must be 1 to 1000000")
                ),
            ]
        )
    };
}

/// A row for a time above zero and at most a year.
macro_rules! time {
    ($field:ident) => {
        row!(
            $field,
            [MOMENT, YEAR],
            [
                (
                    Duration::ZERO,
                    concat!(stringify!($field), " is 0ns, must be 1ns to 31536000s")
                ),
                (
                    YEAR + MOMENT,
                    concat!(
                        stringify!($field),
                        " is 31536000.000000001s, must be 1ns to 31536000s"
                    )
                ),
            ]
        )
    };
}

/// Weights for as many addresses.
fn weighted(count: u16) -> Balance {
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    Balance::Weighted((0..count).map(|port| (address(port), 1)).collect())
}

/// One endpoint that has a balance of its own.
fn balances(balance: Balance) -> BTreeMap<Endpoint, Balance> {
    let endpoint = Endpoint::new("db", 5432).unwrap();
    [(endpoint, balance)].into()
}

#[test]
fn an_endpoint_may_have_a_balance_of_its_own() {
    let own = Endpoint::new("db", 5432).unwrap();
    let other = Endpoint::new("db", 5433).unwrap();
    let config = Config {
        balance: Balance::PowerOfTwo,
        balances: balances(Balance::RoundRobin),
        ..Config::default()
    };
    assert_eq!(config.balance_of(&own), &Balance::RoundRobin);
    assert_eq!(config.balance_of(&other), &Balance::PowerOfTwo);
}

fn count_rows() -> Vec<Row> {
    vec![
        count!(max_connections_per_endpoint),
        row!(
            max_connections_total,
            [0, 1, 1_000_000],
            [(
                1_000_001,
                "max_connections_total is 1000001, must be 0 to 1000000"
            )]
        ),
        count!(max_connections_per_shard),
        count!(max_endpoints),
        count!(max_waiters),
        count!(max_connecting),
        count!(max_connecting_per_address),
        row!(
            balance,
            [
                Balance::LeastConnections,
                Balance::PowerOfTwo,
                Balance::RoundRobin,
                weighted(1),
                weighted(1024),
            ],
            [
                (weighted(0), "balance.weights is 0, must be 1 to 1024"),
                (weighted(1025), "balance.weights is 1025, must be 1 to 1024"),
            ]
        ),
        row!(
            balances,
            [balances(Balance::RoundRobin), balances(weighted(1))],
            [(
                balances(weighted(0)),
                "balances.weights is 0, must be 1 to 1024"
            )]
        ),
        Row {
            field: "min_idle",
            accepted: vec![with!(min_idle: 0), with!(min_idle: 64)],
            refused: vec![
                (
                    with!(min_idle: 65),
                    "min_idle is 65, must be 0 to max_connections_per_endpoint (64)",
                ),
                (
                    with!(min_idle: 9, max_connections_per_shard: 8),
                    "min_idle is 9, must be 0 to max_connections_per_shard (8)",
                ),
            ],
        },
        row!(
            connect_retry_count,
            [0, 1000],
            [(1001, "connect_retry_count is 1001, must be 0 to 1000")]
        ),
        row!(max_connection_uses, [0, 1, u64::MAX], []),
    ]
}

fn time_rows() -> Vec<Row> {
    let year_and_more = YEAR + MOMENT;
    vec![
        time!(get_timeout),
        time!(connect_timeout),
        time!(max_idle_time),
        time!(max_connection_lifetime),
        time!(read_timeout),
        time!(write_timeout),
        time!(drain_timeout),
        row!(
            connect_retry_delay,
            [MOMENT, secs(10)],
            [
                (
                    Duration::ZERO,
                    "connect_retry_delay is 0ns, must be 1ns to connect_retry_delay_max (10s)"
                ),
                (
                    secs(11),
                    "connect_retry_delay is 11s, must be 1ns to connect_retry_delay_max (10s)"
                ),
            ]
        ),
        row!(
            connect_retry_delay_max,
            [Duration::from_millis(100), YEAR],
            [
                (
                    Duration::ZERO,
                    "connect_retry_delay_max is 0ns, must be 1ns to 31536000s"
                ),
                (
                    YEAR + secs(1),
                    "connect_retry_delay_max is 31536001s, must be 1ns to 31536000s"
                ),
            ]
        ),
        row!(
            health_check_after,
            [Duration::ZERO, YEAR],
            [(
                year_and_more,
                "health_check_after is 31536000.000000001s, must be 0ns to 31536000s"
            )]
        ),
        row!(
            shrink_interval,
            [Duration::ZERO, YEAR],
            [(
                year_and_more,
                "shrink_interval is 31536000.000000001s, must be 0ns to 31536000s"
            )]
        ),
    ]
}

fn socket_rows() -> Vec<Row> {
    let half = Some(Duration::from_millis(500));
    vec![
        row!(
            send_limit,
            [1, 1 << 30],
            [
                (0, "send_limit is 0, must be 1 to 1073741824"),
                (
                    usize::MAX,
                    "send_limit is 18446744073709551615, must be 1 to 1073741824"
                ),
            ]
        ),
        row!(tcp_nodelay, [true, false], []),
        row!(
            tcp_keepalive,
            [None, Some(secs(1)), Some(secs(32_767))],
            [
                (
                    half,
                    "tcp_keepalive is 500ms, must be whole seconds, 1s to 32767s"
                ),
                (
                    Some(Duration::ZERO),
                    "tcp_keepalive is 0ns, must be whole seconds, 1s to 32767s"
                ),
                (
                    Some(Duration::from_millis(1500)),
                    "tcp_keepalive is 1.5s, must be whole seconds, 1s to 32767s"
                ),
                (
                    Some(secs(32_768)),
                    "tcp_keepalive is 32768s, must be whole seconds, 1s to 32767s"
                ),
            ]
        ),
        row!(
            tcp_user_timeout,
            [
                None,
                Some(Duration::from_millis(1)),
                Some(Duration::from_millis(2_147_483_647))
            ],
            [
                (
                    Some(Duration::from_micros(999)),
                    "tcp_user_timeout is 999µs, must be 1ms to 2147483.647s"
                ),
                (
                    Some(secs(2_147_484)),
                    "tcp_user_timeout is 2147484s, must be 1ms to 2147483.647s"
                ),
            ]
        ),
    ]
}

fn ring_rows() -> Vec<Row> {
    vec![
        row!(
            ring_entries,
            [16, 4096],
            [
                (0, "ring_entries is 0, must be a power of two, 16 to 4096"),
                (4, "ring_entries is 4, must be a power of two, 16 to 4096"),
                (
                    100,
                    "ring_entries is 100, must be a power of two, 16 to 4096"
                ),
                (
                    8192,
                    "ring_entries is 8192, must be a power of two, 16 to 4096"
                ),
            ]
        ),
        row!(
            recv_buffers,
            [32, 32_768],
            [
                (0, "recv_buffers is 0, must be a power of two, 8 to 32768"),
                (4, "recv_buffers is 4, must be a power of two, 8 to 32768"),
                (
                    300,
                    "recv_buffers is 300, must be a power of two, 8 to 32768"
                ),
            ]
        ),
        Row {
            field: "recv_buffer_size",
            accepted: vec![
                with!(recv_buffer_size: 512),
                with!(recv_buffer_size: 1 << 20, recv_limit: 1 << 20),
            ],
            refused: vec![
                (
                    with!(recv_buffer_size: 511),
                    "recv_buffer_size is 511, must be 512 to 1048576",
                ),
                (
                    with!(recv_buffer_size: 1 << 21),
                    "recv_buffer_size is 2097152, must be 512 to 1048576",
                ),
            ],
        },
        row!(
            recv_limit,
            [32_768, 4_194_304],
            [
                (
                    32_767,
                    "recv_limit is 32767, must be recv_buffer_size (32768) to \
                     recv_buffers * recv_buffer_size / 2 (4194304)"
                ),
                (
                    4_194_305,
                    "recv_limit is 4194305, must be recv_buffer_size (32768) to \
                     recv_buffers * recv_buffer_size / 2 (4194304)"
                ),
            ]
        ),
    ]
}

fn resolver_rows() -> Vec<Row> {
    let server = SocketAddr::from(([127, 0, 0, 1], 53));
    let portless = SocketAddr::from(([127, 0, 0, 1], 0));
    let relative = SystemFiles {
        hosts: "etc/hosts".into(),
        ..SystemFiles::default()
    };
    vec![
        row!(
            resolver,
            [
                Resolver::System,
                Resolver::Files(SystemFiles::default()),
                Resolver::Servers(vec![server]),
                Resolver::Servers(vec![server; 8]),
                Resolver::Table(NameTable::new()),
            ],
            [
                (
                    Resolver::Servers(Vec::new()),
                    "resolver is [], must be 1 to 8 name servers with a port that is not 0"
                ),
                (
                    Resolver::Servers(vec![portless]),
                    "resolver is [127.0.0.1:0], must be 1 to 8 name servers with a port that is \
                     not 0"
                ),
                (
                    Resolver::Files(relative),
                    "resolver.hosts is \"etc/hosts\", must be an absolute path"
                ),
            ]
        ),
        options_row(),
    ]
}

/// The default options with one changed.
macro_rules! options {
    ($field:ident: $value:expr) => {
        ResolverOptions {
            $field: $value,
            ..ResolverOptions::default()
        }
    };
}

fn options_row() -> Row {
    let days = |days: u64| secs(days * 24 * 60 * 60);
    let prefix = IpPrefix::from(IpAddr::from([127, 0, 0, 1]));
    row!(
        resolver_options,
        [
            options!(stale_max: Duration::ZERO),
            options!(stale_max: days(3)),
            options!(prefetch: false),
            options!(families: Families::V6),
            options!(randomize_case: true),
            options!(deny: vec![prefix; 1024]),
            options!(avoid_ports: vec![0..=0; 64]),
            options!(avoid_ports: vec![0..=49_151]),
        ],
        [
            (
                options!(stale_max: days(3) + MOMENT),
                "resolver_options.stale_max is 259200.000000001s, must be 0ns to 259200s"
            ),
            (
                options!(deny: vec![prefix; 1025]),
                "resolver_options.deny.len() is 1025, must be 0 to 1024"
            ),
            (
                options!(avoid_ports: vec![0..=0; 65]),
                "resolver_options.avoid_ports.len() is 65, must be 0 to 64"
            ),
            (
                options!(avoid_ports: vec![0..=49_152]),
                "resolver_options.avoid_ports is [0..=49152], must be ranges that are not empty \
                 and leave 16384 of 1024 to 65535"
            ),
            (
                // Written the wrong way round.
                options!(avoid_ports: vec![RangeInclusive::new(9, 8)]),
                "resolver_options.avoid_ports is [9..=8], must be ranges that are not empty and \
                 leave 16384 of 1024 to 65535"
            ),
        ]
    )
}

fn rows() -> Vec<Row> {
    [
        count_rows(),
        time_rows(),
        socket_rows(),
        ring_rows(),
        resolver_rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_field_is_held_to_its_range() {
    assert!(Config::default().validate().is_ok());
    for row in rows() {
        for config in row.accepted {
            assert!(
                config.validate().is_ok(),
                "{}: {:?}",
                row.field,
                config.validate()
            );
        }
        for (config, message) in row.refused {
            let error = config.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert_eq!(error.to_string(), message);
            assert!(message.starts_with(row.field), "{message}");
        }
    }
}

/// A field that is added to [`Config`] has to come into the table too.
#[test]
fn the_table_has_one_row_for_every_field() {
    let debug = format!("{:#?}", Config::default());
    let fields: BTreeSet<&str> = debug
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with(' '))
        // Functions have no range.
        .filter(|name| !name.starts_with("on_connection_") && *name != "health_check")
        .collect();
    assert!(fields.contains("drain_timeout"), "{debug}");
    let rows = rows();
    assert_eq!(
        rows.iter().map(|row| row.field).collect::<BTreeSet<_>>(),
        fields
    );
    assert_eq!(rows.len(), fields.len());
}
