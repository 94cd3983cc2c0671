//! The server of a case: a process of its own on the other core, the same for all contenders.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::child::{self, Process};
use crate::Outcome;

/// It says where it listens before it has opened all that is its own.
const OWN: usize = 4;
/// To start in, and to end connections in.
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
    process: Process,
    /// Before anybody was connected.
    descriptors: usize,
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
            descriptors: process.descriptors()?,
            process,
        })
    }

    /// Waits until it has let go of all connections: those of one run are no work in the next one.
    pub fn settle(&self) -> Outcome<()> {
        let began = Instant::now();
        while self.process.descriptors()? > self.descriptors + OWN {
            if began.elapsed() > START {
                return Err("the server keeps connections that have ended".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
