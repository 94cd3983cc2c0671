//! Answers that are cut, and streams that are.

use super::*;

/// A lookup that was told to come over TCP.
fn over_tcp(servers: &str) -> World {
    let mut world = World::new(servers);
    world.truncate();
    assert_eq!(world.asked().transport, Transport::Tcp);
    world
}

fn only_tcp(servers: &str) -> World {
    let mut config = config(servers);
    config.use_tcp = true;
    World::with(&config, Kind::A, Health::new())
}

#[test]
fn d14_a_cut_answer_is_asked_for_over_tcp_and_only_that_one_counts() {
    let mut world = World::new(TWO);
    let cut = world.asked();
    world.truncate();
    assert!(world.done.is_none(), "the cut one was used");
    assert_eq!(
        world.sends,
        [
            (FIRST.parse().unwrap(), Transport::Udp, 0),
            (FIRST.parse().unwrap(), Transport::Tcp, 0)
        ]
    );
    world.reply(&cut, |message| add_address(message, 1));
    assert!(world.done.is_none(), "the closed socket was heard");
    world.answer(30);
    assert_eq!(world.found(), 30);
}

#[test]
fn d14_d19_what_the_kernel_cut_is_not_read_but_asked_for_over_tcp() {
    let mut world = World::new(ONE);
    let to = world.asked();
    let bytes = response(&to, |message| add_address(message, 60));
    world.bytes(&to, &bytes, true);
    assert!(world.done.is_none(), "a cut datagram was read");
    assert_eq!(world.asked().transport, Transport::Tcp);
    world.answer(30);
    assert_eq!(world.found(), 30);
}

#[test]
fn d15_a_cut_answer_whose_tcp_is_refused_leads_to_the_next_server_and_then_to_an_error() {
    let mut world = over_tcp(TWO);
    let tcp = world.asked();
    world.fail(&tcp, 111);
    assert_eq!(world.asked().server.to_string(), SECOND);
    assert_eq!(world.asked().transport, Transport::Udp);
    world.truncate();
    let tcp = world.asked();
    world.fail(&tcp, 111);
    assert_eq!(world.now, Tick::ZERO);
    assert_eq!(
        world.error(),
        "connection refused (os error 111), asking 192.0.2.2:53, after connection refused \
         (os error 111), asking 192.0.2.1:53, resolving a.test"
    );
}

#[test]
fn d15_a_cut_answer_whose_tcp_is_silent_leads_to_the_next_server_in_time() {
    let mut world = over_tcp(TWO);
    world.wait();
    assert_eq!(world.now, at_millis(1500));
    assert_eq!(world.asked().server.to_string(), SECOND);
    world.answer(30);
    assert_eq!(world.found(), 30);
    let mut world = over_tcp(ONE);
    world.wait_for_the_end();
    assert!(world.now <= at_millis(4000));
    assert_eq!(
        world.error(),
        "no answer from 192.0.2.1:53 within 4 s, resolving a.test"
    );
}

#[test]
fn d16_a_cut_answer_inside_tcp_is_an_error_and_ends_at_the_next_server() {
    let mut world = over_tcp(TWO);
    world.truncate();
    assert_eq!(world.asked().server.to_string(), SECOND);
    world.truncate();
    world.truncate();
    assert_eq!(
        world.error(),
        "answer truncated over TCP (TC from 192.0.2.2:53), after answer truncated over TCP (TC \
         from 192.0.2.1:53), resolving a.test"
    );
    assert_eq!(world.sends.len(), 4);
}

#[test]
fn d17_an_answer_in_pieces_of_any_size_is_put_together() {
    for size in [1, 2, 3, 7, 100] {
        let mut world = over_tcp(ONE);
        let to = world.asked();
        let bytes = framed(&response(&to, |message| add_address(message, 30)));
        for piece in bytes.chunks(size) {
            assert!(world.done.is_none());
            world.bytes(&to, piece, false);
        }
        assert_eq!(world.found(), 30);
    }
}

