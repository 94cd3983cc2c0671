//! Which questions come when, and what their answers make, by hand.

use std::net::{IpAddr, SocketAddr};

mod services;

use super::*;
use crate::dns::conf::ResolverConfig;
use crate::dns::hosts::Hosts;
use crate::dns::nsswitch::SourceOrder;
use crate::dns::record::{Kind, Records};

const SERVER: ([u8; 4], u16) = ([192, 0, 2, 53], 53);

fn ms(millis: u64) -> Tick {
    Tick::ZERO.plus(Duration::from_millis(millis))
}

fn server() -> SocketAddr {
    SERVER.into()
}

fn found(records: Records, learned: Tick) -> Known {
    Known::Found {
        records,
        server: server(),
        learned,
        refresh: learned.plus(Duration::from_secs(54)),
        expires: learned.plus(Duration::from_secs(60)),
    }
}

fn ips(list: &[&str]) -> Records {
    Records::Addresses(
        list.iter()
            .map(|it| it.parse::<IpAddr>().unwrap())
            .collect(),
    )
}

fn nodata() -> Known {
    Known::NoData { server: server() }
}

fn nxdomain() -> Known {
    Known::NxDomain { server: server() }
}

fn failed() -> Known {
    Known::Failed {
        error: Error::new(ErrorKind::Resolve, "SERVFAIL from 192.0.2.53:53"),
        until: ms(7_000),
    }
}

fn old(list: &[&str]) -> Option<Old> {
    Some(Old::Found {
        records: ips(list),
        server: server(),
    })
}

/// A resolution and what it wanted.
struct Play {
    resolution: Resolution,
    asked: Vec<String>,
    done: Option<Result<Outcome>>,
}

impl Play {
    fn begin(host: &str, via: Via, conf: &str) -> Self {
        let hosts = Arc::new(Hosts::parse(b"192.0.2.77 listed.test\n"));
        let config = ResolverConfig::parse(conf.as_bytes());
        let sources = Sources::of_files(hosts, config, SourceOrder::default());
        let wanted = Wanted {
            host: host.into(),
            is_absolute: false,
            via,
            port: 80,
            is_given: false,
        };
        let resolution = Resolution::new(ms(0), wanted, Arc::new(sources), ms(5_000), 7);
        let mut play = Self {
            resolution,
            asked: Vec::new(),
            done: None,
        };
        play.take();
        play
    }

    fn new(host: &str) -> Self {
        Self::begin(host, Via::Address, "")
    }

    fn take(&mut self) {
        while let Some(want) = self.resolution.poll_want() {
            assert!(self.done.is_none(), "nothing follows the result");
            match want {
                Want::Ask(question) => {
                    self.asked
                        .push(format!("{:?} {}", question.kind, question.name));
                }
                Want::Done(result) => self.done = Some(result),
            }
        }
    }

    /// What was asked since this was called last.
    fn asked(&mut self) -> String {
        self.asked.sort();
        std::mem::take(&mut self.asked).join(", ")
    }

    fn question(text: &str) -> Question {
        let (kind, name) = text.split_once(' ').unwrap();
        let kind = Kind::ALL.into_iter().find(|it| format!("{it:?}") == kind);
        Question {
            name: name.into(),
            kind: kind.unwrap(),
        }
    }

    fn tell(&mut self, at: u64, question: &str, known: Known) {
        self.resolution
            .handle_known(ms(at), &Self::question(question), known);
        self.take();
    }

    fn tell_asked(&mut self, since: u64, question: &str, old: Option<Old>) {
        let question = Self::question(question);
        self.resolution.handle_asked(&question, ms(since), old);
    }

    fn time(&mut self, at: u64) {
        self.resolution.handle_timeout(ms(at));
        self.take();
    }

    fn due(&self) -> Option<Tick> {
        self.resolution.poll_timeout()
    }

    fn outcome(&mut self) -> Outcome {
        self.done.take().expect("done").unwrap()
    }

    fn error(&mut self) -> String {
        self.done.take().expect("done").unwrap_err().to_string()
    }

    /// The addresses with their ports, by place.
    fn targets(&mut self) -> String {
        let outcome = self.outcome();
        let of = |(place, of): (&Place, &Vec<IpAddr>)| {
            let of: Vec<String> = of.iter().map(ToString::to_string).collect();
            format!("{}/{}:{}", place.priority, of.join("+"), place.port)
        };
        let all: Vec<String> = outcome
            .places
            .iter()
            .zip(&outcome.addresses)
            .map(of)
            .collect();
        all.join(" ")
    }
}

