//! Questions to name servers, in every order.

use super::*;

fn asking(choices: &Rc<Choices>, may: May, transport: Transport, ports: &[u16]) -> Run {
    let mut run = Run::new(choices, may);
    let to = ([10, 0, 0, 1], 53).into();
    let asked = run.ring.query(to, transport, b"question".to_vec(), ports);
    run.key = asked.unwrap();
    run
}

#[test]
fn k3_k14_every_order_of_a_question_and_its_close() {
    let may = May {
        pieces: 1,
        ..NOTHING
    };
    every_order("question, close", may, |choices, may| {
        asking(choices, may, Transport::Udp, &[])
    });
}

#[test]
fn d38_d1_k14_every_order_of_a_question_whose_ports_are_taken_and_its_close() {
    let may = May {
        bind: &[0, -libc::EADDRINUSE],
        recv: &[-libc::ECONNREFUSED],
        ..NOTHING
    };
    every_order("ports, question, close", may, |choices, may| {
        let mut run = asking(choices, may, Transport::Udp, &[4000]);
        run.failures = &[libc::ECONNREFUSED];
        run
    });
}

#[test]
fn d38_every_port_that_is_taken_is_followed_by_the_next_and_another_reason_by_the_kernels_choice() {
    for (errno, binds) in [
        (libc::EADDRINUSE, 3),
        (libc::EACCES, 3),
        (libc::EPERM, 1),
        (libc::EINVAL, 1),
    ] {
        let binding: &'static [i32] = Box::leak(Box::new([-errno]));
        let may = May {
            bind: binding,
            ..NOTHING
        };
        every_path(|choices| {
            let mut run = Run::new(choices, may);
            run.kernel.smooth.set(true);
            let to = ([10, 0, 0, 1], 53).into();
            let question = b"question".to_vec();
            let asked = run.ring.query(to, Transport::Udp, question, &[1, 2, 3]);
            run.key = asked.unwrap();
            while run.ring.has_completions() || run.ring.needs_submit() {
                run.turn();
            }
            assert_eq!(run.kernel.binds.get(), binds, "{errno}");
            run.closed = true;
            run.ring.close_query(run.key);
            while run.known != Known::Free {
                run.turn();
            }
        });
    }
}

#[test]
fn d17_k14_every_order_of_a_question_in_a_stream_and_its_close() {
    let may = May {
        connect: &[(0, 0), (-libc::ECONNREFUSED, 0)],
        send: &[8, 3, -libc::EPIPE],
        recv: &[0, -libc::ECONNRESET],
        pieces: 1,
        ..NOTHING
    };
    every_order("stream, question, close", may, |choices, may| {
        let mut run = asking(choices, may, Transport::Tcp, &[]);
        run.failures = &[0, libc::ECONNREFUSED, libc::EPIPE, libc::ECONNRESET];
        run
    });
}
