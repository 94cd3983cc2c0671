//! What is kept for how long, who asks, and who is told, by hand.

mod changes;

use std::net::IpAddr;

use super::*;
use crate::dns::{Kind, Records};
use crate::error::{Error, ErrorKind};
use crate::share::{Limits, Member, Registry};

type Group = Arc<Registry<&'static str>>;

const STALE: Duration = Duration::from_secs(86_400);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 53], 53);

fn group() -> Group {
    Arc::new(Registry::new(Limits {
        shards: 4,
        endpoints: 1,
        permits: 1,
        total: None,
        gauges: 0,
        counters: 0,
        stale: STALE,
    }))
}

fn at(seconds: u64) -> Tick {
    Tick::ZERO.plus(Duration::from_secs(seconds))
}

fn ask(name: &str, kind: Kind) -> Question {
    Question {
        name: name.into(),
        kind,
    }
}

fn a(name: &str) -> Question {
    ask(name, Kind::A)
}

fn found(seconds: u64) -> Answer {
    Answer::Found {
        records: Records::Addresses([IpAddr::from([192, 0, 2, 1])].into()),
        ttl: Duration::from_secs(seconds),
        server: SERVER.into(),
    }
}

fn nodata(seconds: u64) -> Answer {
    Answer::NoData {
        ttl: Some(Duration::from_secs(seconds)),
        server: SERVER.into(),
    }
}

fn nxdomain(seconds: u64) -> Answer {
    Answer::NxDomain {
        ttl: Some(Duration::from_secs(seconds)),
        server: SERVER.into(),
    }
}

/// As if it had been asked and answered at `now`.
fn heard(now: Tick, answer: Answer) -> Heard {
    Heard {
        answer,
        asked: now,
        generation: 0,
    }
}

fn failed() -> Answer {
    Answer::Failed(Error::new(ErrorKind::Resolve, "no answer"))
}

/// Asks and answers in one moment, if it must be asked.
fn answer(
    group: &Group,
    member: &Member<&str>,
    now: Tick,
    question: &Question,
    answer: Answer,
) -> bool {
    let lease = Some(now.plus(Duration::from_secs(6)));
    match group.names().join(now, question, member.id(), lease) {
        Turn::Lead { .. } => {
            let names = group.names();
            names.finish(now, question, member.id(), heard(now, answer), 0);
            true
        }
        _ => false,
    }
}

/// What is known, in a word; `ask` if it must be asked.
fn known(group: &Group, now: Tick, question: &Question) -> &'static str {
    let shard = ShardId::new(3, 1);
    match group.names().join(now, question, shard, None) {
        Turn::Known(Known::Found { .. }) => "found",
        Turn::Known(Known::Stale { .. }) => "stale",
        Turn::Known(Known::NoData { .. }) => "nodata",
        Turn::Known(Known::NxDomain { .. }) => "nxdomain",
        Turn::Known(Known::Failed { .. }) => "failed",
        Turn::Lead { .. } | Turn::Later { .. } => "ask",
        Turn::Follow { .. } => "follow",
    }
}

fn one() -> (Group, Member<&'static str>) {
    let group = group();
    let member = group.join().unwrap();
    (group, member)
}

#[test]
fn an_answer_serves_until_it_expires() {
    let (group, member) = one();
    assert!(answer(&group, &member, at(10), &a("a.test"), found(30)));
    assert_eq!(known(&group, at(39), &a("a.test")), "found");
    assert_eq!(known(&group, at(40), &a("a.test")), "ask");
    assert_eq!(known(&group, at(10), &a("b.test")), "ask");
    assert_eq!(known(&group, at(10), &ask("a.test", Kind::Aaaa)), "ask");
}

#[test]
fn d22_d23_m6_every_ttl_is_clamped_and_none_overflows() {
    let cases = [
        (found(0), 1),
        (found(60), 60),
        (found(u64::from(u32::MAX)), 86_400),
        (found(u64::MAX), 86_400),
        (nodata(0), 1),
        (nodata(u64::MAX), 900),
        (nxdomain(u64::MAX), 900),
        (
            Answer::NxDomain {
                ttl: None,
                server: SERVER.into(),
            },
            1,
        ),
        (failed(), 1),
    ];
    for (learned, seconds) in cases {
        let (group, member) = one();
        assert!(answer(
            &group,
            &member,
            at(5),
            &a("a.test"),
            learned.clone()
        ));
        assert_ne!(
            known(&group, at(5 + seconds - 1), &a("a.test")),
            "ask",
            "{learned:?}"
        );
        assert!(
            matches!(
                known(&group, at(5 + seconds), &a("a.test")),
                "ask" | "stale"
            ),
            "{learned:?}"
        );
    }
    let (group, member) = one();
    assert!(answer(&group, &member, Tick::NEVER, &a("a.test"), found(1)));
}

