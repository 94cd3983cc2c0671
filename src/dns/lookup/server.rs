//! What one lookup knows of one of its servers.

use std::net::SocketAddr;

use super::Transport;
use crate::error::Error;

/// Of one question to one server over one transport, whatever the settings (RFC 9520 section 3.1).
const MAX_SENDS: u32 = 3;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// It is asked without EDNS.
    pub(super) plain: bool,
    /// It said so in this lookup.
    pub(super) wants_plain: bool,
    pub(super) transport: Transport,
    /// TCP only until its next turn, because somebody else may write to its sockets.
    pub(super) is_detour: bool,
    /// How often it was asked over UDP and over TCP.
    pub(super) sends: [u32; 2],
    /// It will not answer this.
    pub(super) refused: bool,
    /// The last thing that it said or the system knew, short of an answer.
    pub(super) reason: Option<Error>,
}

impl Server {
    pub(super) fn new(address: SocketAddr, plain: bool, use_tcp: bool) -> Self {
        let transport = match use_tcp {
            true => Transport::Tcp,
            false => Transport::Udp,
        };
        Self {
            address,
            plain,
            wants_plain: false,
            transport,
            is_detour: false,
            sends: [0; 2],
            refused: false,
            reason: None,
        }
    }

    /// It is asked over TCP, though nothing says that UDP would not do.
    pub(super) fn detour(&mut self) {
        self.is_detour |= self.transport == Transport::Udp;
        self.transport = Transport::Tcp;
    }

    /// Where TCP had its turn and brought no answer, UDP may.
    pub(super) fn begin_turn(&mut self) {
        if self.is_detour && self.sends[0] < MAX_SENDS {
            (self.transport, self.is_detour) = (Transport::Udp, false);
        }
    }

    pub(super) fn may_be_asked(&self) -> bool {
        let is_tcp = self.transport == Transport::Tcp;
        !self.refused && self.sends[usize::from(is_tcp)] < MAX_SENDS
    }
}
