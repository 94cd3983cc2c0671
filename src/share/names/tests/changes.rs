//! What becomes of what is kept: new sources, a sleep of the machine, no more room.

use super::*;
use crate::dns::Service;

#[test]
fn d30_new_sources_flush_everything_and_old_answers_are_not_kept() {
    let group = group();
    let (leader, other) = (group.join().unwrap(), group.join().unwrap());
    let names = group.names();
    answer(&group, &leader, at(0), &a("a.test"), found(100));
    let Turn::Lead { .. } = names.join(at(0), &a("b.test"), leader.id(), Some(at(6))) else {
        panic!("not the first");
    };
    names.join(at(0), &a("b.test"), other.id(), Some(at(6)));
    let epoch = names.epoch();
    names.flush(7);
    assert_ne!(names.epoch(), epoch);
    assert_eq!(known(&group, at(1), &a("a.test")), "ask");
    assert!(other.take_names(), "it asks the new ones");
    let given = names.finish(
        at(1),
        &a("b.test"),
        leader.id(),
        heard(at(1), found(100)),
        0,
    );
    assert!(
        matches!(given, Known::Found { expires, .. } if expires == at(2)),
        "who waited for it here gets it, and asks the new ones soon: {given:?}"
    );
    assert_eq!(known(&group, at(1), &a("b.test")), "ask");
    let epoch = names.epoch();
    names.flush(7);
    assert_eq!(names.epoch(), epoch, "flushed once");
}

#[test]
fn after_a_sleep_of_the_machine_all_is_asked_again_and_the_old_serves_if_it_must() {
    let (group, member) = one();
    answer(&group, &member, at(0), &a("a.test"), found(1000));
    answer(&group, &member, at(0), &a("b.test"), nxdomain(900));
    answer(&group, &member, at(0), &a("c.test"), failed());
    let epoch = group.names().epoch();
    group.names().woke_up(at(0), Duration::from_secs(5));
    assert_ne!(group.names().epoch(), epoch);
    group.names().woke_up(at(0), Duration::from_secs(5));
    assert_eq!(
        group.names().epoch(),
        epoch + 1,
        "the cores notice it one after the other"
    );
    for name in ["a.test", "b.test", "c.test"] {
        assert_eq!(known(&group, at(0), &a(name)), "ask", "{name}");
    }
    // Each core reads the two clocks for itself, one after the other.
    answer(&group, &member, at(0), &a("d.test"), found(1000));
    let later = Duration::from_secs(5) + Duration::from_nanos(80);
    group.names().woke_up(at(0), later);
    assert_eq!(known(&group, at(0), &a("d.test")), "found");
    answer(&group, &member, at(0), &a("a.test"), failed());
    assert_eq!(known(&group, at(0), &a("a.test")), "stale");
}