#[test]
fn both_families_are_asked_at_once_and_make_one_answer() {
    let mut play = Play::new("a.test");
    assert_eq!(play.asked(), "A a.test, Aaaa a.test");
    play.tell(10, "A a.test", found(ips(&["192.0.2.1"]), ms(10)));
    assert!(play.done.is_none());
    play.tell(20, "Aaaa a.test", found(ips(&["2001:db8::1"]), ms(20)));
    let outcome = play.outcome();
    assert_eq!(
        outcome.addresses,
        [["2001:db8::1", "192.0.2.1"].map(|it| it.parse::<IpAddr>().unwrap())]
    );
    assert!(outcome.is_complete && !outcome.is_stale);
    assert_eq!((outcome.learned, outcome.expires), (ms(20), ms(60_010)));
    assert_eq!(outcome.whence, Whence::Server(server()));
    assert_eq!(play.due(), None);
}

#[test]
fn d28_the_second_family_has_50_ms_after_the_first() {
    let mut play = Play::new("a.test");
    play.tell(30, "A a.test", found(ips(&["192.0.2.1"]), ms(30)));
    assert_eq!(play.due(), Some(ms(80)));
    play.time(79);
    assert!(play.done.is_none(), "not before its time");
    play.time(80);
    let outcome = play.outcome();
    assert!(!outcome.is_complete, "it says nothing of the other family");
    assert_eq!(
        outcome.expires,
        ms(1_080),
        "what comes late is looked for soon"
    );
}

#[test]
fn d28_who_is_known_to_be_late_is_not_waited_for_again() {
    let mut play = Play::new("a.test");
    // Both from an earlier time: one known, the other being asked by another core.
    play.tell(100, "A a.test", found(ips(&["192.0.2.1"]), ms(10)));
    play.tell_asked(0, "Aaaa a.test", None);
    play.time(100);
    assert_eq!(play.outcome().whence, Whence::Server(server()));
}

#[test]
fn d21_a_family_without_records_is_not_a_name_without_them() {
    for (has, has_not, address) in [("A", "Aaaa", "192.0.2.1"), ("Aaaa", "A", "2001:db8::1")] {
        for nothing in [nodata(), nxdomain()] {
            let mut play = Play::new("a.test");
            play.tell(10, &format!("{has_not} a.test"), nothing);
            assert!(play.done.is_none());
            play.tell(20, &format!("{has} a.test"), found(ips(&[address]), ms(20)));
            let outcome = play.outcome();
            assert!(outcome.is_complete);
            assert_eq!(outcome.expires, ms(60_020), "the other's TTL is its own");
        }
    }
}

#[test]
fn no_such_name_is_said_after_50_ms_whatever_the_other_family_does() {
    let mut play = Play::new("a.test");
    play.tell(10, "A a.test", nxdomain());
    assert_eq!(play.due(), Some(ms(60)));
    play.time(60);
    let text = play.error();
    assert!(
        text.starts_with("no such name (NXDOMAIN from 192.0.2.53:53)"),
        "{text}"
    );
    assert!(text.ends_with("resolving a.test"), "{text}");
}

#[test]
fn i12_a_failure_is_not_an_absence() {
    // One family has nothing, the other could not be asked: nobody knows.
    let mut play = Play::new("a.test");
    play.tell(10, "A a.test", nodata());
    play.tell(20, "Aaaa a.test", failed());
    assert!(play.error().starts_with("SERVFAIL from"));
    // One failed: the other serves, incomplete, until the pause is over.
    let mut play = Play::new("a.test");
    play.tell(10, "Aaaa a.test", failed());
    play.tell(20, "A a.test", found(ips(&["192.0.2.1"]), ms(20)));
    let outcome = play.outcome();
    assert!(!outcome.is_complete);
    assert_eq!(outcome.expires, ms(7_000));
    // Unless the file says that one failure is enough.
    let mut play = Play::begin("a.test", Via::Address, "options strict-error\n");
    if play.resolution.sources.config.strict_error {
        play.tell(10, "Aaaa a.test", failed());
        play.tell(20, "A a.test", found(ips(&["192.0.2.1"]), ms(20)));
        assert!(play.error().starts_with("SERVFAIL from"));
    }
}

