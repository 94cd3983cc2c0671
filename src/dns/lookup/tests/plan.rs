//! Whom a lookup asks, when, and when it ends.

use proptest::prelude::*;

use super::*;

const REFUSED: i32 = 111;

#[test]
fn d1_where_nobody_listens_the_next_server_is_asked_in_the_same_tick() {
    let mut world = World::new(TWO);
    for server in [FIRST, SECOND] {
        let asked = world.asked();
        assert_eq!(asked.server.to_string(), server);
        world.fail(&asked, REFUSED);
    }
    assert_eq!(world.now, Tick::ZERO);
    // Never: no such name, or waiting for the timeout.
    assert_eq!(
        world.error(),
        "connection refused (os error 111), asking 192.0.2.2:53, after connection refused \
         (os error 111), asking 192.0.2.1:53, resolving a.test"
    );
    assert_eq!((world.sends.len(), world.closed), (2, 2));
}

#[test]
fn d2_silence_is_answered_by_plan_and_ends_at_the_deadline_and_is_not_absence() {
    let mut world = World::new(TWO);
    world.wait_for_the_end();
    let plan = [(FIRST, 0), (SECOND, 1000), (FIRST, 2000), (SECOND, 4000)];
    let plan = plan.map(|(server, at)| (server.to_owned(), at));
    assert_eq!(world.servers(), plan);
    assert_eq!(world.now, at_millis(5000));
    assert_eq!(
        world.error(),
        "no answer from 2 servers within 5 s, resolving a.test"
    );
    assert_eq!(world.closed, 4);
}

#[test]
fn m2_d4_the_end_says_when_what_was_answered_was_sent() {
    let mut world = World::new(TWO);
    let first = world.asked();
    world.wait();
    assert_eq!(world.now, at_millis(1000));
    world.reply(&first, |message| add_address(message, 60));
    assert_eq!((world.found(), world.done_of), (60, Tick::ZERO));
    let mut world = World::new(TWO);
    world.wait();
    world.now = at_millis(1100);
    world.answer(60);
    assert_eq!((world.found(), world.done_of), (60, at_millis(1000)));
    // A failure is one from the beginning.
    let mut world = World::new(TWO);
    world.wait_for_the_end();
    assert_eq!(world.done_of, Tick::ZERO);
}

#[test]
fn d2_one_server_alone_is_given_its_whole_timeout_each_time() {
    let mut world = World::new(ONE);
    world.wait_for_the_end();
    let plan = [(FIRST, 0), (FIRST, 1000)].map(|(server, at)| (server.to_owned(), at));
    assert_eq!(world.servers(), plan);
    assert_eq!(world.now, at_millis(3000));
    assert_eq!(
        world.error(),
        "no answer from 192.0.2.1:53 within 4 s, resolving a.test"
    );
}

#[test]
fn d2_the_deadline_is_the_least_of_three() {
    let table = [
        // timeout, attempts, servers, given, total
        (2, 1, ONE, 60, 2),
        (2, 2, TWO, 60, 8),
        (5, 3, TWO, 60, 10),
        (5, 3, TWO, 3, 3),
    ];
    for (timeout, attempts, servers, given, total) in table {
        let text = format!("options timeout:{timeout} attempts:{attempts}\n{servers}");
        let config = ResolverConfig::parse(text.as_bytes());
        let deadline = at_millis(given * 1000);
        let health = Health::new();
        let lookup = Lookup::new(
            Tick::ZERO,
            &question(Kind::A),
            &config,
            &health,
            deadline,
            1,
        );
        let mut world = World::of(lookup.unwrap(), health);
        world.wait_for_the_end();
        assert!(world.now <= at_millis(total * 1000), "{text}");
        assert_eq!(world.sends.len(), world.closed);
    }
}

