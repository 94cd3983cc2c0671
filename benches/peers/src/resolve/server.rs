//! A name server on loopback that knows one name, for as long as it is needed: it fills caches and
//! is not asked again.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::{RData, Record, RecordType, rdata};

use crate::Outcome;

pub const NAME: &str = "service.peers.test";
/// How many addresses the name has, four of each family.
pub const ADDRESSES: usize = 8;
/// Longer than any run.
const TTL: u32 = 86_400;

pub fn v4() -> impl Iterator<Item = Ipv4Addr> {
    (1..=4).map(|last| Ipv4Addr::new(192, 0, 2, last))
}

pub fn v6() -> impl Iterator<Item = Ipv6Addr> {
    (1..=4).map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

pub struct Server {
    address: SocketAddr,
    /// How many questions came.
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Outcome<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let thread = std::thread::spawn(move || {
            let mut buf = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((n, from)) = socket.recv_from(&mut buf)
                    && let Some(reply) = answer(&buf[..n])
                {
                    count.fetch_add(1, Ordering::Relaxed);
                    // Who asked has gone, then.
                    let _gone = socket.send_to(&reply, from);
                }
            }
        });
        Ok(Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Server {
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn answer(bytes: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).ok()?;
    let question = query.queries.first()?.clone();
    let mut reply = Message::new(query.id, MessageType::Response, query.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.add_query(question.clone());
    let data: Vec<RData> = match question.query_type() {
        RecordType::A => v4().map(|ip| RData::A(rdata::A(ip))).collect(),
        RecordType::AAAA => v6().map(|ip| RData::AAAA(rdata::AAAA(ip))).collect(),
        _ => Vec::new(),
    };
    for data in data {
        reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    }
    reply.to_vec().ok()
}
