//! What servers did, and in which order they are asked then.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Tick {
    Tick::ZERO.plus(Duration::from_secs(seconds))
}

fn config(text: &str) -> ResolverConfig {
    ResolverConfig::parse(text.as_bytes())
}

fn three() -> ResolverConfig {
    config("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3")
}

/// The last bytes of the servers' addresses, in the order in which they are asked.
fn order(health: &Health, now: Tick, config: &ResolverConfig, seed: u64) -> Vec<u8> {
    let last = |server: SocketAddr| match server.ip() {
        std::net::IpAddr::V4(v4) => v4.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    let order = health.order(now, config, seed);
    order.into_iter().map(last).collect()
}

#[test]
fn servers_are_asked_as_configured_or_in_turn() {
    let mut config = three();
    let health = Health::new();
    for seed in 0..6 {
        assert_eq!(order(&health, at(0), &config, seed), [1, 2, 3]);
    }
    config.rotate = true;
    assert_eq!(order(&health, at(0), &config, 3), [1, 2, 3]);
    assert_eq!(order(&health, at(0), &config, 4), [2, 3, 1]);
    assert_eq!(order(&health, at(0), &config, u64::MAX), [1, 2, 3]);
}

#[test]
fn d20_a_failing_server_is_asked_last_until_it_answers_or_is_forgotten() {
    let config = three();
    let servers = &config.servers;
    let mut health = Health::new();
    health.failed(at(1), servers, servers[0]);
    assert_eq!(order(&health, at(1), &config, 0), [2, 3, 1]);
    health.failed(at(2), servers, servers[1]);
    assert_eq!(order(&health, at(2), &config, 0), [3, 1, 2]);
    health.failed(at(3), servers, servers[2]);
    assert_eq!(order(&health, at(3), &config, 0), [1, 2, 3]);
    health.answered(servers, servers[1], None);
    assert_eq!(order(&health, at(4), &config, 0), [2, 1, 3]);
    assert_eq!(order(&health, at(300), &config, 0), [2, 1, 3]);
    assert_eq!(order(&health, at(302), &config, 0), [1, 2, 3]);
}

#[test]
fn d20_a_failing_server_is_probed_by_one_in_ten_and_not_more_often_than_every_5_s() {
    let config = three();
    let servers = &config.servers;
    let mut health = Health::new();
    assert_eq!(health.probe(at(0), &config, 0), None);
    health.failed(at(1), servers, servers[2]);
    assert_eq!(health.probe(at(5), &config, 0), None);
    let chosen = (0..100).filter(|&seed| {
        let mut health = Health::new();
        health.failed(at(1), servers, servers[2]);
        health.probe(at(6), &config, seed).is_some()
    });
    assert_eq!(chosen.count(), 10);
    assert_eq!(health.probe(at(6), &config, 0), Some(servers[2]));
    assert_eq!(health.probe(at(6), &config, 0), None);
    // A failure in between does not put the next one off.
    health.failed(at(8), servers, servers[2]);
    assert_eq!(health.probe(at(10), &config, 0), None);
    assert_eq!(health.probe(at(11), &config, 0), Some(servers[2]));
    health.answered(servers, servers[2], None);
    assert_eq!(health.probe(at(60), &config, 0), None);
}

#[test]
fn a_server_gets_the_time_that_it_took_before() {
    let config = three();
    let server = config.servers[0];
    let mut health = Health::new();
    let most = 5 * SECOND;
    assert_eq!(health.wait(server, false, 0, most), SECOND);
    assert_eq!(health.wait(server, false, 0, SECOND / 2), SECOND / 2);
    assert_eq!(health.wait(server, false, 1, most), 2 * SECOND);
    assert_eq!(health.wait(server, false, u32::MAX, most), most);
    health.answered(&config.servers, server, Some(SECOND / 100));
    assert_eq!(health.wait(server, false, 0, most), MIN_WAIT);
    assert_eq!(health.wait(server, true, 0, most), MIN_TCP_WAIT);
    let mut slow = Health::new();
    slow.answered(&config.servers, server, Some(2 * SECOND));
    assert_eq!(slow.wait(server, false, 0, most), 3 * SECOND);
    slow.answered(&config.servers, server, Some(10 * SECOND));
    assert_eq!(slow.wait(server, false, 0, most), 4500 * SECOND / 1000);
    slow.answered(&config.servers, server, Some(Duration::MAX / 16));
    assert_eq!(slow.wait(server, false, 9, most), most);
}

#[test]
fn d18_plain_questions_are_remembered_per_server_for_15_minutes() {
    let config = three();
    let servers = &config.servers;
    let mut health = Health::new();
    health.needs_plain(at(10), servers, servers[0]);
    assert!(health.is_plain(at(10 + 899), servers[0]));
    assert!(!health.is_plain(at(10 + 900), servers[0]));
    assert!(!health.is_plain(at(10), servers[1]));
}

#[test]
fn it_holds_no_more_servers_than_are_configured() {
    let mut health = Health::new();
    for round in 0..100u8 {
        let text = format!("nameserver 192.0.2.{round}\nnameserver 198.51.100.1");
        let config = config(&text);
        for &server in &config.servers {
            health.failed(at(1), &config.servers, server);
        }
        assert!(health.servers.len() <= 2);
    }
}