#[test]
fn d21_what_one_kind_says_is_not_said_of_the_other() {
    let (group, member) = one();
    let (v4, v6) = (a("a.test"), ask("a.test", Kind::Aaaa));
    answer(&group, &member, at(0), &v4, nodata(60));
    assert_eq!(
        (known(&group, at(1), &v4), known(&group, at(1), &v6)),
        ("nodata", "ask")
    );
    answer(&group, &member, at(0), &v6, found(60));
    assert_eq!(
        (known(&group, at(1), &v4), known(&group, at(1), &v6)),
        ("nodata", "found")
    );
}

#[test]
fn that_there_is_no_such_name_holds_for_every_kind() {
    let (group, member) = one();
    answer(&group, &member, at(0), &a("a.test"), nxdomain(60));
    for kind in Kind::ALL {
        assert_eq!(known(&group, at(59), &ask("a.test", kind)), "nxdomain");
        assert_eq!(known(&group, at(60), &ask("a.test", kind)), "ask");
    }
}

#[test]
fn d21_records_of_one_kind_outweigh_that_the_name_does_not_exist() {
    let v6 = ask("a.test", Kind::Aaaa);
    // Both orders: some servers say NXDOMAIN for AAAA alone (RFC 4074, 4.2).
    let (group, member) = one();
    answer(&group, &member, at(0), &a("a.test"), found(10));
    answer(&group, &member, at(0), &v6, nxdomain(60));
    assert_eq!(
        (
            known(&group, at(1), &a("a.test")),
            known(&group, at(1), &v6)
        ),
        ("found", "nodata")
    );
    assert_eq!(
        known(&group, at(11), &a("a.test")),
        "ask",
        "not: no such name"
    );

    let (group, member) = one();
    let lease = Some(at(9));
    let Turn::Lead { .. } = group.names().join(at(0), &v6, member.id(), lease) else {
        panic!("not the first");
    };
    let Turn::Lead { .. } = group.names().join(at(0), &a("a.test"), member.id(), lease) else {
        panic!("not the first");
    };
    group
        .names()
        .finish(at(0), &v6, member.id(), heard(at(0), nxdomain(60)), 0);
    group
        .names()
        .finish(at(0), &a("a.test"), member.id(), heard(at(0), found(10)), 0);
    assert_eq!(
        (
            known(&group, at(1), &a("a.test")),
            known(&group, at(1), &v6)
        ),
        ("found", "nodata")
    );
}

#[test]
fn d23_a_ttl_of_nothing_is_asked_for_once_a_second() {
    let (group, member) = one();
    let asked = (0..40).filter(|quarters| {
        let now = Tick::ZERO.plus(Duration::from_millis(250 * quarters));
        answer(&group, &member, now, &a("a.test"), found(0))
    });
    assert_eq!(asked.count(), 10);
}

#[test]
fn failures_are_remembered_twice_as_long_each_time_and_forgotten_by_an_answer() {
    let (group, member) = one();
    let mut now = at(100);
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert!(answer(&group, &member, now, &a("a.test"), failed()));
        let before = now.plus(Duration::from_secs(pause) - Duration::from_millis(1));
        assert_eq!(known(&group, before, &a("a.test")), "failed");
        now = now.plus(Duration::from_secs(pause));
        assert_eq!(known(&group, now, &a("a.test")), "ask");
    }
    let epoch = group.names().epoch();
    assert!(answer(&group, &member, now, &a("a.test"), found(1)));
    assert_ne!(
        group.names().epoch(),
        epoch,
        "every core looks again at once"
    );
    let epoch = group.names().epoch();
    now = now.plus(Duration::from_secs(1));
    assert!(answer(&group, &member, now, &a("a.test"), failed()));
    // What was not failing is no reason to look again.
    assert!(answer(&group, &member, now, &a("b.test"), found(1)));
    assert_eq!(group.names().epoch(), epoch);
}

