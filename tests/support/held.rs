//! Which of its connections a server's clients still hold. The server itself hears of an end when
//! its thread has its turn, which on a busy machine may be long after the next connection came; the
//! kernel knows of a close as soon as it has happened.

use std::net::SocketAddr;

/// States of a socket that its owner has not closed: established, being connected, and ended by the
/// other side.
const HELD: [&str; 3] = ["01", "02", "08"];

/// How many of `clients`, all of them of connections that were accepted from `server` before the
/// call, are not closed. They were open together when the call began: each was opened before that,
/// and is open after it.
pub fn held_by_clients(server: SocketAddr, clients: &[SocketAddr]) -> usize {
    let (server, clients) = (shown(server), clients.iter().copied().map(shown));
    let clients: Vec<_> = clients.collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let is_held = |row: &&str| {
        let mut words = row.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (words.next(), words.next(), words.next());
        remote == Some(&*server)
            && clients.iter().any(|client| local == Some(client))
            && state.is_some_and(|state| HELD.contains(&state))
    };
    table.lines().filter(is_held).count()
}

/// An address as the kernel's table has it.
fn shown(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        panic!("the table is of IPv4 alone");
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    format!("{ip:08X}:{:04X}", address.port())
}
