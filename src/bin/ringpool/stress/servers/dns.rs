//! The pool must resolve its names as it does in earnest: with real packets over UDP. This server
//! answers for the names of one run and nothing else.
//!
//! Promise: every well-formed question gets an answer that is right for the zone: addresses, no
//! data, or no such name, the last two with the SOA that says how long that holds. What is not a
//! question gets nothing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::server_thread::ServerThread;

/// The zone of every name in a run.
const ORIGIN: &str = "stress.test.";
/// The largest question that is read.
const MAX_QUERY: usize = 4096;

/// Names and their addresses.
#[derive(Debug)]
pub(crate) struct Zone {
    origin: Name,
    /// Seconds that an answer holds.
    ttl: u32,
    addresses: RwLock<HashMap<Name, Vec<Ipv4Addr>>>,
}

impl Zone {
    /// A zone without names.
    pub(crate) fn new(ttl: u32) -> io::Result<Self> {
        Ok(Self {
            origin: fully(ORIGIN)?,
            ttl,
            addresses: RwLock::default(),
        })
    }

    /// Answers from now on that `name`, below `stress.test`, has these addresses, of which those of
    /// IPv4 count.
    pub(crate) fn set(&self, name: &str, addresses: &[SocketAddr]) -> io::Result<()> {
        let addresses = addresses.iter().filter_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let mut names = self
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        names.insert(fully(name)?, addresses.collect());
        Ok(())
    }

    /// The answer to a packet, if it is to get one.
    fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(packet).ok()?;
        if question.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        answer.metadata.response_code = self.look_up(&question, &mut answer);
        answer.add_queries(question.queries);
        if question.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            answer.set_edns(edns);
        }
        answer.to_vec().ok()
    }

    fn look_up(&self, question: &Message, answer: &mut Message) -> ResponseCode {
        if question.metadata.op_code != OpCode::Query {
            return ResponseCode::NotImp;
        }
        let [query] = &question.queries[..] else {
            return ResponseCode::FormErr;
        };
        if query.query_class() != DNSClass::IN || !self.origin.zone_of(query.name()) {
            return ResponseCode::Refused;
        }
        let names = self
            .addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let addresses = names.get(&query.name().to_lowercase());
        let none = Vec::new();
        let wanted = match query.query_type() {
            RecordType::A => addresses.unwrap_or(&none),
            _ => &none,
        };
        for address in wanted {
            let data = RData::A(A(*address));
            answer.add_answer(Record::from_rdata(query.name().clone(), self.ttl, data));
        }
        if wanted.is_empty() {
            answer.add_authority(self.soa());
        }
        match addresses {
            Some(_) => ResponseCode::NoError,
            None => ResponseCode::NXDomain,
        }
    }

    fn soa(&self) -> Record {
        let [refresh, retry, expire] = [3600, 600, 86_400];
        let (mname, rname) = (self.origin.clone(), self.origin.clone());
        let soa = SOA::new(mname, rname, 1, refresh, retry, expire, self.ttl);
        Record::from_rdata(self.origin.clone(), self.ttl, RData::SOA(soa))
    }
}

/// A name as the zone knows it.
fn fully(name: &str) -> io::Result<Name> {
    let mut name = Name::from_ascii(name).map_err(io::Error::other)?;
    name.set_fqdn(true);
    Ok(name.to_lowercase())
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    _thread: ServerThread,
}

impl DnsServer {
    /// Starts a server for `zone` on a loopback port that the kernel chooses.
    pub(crate) fn start(zone: Arc<Zone>) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let thread = ServerThread::start("stress-dns", || {
            tokio::spawn(serve(tokio::net::UdpSocket::from_std(socket)?, zone));
            Ok(())
        })?;
        Ok(Self {
            address,
            _thread: thread,
        })
    }
}