#[test]
fn pauses_are_spread_by_chance_and_never_too_short() {
    let pause = |chance, times: u64| {
        let (group, member) = one();
        let mut known = None;
        for n in 0..times {
            let names = group.names();
            let Turn::Lead { .. } =
                names.join(at(20 * n), &a("a.test"), member.id(), Some(Tick::NEVER))
            else {
                panic!("known: {known:?}");
            };
            let now = at(20 * n);
            let it = names.finish(now, &a("a.test"), member.id(), heard(now, failed()), chance);
            known = match it {
                Known::Failed { until, .. } => Some(until.since(now)),
                other => panic!("{other:?}"),
            };
        }
        known.unwrap()
    };
    for chance in [0, 1, 77, 1023, u64::MAX] {
        assert_eq!(pause(chance, 1), Duration::from_secs(1));
        let longer = pause(chance, 3);
        assert!(longer > Duration::from_secs(3) - Duration::from_millis(1));
        assert!(longer <= Duration::from_secs(4));
    }
    assert_ne!(pause(1, 3), pause(900, 3));
}

#[test]
fn d37_i12_a_failure_never_replaces_what_a_server_said() {
    let (group, member) = one();
    let (q, names) = (a("a.test"), group.names());
    answer(&group, &member, at(0), &q, found(100));
    assert!(names.refresh(at(95), &q, member.id(), at(200), at(100)));
    let kept = names.finish(at(95), &q, member.id(), heard(at(95), failed()), 0);
    assert!(matches!(kept, Known::Found { expires, .. } if expires == at(100)));
    assert!(
        !names.refresh(at(99), &q, member.id(), at(200), at(100)),
        "it has its pause"
    );
    // Expired, and still in the pause: it serves, marked, and the servers are left alone.
    assert_eq!(known(&group, at(100), &q), "stale");
    assert_eq!(known(&group, at(124), &q), "stale");
    assert_eq!(known(&group, at(125), &q), "ask");
}

#[test]
fn d37_old_records_serve_within_their_window_and_servers_have_30_s_of_peace() {
    let (group, member) = one();
    let q = a("a.test");
    answer(&group, &member, at(0), &q, found(10));
    assert_eq!(known(&group, at(10), &q), "ask");
    let mut now = 10;
    let mut asked = 0;
    while now < 10 + 86_400 {
        match known(&group, at(now), &q) {
            "ask" => {
                assert!(answer(&group, &member, at(now), &q, failed()));
                assert_eq!(known(&group, at(now), &q), "stale");
                asked += 1;
            }
            it => assert_eq!(it, "stale", "at {now}"),
        }
        now += 10;
    }
    assert_eq!(asked, 86_400 / 30);
    assert_ne!(known(&group, at(now), &q), "stale", "its time is over");
    assert!(answer(&group, &member, at(now + 60), &q, found(10)));
    assert_eq!(
        known(&group, at(now + 61), &q),
        "found",
        "it recovers at once"
    );
}

#[test]
fn d37_what_was_known_is_given_to_who_asks_again() {
    let (group, member) = one();
    let q = a("a.test");
    answer(&group, &member, at(0), &q, found(10));
    let turn = group.names().join(at(20), &q, member.id(), Some(at(30)));
    assert!(matches!(
        turn,
        Turn::Lead {
            old: Some(Old::Found { .. }),
            ..
        }
    ));
    answer(&group, &member, at(0), &a("b.test"), nxdomain(5));
    let turn = group
        .names()
        .join(at(20), &a("b.test"), member.id(), Some(at(30)));
    assert!(matches!(
        turn,
        Turn::Lead {
            old: Some(Old::Absent),
            ..
        }
    ));
    let turn = group
        .names()
        .join(at(20), &a("c.test"), member.id(), Some(at(30)));
    assert!(matches!(turn, Turn::Lead { old: None, .. }));
}

#[test]
fn d26_one_shard_asks_and_the_others_are_told() {
    let group = group();
    let (first, second) = (group.join().unwrap(), group.join().unwrap());
    let (q, names) = (a("a.test"), group.names());
    let Turn::Lead { .. } = names.join(at(0), &q, first.id(), Some(at(6))) else {
        panic!("not the first");
    };
    let turn = names.join(at(1), &q, second.id(), Some(at(7)));
    assert!(matches!(turn, Turn::Follow { since, until, .. } if (since, until) == (at(0), at(6))));
    assert!(!second.take_names());
    names.finish(at(2), &q, first.id(), heard(at(2), found(0)), 0);
    assert!(second.take_names() && second.wake().take());
    assert!(!second.take_names(), "once");
    assert!(!first.take_names(), "who led knows it");
    // TTL 0: whoever waited for this answer gets it.
    assert!(matches!(
        names.join(at(2), &q, second.id(), Some(at(8))),
        Turn::Known(_)
    ));
    assert_eq!(names.counts(), (1, 0));
}