#[test]
fn d3_lost_packets_are_sent_again_and_never_more_than_three_times_to_one_server() {
    let config = |attempts| {
        let text = format!("options timeout:5 attempts:{attempts}\n{ONE}");
        ResolverConfig::parse(text.as_bytes())
    };
    for lost in 0..3 {
        let mut world = World::with(&config(3), Kind::A, Health::new());
        for _ in 0..lost {
            world.wait();
        }
        assert_eq!(world.sends.len(), lost + 1);
        world.answer(60);
        assert_eq!(world.found(), 60);
    }
    for attempts in 1..=3 {
        let mut world = World::with(&config(attempts), Kind::A, Health::new());
        world.wait_for_the_end();
        assert_eq!(world.sends.len(), attempts);
    }
    // Whatever the configuration says.
    let mut greedy = config(3);
    greedy.attempts = 50;
    let mut world = World::with(&greedy, Kind::A, Health::new());
    world.wait_for_the_end();
    assert_eq!(world.sends.len(), 3);
}

#[test]
fn d4_d5_a_late_answer_counts_while_its_socket_is_open_and_only_once() {
    let mut world = World::new(TWO);
    let first = world.asked();
    world.wait();
    let second = world.asked();
    assert_eq!(world.open.len(), 2);
    world.reply(&first, |message| add_address(message, 60));
    assert_eq!(world.found(), 60);
    // Twice, and from the other server as well: nothing follows the end.
    for late in [&first, &second] {
        world.reply(late, |message| add_address(message, 1));
    }
    world.now = at_millis(9000);
    world.lookup.handle_timeout(world.now, &mut world.health);
    world.run();
    assert_eq!((world.found(), world.lookup.poll_timeout()), (60, None));
}

#[test]
fn d4_an_answer_after_the_timeout_is_dropped() {
    let mut world = World::new(TWO);
    let first = world.asked();
    while world.open.iter().any(|open| open.query == first.query) {
        world.wait();
    }
    assert_eq!(world.now, at_millis(2000));
    world.reply(&first, |message| add_address(message, 60));
    assert!(world.done.is_none());
}

#[test]
fn d4_d7_the_id_of_one_query_is_nothing_on_the_socket_of_another() {
    let mut world = World::new(TWO);
    let first = world.asked();
    world.wait();
    let second = world.asked();
    assert_ne!(first.message.metadata.id, second.message.metadata.id);
    let bytes = response(&first, |message| add_address(message, 60));
    world.bytes(&second, &bytes, false);
    assert!(world.done.is_none());
}

#[test]
fn d20_a_server_that_fails_or_refuses_is_left_for_the_next_and_asked_last_from_then_on() {
    let answers = [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::NotAuth,
    ];
    for code in answers {
        let mut world = World::new(TWO);
        world.code(code);
        assert!(world.done.is_none(), "early");
        assert_eq!(world.asked().server.to_string(), SECOND);
        world.answer(60);
        assert_eq!((world.found(), world.now), (60, Tick::ZERO));
        let next = World::with(&config(TWO), Kind::A, world.health);
        assert_eq!(next.asked().server.to_string(), SECOND);
    }
    let mut world = World::new(TWO);
    world.code(ResponseCode::Refused);
    world.code(ResponseCode::ServFail);
    assert_eq!(
        world.error(),
        "server failure (SERVFAIL from 192.0.2.2:53), after server refused (REFUSED from \
         192.0.2.1:53), resolving a.test"
    );
    let mut world = World::new(TWO);
    world.code(ResponseCode::ServFail);
    world.wait_for_the_end();
    assert_eq!(
        world.error(),
        "no answer from 192.0.2.2:53 within 5 s, after server failure (SERVFAIL from \
         192.0.2.1:53), resolving a.test"
    );
}

#[test]
fn d20_a_late_refusal_leaves_the_query_under_way_alone() {
    let mut world = World::new(TWO);
    let first = world.asked();
    world.wait();
    let next = world.lookup.poll_timeout();
    world.reply(&first, |message| {
        message.metadata.response_code = ResponseCode::ServFail
    });
    assert_eq!((world.sends.len(), world.lookup.poll_timeout()), (2, next));
    // The first server's second turn is left out.
    world.wait();
    assert_eq!(world.asked().server.to_string(), SECOND);
    assert_eq!(world.sends.len(), 3);
}