#[test]
fn d21_i12_no_such_name_is_said_of_the_name_whatever_became_of_the_other_family() {
    for (absent, other) in [("A", "Aaaa"), ("Aaaa", "A")] {
        for is_first in [true, false] {
            let mut play = Play::new("a.test");
            let (one, two) = (format!("{absent} a.test"), format!("{other} a.test"));
            if is_first {
                play.tell(10, &one, nxdomain());
                play.tell(20, &two, failed());
            } else {
                play.tell(10, &two, failed());
                play.tell(20, &one, nxdomain());
            }
            let text = play.error();
            assert!(text.starts_with("no such name"), "{absent}: {text}");
            // Only that there is no record of one type says nothing of the other.
            let mut play = Play::new("a.test");
            play.tell(10, &one, nodata());
            play.tell(20, &two, failed());
            let text = play.error();
            assert!(text.starts_with("SERVFAIL"), "{absent}: {text}");
        }
    }
}

#[test]
fn d37_i12_that_there_was_nothing_before_is_no_answer() {
    let begin = || {
        let mut play = Play::new("a.test");
        play.tell_asked(0, "A a.test", Some(Old::Absent));
        play.tell_asked(0, "Aaaa a.test", Some(Old::Absent));
        play.time(0);
        play.time(1_800);
        assert!(play.done.is_none(), "its questions run on");
        assert_eq!(play.due(), Some(ms(5_000)));
        play
    };
    let mut play = begin();
    play.tell(3_000, "Aaaa a.test", nodata());
    play.tell(3_000, "A a.test", found(ips(&["192.0.2.1"]), ms(3_000)));
    assert!(play.outcome().is_complete);
    let mut play = begin();
    play.tell(3_000, "A a.test", failed());
    play.tell(3_000, "Aaaa a.test", failed());
    assert!(play.error().starts_with("SERVFAIL"));
    let mut play = begin();
    play.time(5_000);
    assert!(play.error().starts_with("no answer within 5s"));
    // One type was not there, the other still is not known.
    let mut play = Play::new("a.test");
    play.tell_asked(0, "Aaaa a.test", Some(Old::Absent));
    play.tell(10, "A a.test", nodata());
    play.time(1_800);
    assert!(play.done.is_none());
    play.tell(2_000, "Aaaa a.test", nodata());
    assert!(play.error().starts_with("no addresses (NODATA"));
}

#[test]
fn d37_a_candidate_that_was_passed_over_is_come_back_to() {
    let mut play = Play::begin("db", Via::Address, SEARCH);
    for kind in ["A", "Aaaa"] {
        play.tell_asked(0, &format!("{kind} db.one.test"), Some(Old::Absent));
    }
    play.time(0);
    play.time(1_800);
    for name in ["db.two.test", "db"] {
        for kind in ["A", "Aaaa"] {
            play.tell(1_900, &format!("{kind} {name}"), nxdomain());
        }
    }
    assert!(play.done.is_none(), "the first may still be there");
    assert_eq!(play.due(), Some(ms(5_000)));
    play.tell(
        2_500,
        "A db.one.test",
        found(ips(&["192.0.2.1"]), ms(2_500)),
    );
    play.tell(2_510, "Aaaa db.one.test", nodata());
    assert_eq!(play.targets(), "0/192.0.2.1:80");
}

#[test]
fn d32_a_question_that_nobody_needs_is_not_waited_for() {
    let mut play = Play::begin("db", Via::Address, SEARCH);
    play.tell(10, "A db.one.test", nxdomain());
    play.time(60);
    for name in ["db.two.test", "db"] {
        for kind in ["A", "Aaaa"] {
            play.tell(70, &format!("{kind} {name}"), failed());
        }
    }
    // There is no db.one.test, whatever its AAAA question brings.
    assert!(play.error().starts_with("SERVFAIL"));
}

#[test]
fn d37_old_records_serve_after_1800_ms_and_are_marked() {
    let mut play = Play::new("a.test");
    play.tell_asked(0, "A a.test", old(&["192.0.2.1"]));
    play.tell_asked(0, "Aaaa a.test", None);
    play.time(0);
    assert_eq!(play.due(), Some(ms(1_800)));
    play.time(1_799);
    assert!(play.done.is_none());
    play.time(1_800);
    let outcome = play.outcome();
    assert!(outcome.is_stale && !outcome.is_complete);
    assert_eq!(outcome.whence, Whence::Stale(server()));
    assert_eq!(outcome.expires, ms(2_800), "the answer may come soon");
}

#[test]
fn d37_old_records_serve_at_once_when_asking_failed() {
    let mut play = Play::new("a.test");
    let stale = Known::Stale {
        records: ips(&["192.0.2.1"]),
        server: server(),
        until: ms(30_000),
    };
    play.tell(10, "A a.test", stale);
    play.tell(10, "Aaaa a.test", nodata());
    let outcome = play.outcome();
    assert!(outcome.is_stale);
    assert_eq!(
        outcome.expires,
        ms(30_000),
        "the servers have 30 s of peace"
    );
}

