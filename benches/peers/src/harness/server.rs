//! The server of a case: a process of its own on the other core, the same for all contenders.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::child::{self, Process};
use crate::Outcome;

const START: Duration = Duration::from_secs(30);

/// What a server does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sends back what comes.
    Echo,
    /// The same, so late that whoever waits for it sleeps: for one connection.
    Late,
    /// The same, and closes what was idle for a random time below 10 ms.
    Fickle,
}

/// How to serve: what the server's process is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Service {
    pub kind: Kind,
    /// Of a connection's buffer.
    pub bytes: usize,
}

/// Ends with this value.
pub struct Server {
    pub address: SocketAddr,
    _process: Process,
}

impl Server {
    pub fn start(service: Service) -> Outcome<Self> {
        let mut command = child::again::<&str>(&[])?;
        command.args(["--serve", &serde_json::to_string(&service)?]);
        let (process, stdout) = Process::start(command)?;
        let line = child::first_line(stdout, START)?;
        Ok(Self {
            address: line
                .trim()
                .parse()
                .map_err(|_| "the server did not start")?,
            _process: process,
        })
    }
}