#[test]
fn d20_silence_puts_a_server_last_and_an_answer_puts_it_back() {
    let mut world = World::new(TWO);
    world.wait();
    world.answer(60);
    let next = World::with(&config(TWO), Kind::A, world.health);
    assert_eq!(next.asked().server.to_string(), SECOND);
    let mut world = World::with(&config(TWO), Kind::A, next.health);
    world.wait();
    assert_eq!(world.asked().server.to_string(), FIRST);
    world.answer(60);
    let next = World::with(&config(TWO), Kind::A, world.health);
    assert_eq!(next.asked().server.to_string(), FIRST);
}

#[test]
fn d20_a_probe_is_a_copy_that_asks_the_failing_server_alone_and_once() {
    let config = config(TWO);
    let mut health = Health::new();
    health.failed(Tick::ZERO, &config.servers, config.servers[0]);
    let now = at_millis(5000);
    let mut probe = |seed| Lookup::probe(now, &question(Kind::A), &config, &mut health, seed);
    assert_eq!((0..50).filter(|&seed| probe(seed).is_some()).count(), 1);
    health.answered(&config.servers, config.servers[1], None);
    let later = at_millis(10_000);
    let probe = |seed| Lookup::probe(later, &question(Kind::A), &config, &mut health, seed);
    let lookup = (0..50).find_map(probe).expect("no probe");
    let mut world = World::of(lookup, health);
    world.now = later;
    assert_eq!(world.asked().server.to_string(), FIRST);
    world.answer(60);
    let next = World::with(&config, Kind::A, world.health);
    assert_eq!(next.asked().server.to_string(), FIRST);
    let mut silent = Health::new();
    silent.failed(Tick::ZERO, &config.servers, config.servers[0]);
    let probe = |seed| Lookup::probe(now, &question(Kind::A), &config, &mut silent, seed);
    let lookup = (0..50).find_map(probe).expect("no probe");
    let mut world = World::of(lookup, silent);
    world.now = now;
    world.wait_for_the_end();
    assert_eq!(world.sends.len(), 1);
}

#[test]
fn a_server_gets_its_own_time_and_no_less_than_a_third_of_a_second() {
    for (rtt, wait) in [(10, 333), (400, 600), (1900, 2000)] {
        let mut health = Health::new();
        let config = config(TWO);
        let rtt = Duration::from_millis(rtt);
        health.answered(&config.servers, config.servers[0], Some(rtt));
        let mut world = World::with(&config, Kind::A, health);
        world.wait();
        assert_eq!(world.now, at_millis(wait));
        assert_eq!(world.asked().server.to_string(), SECOND);
    }
}

#[test]
fn the_time_of_an_answer_is_that_of_the_next_turn() {
    let mut world = World::new(TWO);
    world.now = at_millis(400);
    world.answer(60);
    let mut next = World::with(&config(TWO), Kind::A, world.health);
    next.wait();
    assert_eq!(next.now, at_millis(600));
}

#[test]
fn m3_an_answer_that_is_read_after_a_suspension_says_nothing_of_its_server() {
    let mut world = World::new(TWO);
    world.now = at_millis(400);
    world.answer(60);
    let mut asleep = World::with(&config(TWO), Kind::A, world.health);
    asleep.now = at_millis(8 * 3600 * 1000);
    asleep.answer(60);
    assert_eq!(asleep.found(), 60);
    let mut next = World::with(&config(TWO), Kind::A, asleep.health);
    next.wait();
    assert_eq!(next.now, at_millis(600));
}