#[test]
fn d36_no_more_than_64_records_are_kept() {
    let (group, member) = one();
    let service = Service {
        priority: 0,
        weight: 0,
        port: 80,
        target: None,
    };
    let many = Answer::Found {
        records: Records::Services(vec![service; 1000].into()),
        ttl: Duration::from_secs(60),
        server: SERVER.into(),
    };
    let q = ask("a.test", Kind::Srv);
    answer(&group, &member, at(0), &q, many);
    match group.names().join(at(0), &q, member.id(), None) {
        Turn::Known(Known::Found {
            records: Records::Services(kept),
            ..
        }) => assert_eq!(kept.len(), 64),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_table_drops_the_useless_first_then_the_old_and_then_the_least_used() {
    let (group, member) = one();
    let name = |n: usize| a(&format!("name{n}"));
    // The first 64 have expired when room is needed, and were used last.
    for n in 0..MAX_NAMES {
        let ttl = if n < 64 { 5 } else { 1000 };
        assert!(answer(&group, &member, at(0), &name(n), found(ttl)));
    }
    for n in 0..64 {
        assert_eq!(known(&group, at(4), &name(n)), "found");
    }
    assert_eq!(known(&group, at(6), &name(64)), "found");
    assert_eq!(group.names().counts().0, MAX_NAMES);
    answer(&group, &member, at(6), &a("new0"), found(1000));
    assert_eq!(group.names().counts().0, MAX_NAMES - EVICTED + 1);
    for n in 0..64 {
        assert_eq!(known(&group, at(6), &name(n)), "ask");
    }
    for n in 1..=EVICTED {
        answer(&group, &member, at(6), &a(&format!("new{n}")), found(1000));
    }
    assert_eq!(known(&group, at(6), &name(64)), "found", "it was used");
    assert_eq!(known(&group, at(6), &name(65)), "ask", "used least");
    assert!(group.names().counts().0 <= MAX_NAMES);
}

#[test]
fn d27_a_shard_that_cannot_ask_does_not_wait_for_a_leader_that_is_late() {
    let group = group();
    let (leader, other) = (group.join().unwrap(), group.join().unwrap());
    let (q, names) = (a("a.test"), group.names());
    names.join(at(0), &q, leader.id(), Some(at(6)));
    let turn = names.join(at(5), &q, other.id(), None);
    assert!(matches!(turn, Turn::Follow { until, .. } if until == at(6)));
    let turn = names.join(at(6), &q, other.id(), None);
    assert!(
        matches!(turn, Turn::Later { .. }),
        "it would come back at once, and again: {turn:?}"
    );
}

/// What is told of an answer that was asked for and heard at these seconds.
fn told(group: &Group, member: &Member<&str>, asked: u64, now: u64, answer: Answer) -> Known {
    let (names, q) = (group.names(), a("a.test"));
    names.join(at(asked), &q, member.id(), Some(Tick::NEVER));
    let heard = heard(at(asked), answer);
    names.finish(at(now), &q, member.id(), heard, 0)
}

#[test]
fn m2_a_ttl_counts_from_when_the_question_was_sent() {
    let (group, member) = one();
    let known_at = |seconds| known(&group, at(seconds), &a("a.test"));
    let it = told(&group, &member, 10, 15, found(60));
    assert!(matches!(it, Known::Found { expires, learned, .. }
        if expires == at(70) && learned == at(15)));
    assert_eq!((known_at(69), known_at(70)), ("found", "ask"));
    // Who stood still for longer than the answer is good for has an old one.
    let it = told(&group, &member, 100, 200, found(60));
    assert!(
        matches!(it, Known::Stale { until, .. } if until == at(200)),
        "{it:?}"
    );
    assert_eq!(known_at(200), "ask");
    let (group, member) = one();
    for absence in [nodata(60), nxdomain(60)] {
        let it = told(&group, &member, 100, 200, absence);
        assert!(
            matches!(it, Known::Failed { until, .. } if until == at(200)),
            "{it:?}"
        );
        assert_eq!(known(&group, at(200), &a("a.test")), "ask");
    }
    let it = told(&group, &member, 300, 310, nodata(60));
    assert!(matches!(it, Known::NoData { .. }));
    assert_eq!(known(&group, at(359), &a("a.test")), "nodata");
    assert_eq!(known(&group, at(360), &a("a.test")), "ask");
}

#[test]
fn d23_a_slow_server_is_not_asked_again_at_once() {
    for ttl in [0, 1, 3] {
        let (group, member) = one();
        let it = told(&group, &member, 0, 5, found(ttl));
        assert!(matches!(it, Known::Found { .. }), "who waited is served");
        let known = |seconds| known(&group, at(seconds), &a("a.test"));
        assert_eq!((known(5), known(6)), ("found", "ask"));
    }
}

#[test]
fn m2_what_was_asked_before_a_sleep_is_not_fresh_after_it() {
    let (group, member) = one();
    let names = group.names();
    names.woke_up(at(100), Duration::from_secs(90));
    let it = told(&group, &member, 9, 100, found(1_000));
    assert!(
        matches!(it, Known::Stale { until, .. } if until == at(100)),
        "{it:?}"
    );
    assert_eq!(known(&group, at(100), &a("a.test")), "ask");
    for absence in [nodata(900), nxdomain(900)] {
        let it = told(&group, &member, 9, 100, absence);
        assert!(
            !matches!(it, Known::NoData { .. } | Known::NxDomain { .. }),
            "{it:?}"
        );
        assert_eq!(known(&group, at(100), &a("a.test")), "ask");
    }
    // Nor does a failure of then keep anybody from asking.
    let it = told(&group, &member, 9, 100, failed());
    assert!(
        matches!(it, Known::Failed { until, .. } if until == at(100)),
        "{it:?}"
    );
    assert_eq!(known(&group, at(100), &a("a.test")), "ask");
    // What was asked since is as good as any.
    let it = told(&group, &member, 100, 101, found(1_000));
    assert!(
        matches!(it, Known::Found { expires, .. } if expires == at(1_100)),
        "{it:?}"
    );
}

#[test]
fn m2_an_answer_from_before_a_sleep_does_not_replace_one_from_after_it() {
    let (group, member) = one();
    group.names().woke_up(at(100), Duration::from_secs(90));
    told(&group, &member, 100, 101, found(1_000));
    // Another core was frozen with the answer in its hands.
    for old in [found(5_000), nodata(900), nxdomain(900), failed()] {
        let it = told(&group, &member, 9, 102, old);
        assert!(
            matches!(it, Known::Found { expires, .. } if expires == at(1_100)),
            "{it:?}"
        );
        assert_eq!(known(&group, at(102), &a("a.test")), "found");
    }
}

/// An error of a user's resolver whose drop looks at the names.
#[derive(Debug)]
struct Curious(std::sync::Weak<Registry<&'static str>>, Arc<AtomicU64>);

impl std::fmt::Display for Curious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the directory is closed")
    }
}

impl std::error::Error for Curious {}

impl Drop for Curious {
    fn drop(&mut self) {
        let Some(group) = self.0.upgrade() else {
            return;
        };
        assert!(group.names().table.try_lock().is_ok(), "under the lock");
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn d27_an_error_of_the_users_is_not_dropped_under_the_lock() {
    let (group, member) = one();
    let dropped = Arc::new(AtomicU64::new(0));
    let mut now = 0;
    // Another minute: the pause after the last failure is over.
    let mut fail = |name: &str| {
        now += 60;
        let error = Curious(Arc::downgrade(&group), dropped.clone());
        let error = Error::from_source(ErrorKind::Resolve, error);
        assert!(answer(
            &group,
            &member,
            at(now),
            &a(name),
            Answer::Failed(error)
        ));
        now
    };
    let count = || dropped.load(Ordering::Relaxed);
    // By the next failure, an answer, an absence, a sleep, new sources and for want of room.
    fail("a.test");
    let now = fail("a.test");
    assert_eq!(count(), 1);
    answer(&group, &member, at(now + 2), &a("a.test"), found(1));
    assert_eq!(count(), 2);
    for nothing in [nodata(1), nxdomain(1)] {
        let before = count();
        let now = fail("b.test");
        answer(&group, &member, at(now + 2), &a("b.test"), nothing);
        assert_eq!(count(), before + 1);
    }
    let now = fail("c.test");
    group.names().woke_up(at(now), Duration::from_secs(5));
    assert_eq!(count(), 5);
    let now = fail("d.test");
    for n in 0..=MAX_NAMES {
        answer(&group, &member, at(now + 1), &a(&format!("{n}")), found(9));
    }
    assert_eq!(count(), 6);
    // By what is known though it failed: fresh records, and old ones.
    group.names().woke_up(at(now + 9), Duration::from_secs(90));
    let late = |answer_before: u64| {
        let error = Curious(Arc::downgrade(&group), dropped.clone());
        let error = Answer::Failed(Error::from_source(ErrorKind::Resolve, error));
        told(&group, &member, answer_before, now + 20, error)
    };
    told(&group, &member, now + 9, now + 9, found(60));
    assert!(matches!(late(now), Known::Found { .. }));
    assert_eq!(count(), 7);
    group
        .names()
        .woke_up(at(now + 15), Duration::from_secs(180));
    assert!(matches!(late(now), Known::Stale { .. }));
    assert_eq!(count(), 8);
    fail("e.test");
    group.names().flush(1);
    assert_eq!(count(), 9);
}

#[test]
fn d27_who_gives_up_is_replaced_and_nothing_is_known_of_it() {
    let group = group();
    let (leader, other) = (group.join().unwrap(), group.join().unwrap());
    let (q, names) = (a("a.test"), group.names());
    names.join(at(0), &q, leader.id(), Some(at(6)));
    names.join(at(0), &q, other.id(), Some(at(6)));
    names.give_up(&q, leader.id());
    assert!(other.take_names());
    let turn = names.join(at(0), &q, other.id(), Some(at(6)));
    assert!(matches!(turn, Turn::Lead { old: None }));
}