#[test]
fn d17_messages_of_others_are_passed_over_in_whatever_order_and_pieces_they_come() {
    let mut world = over_tcp(ONE);
    let to = world.asked();
    let other_id = response(&to, |message| {
        message.metadata.id ^= 1;
        add_address(message, 1);
    });
    let other_name = response(&to, |message| {
        let name = Name::from_ascii("b.test.").unwrap();
        message.queries[0].set_name(name);
        add_address(message, 2);
    });
    let own = response(&to, |message| add_address(message, 30));
    let short = b"abc".to_vec();
    let stream = [&other_id, &other_name, &short, &own, &other_id].map(|bytes| framed(bytes));
    for piece in stream.concat().chunks(5) {
        world.bytes(&to, piece, false);
    }
    // Never a mixture of two.
    assert_eq!(world.found(), 30);
}

#[test]
fn d17_a_stream_that_ends_in_the_middle_is_asked_again_a_bounded_number_of_times() {
    let mut world = only_tcp(ONE);
    for _ in 0..2 {
        let to = world.asked();
        let bytes = framed(&response(&to, |message| add_address(message, 30)));
        world.bytes(&to, &bytes[..bytes.len() - 1], false);
        world.fail(&to, 0);
    }
    assert_eq!(
        world.error(),
        "the connection ended before the answer, asking 192.0.2.1:53, resolving a.test"
    );
    assert_eq!((world.sends.len(), world.now), (2, Tick::ZERO));
    let mut world = only_tcp(TWO);
    let to = world.asked();
    world.fail(&to, 104);
    assert_eq!(world.asked().server.to_string(), SECOND);
    world.answer(60);
    assert_eq!(world.found(), 60);
}

#[test]
fn d17_a_message_of_no_bytes_or_of_rubbish_leads_to_the_next_server() {
    fn of_no_bytes(_: &Open) -> Vec<u8> {
        vec![0, 0]
    }
    fn bent(to: &Open) -> Vec<u8> {
        let mut bytes = response(to, |message| add_address(message, 30));
        bytes[7] = 9;
        framed(&bytes)
    }
    fn header(to: &Open) -> Vec<u8> {
        let mut bytes = response(to, |_| {})[..12].to_vec();
        bytes[5] = 0;
        framed(&bytes)
    }
    let texts = [
        "a message of no bytes",
        "it is bent or a bomb",
        "no question",
    ];
    for (what, bytes) in texts
        .into_iter()
        .zip([of_no_bytes as fn(&Open) -> Vec<u8>, bent, header])
    {
        let mut world = over_tcp(TWO);
        let to = world.asked();
        world.bytes(&to, &bytes(&to), false);
        assert_eq!(world.asked().server.to_string(), SECOND, "{what}");
        world.code(ResponseCode::ServFail);
        assert!(world.error().contains(what), "{}", world.error());
    }
}

#[test]
fn d17_a_length_of_65535_and_then_silence_costs_one_timeout_and_no_memory() {
    let mut world = only_tcp(TWO);
    let to = world.asked();
    world.bytes(&to, &[0xff, 0xff, 1, 2, 3], false);
    assert!(world.lookup.open[0].stream.held() <= 64);
    world.wait();
    assert_eq!(world.now, at_millis(1500));
    assert_eq!(world.asked().server.to_string(), SECOND);
    while world.open.iter().any(|open| open.query == to.query) {
        world.wait();
    }
    assert_eq!(world.now, at_millis(2000));
}

#[test]
fn d17_s1_a_stream_of_messages_without_end_is_broken_off() {
    let mut world = over_tcp(TWO);
    let to = world.asked();
    let message = framed(b"abcd");
    let mut taken = 0;
    while world.asked().query == to.query {
        world.bytes(&to, &message, false);
        taken += 1;
        assert!(taken < 100, "without end");
    }
    assert_eq!(world.asked().server.to_string(), SECOND);
}

#[test]
fn d6_the_first_wrong_id_closes_the_socket_and_asks_over_tcp() {
    let mut world = World::new(TWO);
    let udp = world.asked();
    let deadline = world.lookup.deadline;
    for guess in 1..=1000u16 {
        world.reply(&udp, |message| {
            message.metadata.id = message.metadata.id.wrapping_add(guess);
            add_address(message, 1);
        });
    }
    // The right one, too late for a forger.
    world.reply(&udp, |message| add_address(message, 1));
    assert!(world.done.is_none(), "a guess was accepted");
    assert_eq!(world.lookup.deadline, deadline);
    let transports: Vec<Transport> = world.sends.iter().map(|send| send.1).collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp]);
    assert_eq!(world.asked().server.to_string(), FIRST);
    world.answer(30);
    assert_eq!(world.found(), 30);
}