#[test]
fn lookups_rotate_over_the_servers_by_their_seed() {
    let config = config("options rotate\nnameserver 192.0.2.1\nnameserver 192.0.2.2");
    let mut firsts = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let deadline = at_millis(5000);
        let health = Health::new();
        let lookup = Lookup::new(
            Tick::ZERO,
            &question(Kind::A),
            &config,
            &health,
            deadline,
            seed,
        );
        let mut world = World::of(lookup.unwrap(), health);
        firsts.insert(world.asked().server.to_string());
        world.wait();
        assert_ne!(world.sends[0].0, world.sends[1].0);
    }
    assert_eq!(firsts.len(), 2);
}

#[test]
fn ids_do_not_repeat_while_they_are_open_and_differ_by_seed() {
    let ids = |seed| {
        let health = Health::new();
        let config = config(TWO);
        let question = question(Kind::A);
        let lookup = Lookup::new(
            Tick::ZERO,
            &question,
            &config,
            &health,
            at_millis(5000),
            seed,
        );
        let mut world = World::of(lookup.unwrap(), health);
        world.wait();
        world.wait();
        let ids = world.open.iter().map(|open| open.message.metadata.id);
        ids.collect::<Vec<u16>>()
    };
    let all: std::collections::BTreeSet<u16> = (0..50).flat_map(ids).collect();
    assert!(all.len() > 95, "{}", all.len());
    assert_eq!(ids(1), ids(1));
}

#[test]
fn a_deadline_that_has_passed_ends_it_at_once_and_a_bad_name_before_it_begins() {
    let (config, health) = (ResolverConfig::default(), Health::new());
    let question = question(Kind::A);
    let lookup = Lookup::new(at_millis(9), &question, &config, &health, at_millis(1), 0);
    let mut world = World::of(lookup.unwrap(), health);
    world.now = at_millis(9);
    world.lookup.handle_timeout(world.now, &mut world.health);
    world.run();
    assert!(world.error().starts_with("no answer from 127.0.0.1:53"));
    let bad = Question {
        name: "a b".into(),
        kind: Kind::A,
    };
    let health = Health::new();
    let error = Lookup::new(Tick::ZERO, &bad, &config, &health, Tick::NEVER, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

proptest! {
    #[test]
    fn every_lookup_ends_by_its_deadline_whatever_the_servers_do(
        script in proptest::collection::vec((0u8..14, any::<prop::sample::Index>()), 0..60),
        flags in 0u8..8,
    ) {
        let mut config = config(TWO);
        config.use_tcp = flags & 1 != 0;
        config.edns = flags & 2 != 0;
        config.randomize_case = flags & 4 != 0;
        let mut world = World::with(&config, Kind::A, Health::new());
        for (step, of) in script {
            if world.done.is_some() {
                break;
            }
            let Some(to) = world.open.get(of.index(world.open.len().max(1))).cloned() else {
                world.wait();
                continue;
            };
            let code = |code| move |m: &mut Message| m.metadata.response_code = code;
            match step {
                0 if of.index(4) == 0 => world.reply(&to, |m| add_address(m, 60)),
                1 if of.index(4) == 0 => world.reply(&to, |m| add_soa(m, 60)),
                2 => world.reply(&to, code(ResponseCode::ServFail)),
                3 => world.reply(&to, code(ResponseCode::FormErr)),
                4 | 5 => world.reply(&to, |m| m.metadata.truncation = true),
                6 => world.fail(&to, 113),
                7 => world.fail(&to, 0),
                8 | 9 => world.reply(&to, |m| m.metadata.id ^= 1),
                10 => world.bytes(&to, b"\0\x04abcd\0", false),
                11 => world.bytes(&to, &[0; 2], true),
                _ => world.wait(),
            }
            for (server, transport) in [FIRST, SECOND].iter().flat_map(|server| {
                [Transport::Udp, Transport::Tcp].map(|transport| (server, transport))
            }) {
                let of = |send: &&(SocketAddr, Transport, u64)| {
                    send.0.to_string() == **server && send.1 == transport
                };
                prop_assert!(world.sends.iter().filter(of).count() <= 3);
            }
        }
        world.wait_for_the_end();
        prop_assert!(world.now <= at_millis(5000));
        prop_assert_eq!(world.sends.len(), world.closed);
    }
}
