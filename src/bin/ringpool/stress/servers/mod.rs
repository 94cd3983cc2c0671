//! What a stress run talks to: echo servers on addresses of 127.0.0.0/8, names for them, and the
//! account that the servers keep of the pool's connections.
//!
//! Promise: everything listens on ports that the kernel chose, so that runs do not disturb each
//! other; dropping [`Servers`] ends every thread and closes every socket. Addresses can die and
//! return, and names can change, while a run goes on.

pub(crate) mod tally;

mod dns;
mod echo;
mod gate;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ringpool::{Error, ErrorKind};

use self::dns::{DnsServer, Zone};
use self::gate::Gate;
pub(crate) use self::gate::STRANGER;
use self::tally::Tally;
use super::preset::Preset;
use crate::server_thread::ServerThread;

/// All servers of one run.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) endpoints: Vec<Served>,
    zone: Arc<Zone>,
    dns: DnsServer,
    _threads: Vec<ServerThread>,
}

/// One name with its port, its addresses and what was seen there.
#[derive(Debug)]
pub(crate) struct Served {
    /// What the pool is asked for: `name:port`.
    pub(crate) endpoint: String,
    name: String,
    /// In the tally's order.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The numbers of those that the name has.
    named: Mutex<Vec<usize>>,
    pub(crate) gates: Vec<Arc<Gate>>,
    pub(crate) tally: Arc<Tally>,
}

impl Servers {
    /// Starts the servers of a preset, on `threads` threads at most, and one for DNS.
    pub(crate) fn start(preset: &Preset, threads: usize) -> io::Result<Self> {
        let zone = Arc::new(Zone::new(preset.course.ttl())?);
        let mut endpoints = Vec::with_capacity(preset.servers);
        let mut listeners = Vec::new();
        for number in 0..preset.servers {
            let name = name_of(preset, number);
            let gates = echo::listen_on(&addresses_of(preset, number))?;
            let tally = Tally::new(gates.len(), preset.pool_size);
            let addresses: Vec<SocketAddr> = gates.iter().map(|gate| gate.address).collect();
            for (number, gate) in gates.iter().enumerate() {
                listeners.push((gate.clone(), number, tally.clone()));
            }
            let served = Served {
                endpoint: format!("{name}:{}", addresses[0].port()),
                name,
                addresses,
                named: Mutex::default(),
                gates,
                tally,
            };
            served.set_named(&zone, preset.course.named_at_first(preset.addresses))?;
            endpoints.push(served);
        }
        let threads = spread(listeners, threads)
            .into_iter()
            .enumerate()
            .map(|(n, share)| {
                ServerThread::start(&format!("stress-echo-{n}"), || {
                    share
                        .into_iter()
                        .try_for_each(|(gate, number, tally)| echo::spawn(gate, number, tally))
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            endpoints,
            dns: DnsServer::start(zone.clone())?,
            zone,
            _threads: threads,
        })
    }

    /// The name has the addresses with these numbers from now on.
    pub(crate) fn name(&self, served: &Served, numbers: &[usize]) -> ringpool::Result<()> {
        let set = served.set_named(&self.zone, numbers.to_vec());
        set.map_err(|error| {
            let error = Error::from_source(ErrorKind::Io, error);
            error.context(format!("changing the addresses of {}", served.name))
        })
    }

    /// The name server that knows the endpoints' names.
    pub(crate) fn name_server(&self) -> SocketAddr {
        self.dns.address
    }
}

impl Served {
    /// Whether the name has the address with this number.
    pub(crate) fn is_named(&self, number: usize) -> bool {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.contains(&number)
    }

    fn set_named(&self, zone: &Zone, numbers: Vec<usize>) -> io::Result<()> {
        let addresses = numbers
            .iter()
            .filter_map(|number| self.addresses.get(*number));
        let addresses: Vec<SocketAddr> = addresses.copied().collect();
        zone.set(&self.name, &addresses)?;
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
        Ok(())
    }
}

fn name_of(preset: &Preset, server: usize) -> String {
    match preset.addresses {
        1 => format!("s{server}.stress.test"),
        _ => format!("{}.stress.test", preset.name.replace('_', "-")),
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