#[test]
fn d6_a_flood_where_tcp_is_refused_ends_in_time_with_its_count() {
    let mut world = World::new(ONE);
    for _ in 0..20 {
        if world.done.is_some() {
            break;
        }
        let to = world.asked();
        match to.transport {
            Transport::Udp => world.reply(&to, |message| message.metadata.id ^= 1),
            Transport::Tcp => world.fail(&to, 111),
        }
    }
    assert_eq!(
        world.error(),
        "connection refused (os error 111), asking 192.0.2.1:53, after 2 answers with another id, \
         resolving a.test"
    );
    assert_eq!((world.sends.len(), world.now), (4, Tick::ZERO));
}

#[test]
fn d6_d15_where_tcp_is_silent_after_a_guess_the_next_turn_is_over_udp() {
    let mut world = World::new(ONE);
    let udp = world.asked();
    world.reply(&udp, |message| message.metadata.id ^= 1);
    let tcp = world.asked();
    assert_eq!(tcp.transport, Transport::Tcp);
    world.wait();
    assert_eq!(world.now, at_millis(1500));
    assert_eq!(world.asked().transport, Transport::Udp);
    // The answer over TCP still counts.
    assert_eq!(world.open.len(), 2);
    world.answer(30);
    assert_eq!(world.found(), 30);
    // A stream that ends leads there at once.
    let mut world = World::new(ONE);
    let udp = world.asked();
    world.reply(&udp, |message| message.metadata.id ^= 1);
    let tcp = world.asked();
    world.fail(&tcp, 0);
    assert_eq!(
        (world.asked().transport, world.now),
        (Transport::Udp, Tick::ZERO)
    );
    // What was cut is not asked for over UDP again.
    let mut world = over_tcp(ONE);
    world.wait();
    assert_eq!(world.asked().transport, Transport::Tcp);
}

#[test]
fn d9_d11_s1_rubbish_without_end_on_a_socket_leads_to_tcp() {
    let mut world = World::new(TWO);
    let udp = world.asked();
    let mut taken = 0;
    while world.asked().query == udp.query {
        world.bytes(&udp, b"abcd", false);
        taken += 1;
        assert!(taken <= 64, "without end");
    }
    assert_eq!(taken, 64);
    let tcp = world.asked();
    assert_eq!(
        (tcp.server.to_string().as_str(), tcp.transport),
        (FIRST, Transport::Tcp)
    );
    world.answer(30);
    assert_eq!(world.found(), 30);
    // One less, and the answer counts.
    let mut world = World::new(ONE);
    let udp = world.asked();
    (0..63).for_each(|_| world.bytes(&udp, b"abcd", false));
    world.answer(30);
    assert_eq!((world.found(), world.sends.len()), (30, 1));
}

#[test]
fn d6_a_guess_after_the_last_stream_is_not_told_as_a_cut_answer() {
    let mut config = config(ONE);
    (config.attempts, config.timeout) = (3, Duration::from_secs(5));
    let mut world = World::with(&config, Kind::A, Health::new());
    world.lookup.servers[0].sends[1] = 3;
    let udp = world.asked();
    world.reply(&udp, |message| message.metadata.id ^= 1);
    assert_eq!(
        world.error(),
        "no answer over TCP (asked for often enough, from 192.0.2.1:53), after 1 answers with \
         another id, resolving a.test"
    );
}

#[test]
fn d6_a_guess_on_one_socket_leaves_the_others_of_the_server_open() {
    let mut world = World::new(ONE);
    let first = world.asked();
    world.wait();
    assert_eq!(world.open.len(), 2);
    world.lookup.servers[0].sends[1] = 3;
    world.reply(&first, |message| message.metadata.id ^= 1);
    assert!(world.done.is_none(), "one guess ended it");
    world.answer(30);
    assert_eq!(world.found(), 30);
}

#[test]
fn use_vc_never_asks_over_udp() {
    let mut world = only_tcp(TWO);
    world.wait_for_the_end();
    assert_eq!(world.sends.len(), 3);
    let is_tcp = |send: &(SocketAddr, Transport, u64)| send.1 == Transport::Tcp;
    assert!(world.sends.iter().all(is_tcp));
}
