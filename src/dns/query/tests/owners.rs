//! Whose a record is, and where aliases lead.

use super::*;

#[test]
fn d24_an_owner_is_the_whole_name_and_nothing_but_it() {
    for owner in [
        "www.example.test.evil",
        "www.example",
        "www.example.evil",
        "evil.example.test",
        "a.www.example.test",
        "example.test",
        ".",
    ] {
        let strays = response(vec![a(owner, 60, 1)]);
        assert_eq!(verdict(&strays), Verdict::NoData { ttl: None }, "{owner}");
    }
    let shouted = response(vec![a("WWW.Example.TEST", 60, 1)]);
    assert_eq!(verdict(&shouted), answer(&[1], 60));
    // What is at the name itself goes before what its alias leads to.
    let both = response(vec![
        alias(WWW, 60, "b.test"),
        a("b.test", 60, 2),
        a(WWW, 60, 1),
    ]);
    assert_eq!(verdict(&both), answer(&[1], 60));
}

#[test]
fn d24_a_loop_or_a_chain_without_end_is_not_an_answer() {
    let own = response(vec![alias(WWW, 60, WWW)]);
    let two = response(vec![alias(WWW, 60, "b.test"), alias("b.test", 60, WWW)]);
    let link = |n: usize| format!("n{n}.test");
    let mut long = vec![alias(WWW, 60, &link(0))];
    long.extend((0..49).map(|n| alias(&link(n), 60, &link(n + 1))));
    long.push(a(&link(49), 60, 1));
    for message in [own, two, response(long)] {
        assert!(matches!(verdict(&message), Verdict::Refused(_)));
    }
    let mut most = vec![alias(WWW, 60, &link(0))];
    most.extend((0..15).map(|n| alias(&link(n), 60, &link(n + 1))));
    most.push(a(&link(15), 60, 1));
    assert_eq!(verdict(&response(most)), answer(&[1], 60));
}