#[test]
fn what_answers_before_its_time_is_up_is_not_replaced_by_the_old() {
    let mut play = Play::new("a.test");
    play.tell_asked(0, "A a.test", old(&["192.0.2.1"]));
    play.tell_asked(0, "Aaaa a.test", old(&["2001:db8::1"]));
    play.tell(1_000, "A a.test", found(ips(&["192.0.2.9"]), ms(1_000)));
    play.tell(1_020, "Aaaa a.test", nodata());
    let outcome = play.outcome();
    assert!(!outcome.is_stale);
    assert_eq!(
        outcome.addresses,
        [["192.0.2.9".parse::<IpAddr>().unwrap()]]
    );
}

const SEARCH: &str = "search one.test two.test\n";

#[test]
fn the_search_list_is_gone_through_in_its_order() {
    let mut play = Play::begin("db", Via::Address, SEARCH);
    assert_eq!(play.asked(), "A db.one.test, Aaaa db.one.test");
    play.tell(10, "A db.one.test", nxdomain());
    play.tell(11, "Aaaa db.one.test", nxdomain());
    assert_eq!(play.asked(), "A db.two.test, Aaaa db.two.test");
    play.tell(20, "Aaaa db.two.test", nodata());
    play.tell(21, "A db.two.test", found(ips(&["192.0.2.1"]), ms(21)));
    assert_eq!(play.targets(), "0/192.0.2.1:80");
}

#[test]
fn d32_i12_a_failure_on_the_way_is_told_instead_of_no_such_name() {
    let mut play = Play::begin("db.x", Via::Address, "search one.test\n");
    for (kind, known) in [("A", failed()), ("Aaaa", failed())] {
        play.tell(10, &format!("{kind} db.x"), known);
    }
    for kind in ["A", "Aaaa"] {
        play.tell(20, &format!("{kind} db.x.one.test"), nxdomain());
    }
    let text = play.error();
    assert!(
        text.starts_with("SERVFAIL from") && !text.contains("NXDOMAIN"),
        "{text}"
    );
}

#[test]
fn d37_with_all_servers_down_the_search_goes_on_to_what_was_there() {
    let mut play = Play::begin("db", Via::Address, SEARCH);
    for kind in ["A", "Aaaa"] {
        play.tell_asked(0, &format!("{kind} db.one.test"), Some(Old::Absent));
    }
    play.time(0);
    play.asked();
    play.time(1_800);
    assert_eq!(play.asked(), "A db.two.test, Aaaa db.two.test");
    play.tell_asked(1_800, "A db.two.test", old(&["192.0.2.1"]));
    play.tell_asked(1_800, "Aaaa db.two.test", Some(Old::Absent));
    play.time(1_800);
    assert!(play.outcome().is_stale);
}

#[test]
fn a_resolution_ends_by_its_deadline() {
    let mut play = Play::new("a.test");
    play.time(4_999);
    assert!(play.done.is_none());
    assert_eq!(play.due(), Some(ms(5_000)));
    play.time(5_000);
    assert!(play.error().starts_with("no answer within 5s"));
    assert_eq!(play.due(), None);
    play.tell(5_001, "A a.test", found(ips(&["192.0.2.1"]), ms(5_001)));
    assert!(play.done.is_none(), "once");
}

#[test]
fn what_is_known_without_asking_is_not_asked() {
    let mut play = Play::new("listed.test");
    assert_eq!(
        (play.asked(), play.targets()),
        (String::new(), "0/192.0.2.77:80".to_owned())
    );
    let mut play = Play::new("b.invalid");
    assert_eq!(play.asked(), "");
    assert!(play.error().starts_with("no such name"));
}

#[test]
fn options_of_the_file_say_what_is_asked() {
    let mut play = Play::begin("a.test", Via::Address, "options no-aaaa\n");
    assert_eq!(play.asked(), "A a.test");
    play.tell(10, "A a.test", found(ips(&["192.0.2.1"]), ms(10)));
    assert!(play.outcome().is_complete);
    let mut play = Play::begin("a.test", Via::Address, "options single-request\n");
    assert_eq!(play.asked(), "A a.test");
    play.tell(10, "A a.test", found(ips(&["192.0.2.1"]), ms(10)));
    assert_eq!(play.asked(), "Aaaa a.test");
    play.tell(20, "Aaaa a.test", nodata());
    assert!(play.outcome().is_complete);
}