async fn serve(socket: tokio::net::UdpSocket, zone: Arc<Zone>) {
    let mut packet = [0; MAX_QUERY];
    loop {
        // An error belongs to an answer sent earlier (ECONNREFUSED, udp(7)): its asker is gone.
        let Ok((len, asker)) = socket.recv_from(&mut packet).await else {
            continue;
        };
        if let Some(answer) = zone.answer(&packet[..len]) {
            // A lost answer is asked for again.
            let _lost = socket.send_to(&answer, asker).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::PATIENCE;
    use super::*;
    use hickory_proto::op::Query;

    fn zone() -> Zone {
        let zone = Zone::new(3600).unwrap();
        let address = |last| SocketAddr::from(([127, 9, 0, last], 80));
        zone.set("s0.stress.test", &[address(9)]).unwrap();
        let four: Vec<_> = (1..=4).map(address).collect();
        zone.set("four.stress.test", &four).unwrap();
        zone
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(77, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(name: &str, kind: RecordType) -> Message {
        let packet = question(name, kind).to_vec().unwrap();
        Message::from_vec(&zone().answer(&packet).unwrap()).unwrap()
    }

    fn addresses(answer: &Message) -> Vec<String> {
        answer
            .answers
            .iter()
            .map(|r| r.data.ip_addr().unwrap().to_string())
            .collect()
    }

    #[test]
    fn a_name_has_its_addresses() {
        let answer = ask("s0.stress.test.", RecordType::A);
        assert_eq!(answer.metadata.id, 77);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert_eq!(addresses(&answer), ["127.9.0.9"]);
        assert_eq!(
            answer.queries,
            question("s0.stress.test.", RecordType::A).queries
        );

        let four = ask("four.stress.test.", RecordType::A);
        assert_eq!(
            addresses(&four),
            ["127.9.0.1", "127.9.0.2", "127.9.0.3", "127.9.0.4"]
        );
    }

    #[test]
    fn a_name_may_change() {
        let zone = zone();
        let packet = question("s0.stress.test.", RecordType::A).to_vec().unwrap();
        let ask = || Message::from_vec(&zone.answer(&packet).unwrap()).unwrap();
        assert_eq!(addresses(&ask()), ["127.9.0.9"]);
        let others = [3, 5].map(|last| SocketAddr::from(([127, 9, 0, last], 80)));
        zone.set("s0.stress.test", &others).unwrap();
        assert_eq!(addresses(&ask()), ["127.9.0.3", "127.9.0.5"]);
    }

    #[test]
    fn the_spelling_of_the_question_is_kept() {
        let answer = ask("FouR.sTress.TEST.", RecordType::A);
        assert_eq!(addresses(&answer).len(), 4);
        let asked = Name::from_ascii("FouR.sTress.TEST.").unwrap();
        assert!(answer.queries[0].name().eq_case(&asked));
    }

    #[test]
    fn there_is_no_aaaa_and_the_soa_says_for_how_long() {
        let answer = ask("s0.stress.test.", RecordType::AAAA);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty());
        assert_eq!(answer.authorities.len(), 1);
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }

    #[test]
    fn names_that_are_not_there_and_zones_that_are_not_ours() {
        let missing = ask("s7.stress.test.", RecordType::A);
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(missing.authorities[0].record_type(), RecordType::SOA);
        let foreign = ask("example.com.", RecordType::A);
        assert_eq!(foreign.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn edns_is_answered_with_edns() {
        let mut message = question("s0.stress.test.", RecordType::A);
        assert!(ask("s0.stress.test.", RecordType::A).edns.is_none());
        message.set_edns(Edns::new());
        let answer = zone().answer(&message.to_vec().unwrap()).unwrap();
        assert_eq!(
            Message::from_vec(&answer)
                .unwrap()
                .edns
                .unwrap()
                .max_payload(),
            1232
        );
    }

    #[test]
    fn what_is_not_a_question_gets_nothing() {
        assert!(zone().answer(b"").is_none());
        assert!(zone().answer(&[0xff; 40]).is_none());
        let mut answer = question("s0.stress.test.", RecordType::A);
        answer.metadata.message_type = MessageType::Response;
        assert!(zone().answer(&answer.to_vec().unwrap()).is_none());
    }

    #[test]
    fn it_answers_over_udp_until_it_is_dropped() {
        let server = DnsServer::start(Arc::new(zone())).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let packet = question("four.stress.test.", RecordType::A)
            .to_vec()
            .unwrap();
        let mut answer = [0; 512];
        for junk in [&b"junk"[..], &packet] {
            socket.send(junk).unwrap();
        }
        let len = socket.recv(&mut answer).unwrap();
        assert_eq!(
            addresses(&Message::from_vec(&answer[..len]).unwrap()).len(),
            4
        );

        drop(server);
        // Nobody listens any more: the send, or the receive after it, is refused.
        let refused = socket.send(&packet).and_then(|_| socket.recv(&mut answer));
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
