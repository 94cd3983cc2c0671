//! A name server on loopback that answers from a function.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use ringpool::Resolver;

/// A name server that answers from a function.
pub struct NameServer {
    pub address: SocketAddr,
    pub asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Answer = dyn Fn(&str, RecordType, &mut Message) -> bool + Send;

impl NameServer {
    /// `answer` fills in the answer to a name and type; `false` says nothing at all.
    pub fn new(answer: impl Fn(&str, RecordType, &mut Message) -> bool + Send + 'static) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let (asked, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let thread = {
            let (asked, stop) = (asked.clone(), stop.clone());
            std::thread::spawn(move || serve(&socket, &asked, &stop, &answer))
        };
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// Four addresses for `four.test`.
    pub fn four(ttl: u32) -> Self {
        Self::new(move |name, kind, message| {
            match (name, kind) {
                ("four.test.", RecordType::A) => {
                    for last in 1..=4 {
                        add(message, name, ttl, Ipv4Addr::new(127, 0, 77, last));
                    }
                }
                ("four.test.", _) => {}
                _ => message.metadata.response_code = ResponseCode::NXDomain,
            }
            true
        })
    }

    pub fn resolver(&self) -> Resolver {
        Resolver::Servers(vec![self.address])
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(socket: &UdpSocket, asked: &AtomicUsize, stop: &AtomicBool, answer: &Answer) {
    let mut buf = [0; 2048];
    while !stop.load(Ordering::SeqCst) {
        let Ok((n, from)) = socket.recv_from(&mut buf) else {
            continue;
        };
        asked.fetch_add(1, Ordering::SeqCst);
        let query = Message::from_vec(&buf[..n]).unwrap();
        let question = query.queries[0].clone();
        let mut reply = Message::new(query.id, MessageType::Response, query.metadata.op_code);
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        reply.add_query(question.clone());
        let name = question.name().to_ascii().to_lowercase();
        if answer(&name, question.query_type(), &mut reply) {
            socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
        }
    }
}

pub fn add(message: &mut Message, name: &str, ttl: u32, address: Ipv4Addr) {
    let name = Name::from_ascii(name).unwrap();
    message.add_answer(Record::from_rdata(name, ttl, RData::A(rdata::A(address))));
}
