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
    let given = names.finish(at(1), &a("b.test"), leader.id(), found(100), 0, 0);
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
