//! Questions leave a core from ports that nobody can guess, and that nobody else was promised.

use std::net::SocketAddr;

use super::core::Core;
use crate::dns;
use crate::error::Result;
use crate::ring::Transport;
use crate::slot::Key;

impl Core {
    /// Sends `bytes` to a name server from a socket of their own. What comes of it is told by
    /// `QueryBytes` and `QueryFailed`, until it is closed.
    ///
    /// # Errors
    ///
    /// `Exhausted` if every socket for questions is in use: one that is closed makes room.
    /// `Closed` if the ring was drained.
    pub(crate) fn ask_server(
        &mut self,
        server: SocketAddr,
        transport: Transport,
        bytes: Vec<u8>,
    ) -> Result<Key> {
        // First: the ports of one that must wait are not drawn.
        self.backend.room_for_query()?;
        let ports = match (transport, self.host.random_seed()) {
            (Transport::Udp, Ok(seed)) => dns::draw_ports(seed, &self.avoided),
            // The kernel's choice is random too, from fewer.
            _ => Vec::new(),
        };
        self.backend.query(server, transport, bytes, &ports)
    }
}