#[test]
fn d27_k2_a_leader_that_ends_or_is_late_is_replaced_by_one_follower() {
    let group = group();
    let (leader, second, third) = (
        group.join().unwrap(),
        group.join().unwrap(),
        group.join().unwrap(),
    );
    let (q, names) = (a("a.test"), group.names());
    let lead = |member: &Member<&str>, now: u64| {
        let turn = names.join(at(now), &q, member.id(), Some(at(now + 6)));
        match turn {
            Turn::Lead { .. } => true,
            Turn::Follow { .. } => false,
            other => panic!("{other:?}"),
        }
    };
    assert!(lead(&leader, 0));
    assert!(!lead(&second, 1) && !lead(&third, 1));
    drop(leader);
    assert!(second.take_names() && third.take_names());
    assert!(lead(&third, 2));
    assert!(!lead(&second, 2));
    // The new leader is late.
    assert!(!lead(&second, 7));
    assert!(lead(&second, 8));
    assert!(!lead(&third, 9), "it follows now");
    // What the late one brings after all is as good, and the follower is told of it.
    names.finish(at(9), &q, third.id(), heard(at(9), found(60)), 0);
    assert_eq!(names.counts(), (1, 1), "the other still asks");
    names.finish(at(9), &q, second.id(), heard(at(9), found(60)), 0);
    assert_eq!(names.counts(), (1, 0));
}

#[test]
fn d27_a_leader_at_work_keeps_its_place() {
    let group = group();
    let (leader, other) = (group.join().unwrap(), group.join().unwrap());
    let (q, names) = (a("a.test"), group.names());
    names.join(at(0), &q, leader.id(), Some(at(1)));
    for now in 0..9 {
        names.renew(leader.id(), at(now + 1));
        names.renew(other.id(), at(1000));
        let turn = names.join(at(now), &q, other.id(), Some(at(now + 1)));
        assert!(matches!(turn, Turn::Follow { until, .. } if until == at(now + 1)));
    }
    let turn = names.join(at(9), &q, other.id(), Some(at(10)));
    assert!(matches!(turn, Turn::Lead { .. }));
}

#[test]
fn a_shard_that_cannot_ask_now_follows_or_comes_back() {
    let (group, member) = one();
    let q = a("a.test");
    assert!(matches!(
        group.names().join(at(0), &q, member.id(), None),
        Turn::Later { .. }
    ));
    group.names().join(at(0), &q, member.id(), Some(at(6)));
    assert_eq!(known(&group, at(0), &q), "follow");
}

#[test]
fn an_answer_is_renewed_in_its_last_tenth_once_and_not_before() {
    let (group, member) = one();
    let (q, names) = (a("a.test"), group.names());
    let refresh = |now: Tick| {
        let lease = now.plus(Duration::from_secs(6));
        names.refresh(now, &q, member.id(), lease, at(100))
    };
    answer(&group, &member, at(0), &q, found(100));
    assert!(!refresh(at(89)));
    assert!(refresh(at(90)));
    assert!(!refresh(at(91)), "it is being asked");
    names.finish(at(92), &q, member.id(), heard(at(92), found(100)), 0);
    assert!(!refresh(at(100)));
    assert_eq!(known(&group, at(191), &q), "found");
    // An absence is asked for again if it would end first.
    let v6 = ask("a.test", Kind::Aaaa);
    answer(&group, &member, at(100), &v6, nodata(5));
    let renew = |now, end| names.refresh(at(now), &v6, member.id(), at(200), at(end));
    assert!(!renew(102, 104), "it lasts long enough");
    assert!(!renew(100, 105), "it was just asked for");
    assert!(renew(102, 105));
    // A second of life leaves no room for it: at most one question per second.
    answer(&group, &member, at(0), &a("b.test"), found(1));
    assert!(!names.refresh(at(0), &a("b.test"), member.id(), at(6), at(1)));
}
