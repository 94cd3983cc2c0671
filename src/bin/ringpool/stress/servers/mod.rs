//! What a stress run talks to: echo servers on addresses of 127.0.0.0/8, names for them, and the
//! account that the servers keep of the pool's connections.
//!
//! Promise: everything listens on ports that the kernel chose, so that runs do not disturb each
//! other; dropping [`Servers`] ends every thread and closes every socket.

pub(crate) mod tally;

mod dns;
mod echo;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use self::dns::{DnsServer, Zone};
use self::tally::Tally;
use super::preset::Preset;
use crate::server_thread::ServerThread;

/// All servers of one run.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) endpoints: Vec<Served>,
    dns: DnsServer,
    _threads: Vec<ServerThread>,
}

/// One name with its port, its addresses and what was seen there.
#[derive(Debug)]
pub(crate) struct Served {
    /// What the pool is asked for: `name:port`.
    pub(crate) endpoint: String,
    /// In the tally's order.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tally: Arc<Tally>,
}

impl Servers {
    /// Starts the servers of a preset, on `threads` threads at most, and one for DNS.
    pub(crate) fn start(preset: &Preset, threads: usize) -> io::Result<Self> {
        let names: Vec<String> = (0..preset.servers).map(|n| name_of(preset, n)).collect();
        let addresses: Vec<Vec<Ipv4Addr>> = (0..preset.servers)
            .map(|n| addresses_of(preset, n))
            .collect();
        let zone = Zone::new(
            names
                .iter()
                .map(String::as_str)
                .zip(addresses.iter().cloned()),
        )?;

        let mut endpoints = Vec::with_capacity(preset.servers);
        let mut listeners = Vec::new();
        for (name, addresses) in names.iter().zip(&addresses) {
            let listening = echo::listen_on(addresses)?;
            let tally = Tally::new(addresses.len(), preset.pool_size);
            let addresses: Vec<SocketAddr> = listening
                .iter()
                .map(TcpListener::local_addr)
                .collect::<io::Result<_>>()?;
            let endpoint = format!("{name}:{}", addresses[0].port());
            for (number, listener) in listening.into_iter().enumerate() {
                listeners.push((listener, number, tally.clone()));
            }
            endpoints.push(Served {
                endpoint,
                addresses,
                tally,
            });
        }
        let threads = spread(listeners, threads)
            .into_iter()
            .enumerate()
            .map(|(n, share)| {
                ServerThread::start(&format!("stress-echo-{n}"), || {
                    share.into_iter().try_for_each(|(listener, number, tally)| {
                        echo::spawn(listener, number, tally)
                    })
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            endpoints,
            dns: DnsServer::start(zone)?,
            _threads: threads,
        })
    }

    /// The name server that knows the endpoints' names.
    pub(crate) fn name_server(&self) -> SocketAddr {
        self.dns.address
    }
}

fn name_of(preset: &Preset, server: usize) -> String {
    match preset.addresses {
        4 => "four.stress.test".to_owned(),
        _ => format!("s{server}.stress.test"),
    }
}

/// Addresses of server `server`: 127.10.0.1 and up, each server its own.
fn addresses_of(preset: &Preset, server: usize) -> Vec<Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(127, 10, 0, 1));
    let numbers = server * preset.addresses..(server + 1) * preset.addresses;
    numbers.map(|n| Ipv4Addr::from(first + n as u32)).collect()
}

/// Deals `items` out to at most `shares` shares, none of them empty.
fn spread<T>(items: Vec<T>, shares: usize) -> Vec<Vec<T>> {
    let shares = shares.clamp(1, items.len().max(1));
    let mut spread: Vec<Vec<T>> = (0..shares).map(|_| Vec::new()).collect();
    for (n, item) in items.into_iter().enumerate() {
        spread[n % shares].push(item);
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn every_server_of_a_preset_has_its_own_addresses() {
        for preset in Preset::ALL {
            let all: Vec<_> = (0..preset.servers)
                .flat_map(|n| addresses_of(&preset, n))
                .collect();
            let distinct: HashSet<_> = all.iter().collect();
            assert_eq!(distinct.len(), preset.servers * preset.addresses);
            assert!(all.iter().all(Ipv4Addr::is_loopback));
        }
    }

    #[test]
    fn every_address_of_a_preset_echoes() {
        for preset in Preset::ALL.iter().filter(|preset| preset.by_default) {
            let servers = Servers::start(preset, 2).unwrap();
            assert_eq!(servers.endpoints.len(), preset.servers);
            for served in &servers.endpoints {
                for address in &served.addresses {
                    let mut client = TcpStream::connect(address).unwrap();
                    client.write_all(b"hello").unwrap();
                    let mut echo = [0; 5];
                    client.read_exact(&mut echo).unwrap();
                    assert_eq!(&echo, b"hello");
                }
                let accepted = served.tally.counts().accepted;
                assert_eq!(accepted, vec![1; preset.addresses], "{}", served.endpoint);
            }
        }
    }

    #[test]
    fn items_are_dealt_out_evenly() {
        assert_eq!(spread(vec![1, 2, 3, 4, 5], 2), [vec![1, 3, 5], vec![2, 4]]);
        assert_eq!(spread(vec![1], 4), [vec![1]]);
        assert!(spread(Vec::<u8>::new(), 4)[0].is_empty());
    }
}
