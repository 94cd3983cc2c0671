//! Questions to name servers: sockets with a port of their own, and streams that carry one message.

use io_uring::squeue::Flags;

use super::rig::{Act, Place, Rig};
use super::{CASE, Case};
use crate::ring::opcode;

/// A port that only the privileged may have.
const LOW: u16 = 81;

/// The ring's chain over UDP from `port`, on the socket in the slot.
fn ask_from(rig: &mut Rig, slot: u32, port: u16) {
    let (bind, connect) = (
        rig.bind(slot, port, Flags::IO_LINK),
        rig.connect(slot, Place::Datagrams),
    );
    let send = rig.send_query(slot, b"question");
    rig.push(&[
        ("bind", bind),
        ("connect", connect),
        ("send", send),
        ("recv", rig.recv_datagrams(slot)),
    ]);
}

fn make(rig: &mut Rig, slot: u32) {
    rig.push(&[("socket", rig.datagrams(slot)), ("-", opcode::nop())]);
    rig.ordered(2);
}

/// The ring's chain over TCP.
fn ask(rig: &mut Rig, place: Place) {
    let (socket, connect) = (rig.socket(0), rig.connect(0, place));
    let send = rig.send_query(0, b"question");
    rig.push(&[
        ("socket", socket),
        ("connect", connect),
        ("send", send),
        ("recv", rig.recv(0)),
    ]);
}

fn close(rig: &mut Rig, count: usize) {
    rig.push(&[
        ("cancel", opcode::cancel_slot(0).flags(Flags::IO_HARDLINK)),
        ("close", opcode::close(0)),
    ]);
    rig.any(count);
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a question from a port of its own",
        run: |rig| {
            let port = rig.world().free_port();
            make(rig, 0);
            ask_from(rig, 0, port);
            rig.ordered(3);
            assert_eq!(rig.world().answer(&[b"one"]), 8);
            assert_eq!(rig.world().asked_from(), port);
            rig.ordered(1);
        },
        expect: "socket 0, - 0, bind 0, connect 0, send 8, recv 3+ one:3, left: recv -125",
        ..CASE
    },
    Case {
        name: "a port that is taken ends the chain, and another one does on the same socket",
        run: |rig| {
            let port = rig.world().free_port();
            let other = rig.world().free_port();
            make(rig, 0);
            let bind = rig.bind(0, port, Flags::empty());
            rig.push(&[("bind", bind)]);
            rig.ordered(1);
            make(rig, 1);
            ask_from(rig, 1, port);
            rig.ordered(4);
            ask_from(rig, 1, other);
            rig.ordered(3);
            rig.world().answer(&[b"one"]);
            assert_eq!(rig.world().asked_from(), other);
            rig.ordered(1);
        },
        expect: "socket 0, - 0, bind 0, socket 0, - 0, bind -98, connect -125, send -125, \
                  recv -125, bind 0, connect 0, send 8, recv 3+ one:3, left: recv -125",
        ..CASE
    },
    Case {
        name: "a closed socket gives its port back",
        run: |rig| {
            let port = rig.world().free_port();
            for _ in 0..2 {
                make(rig, 0);
                let bind = rig.bind(0, port, Flags::empty());
                rig.push(&[("bind", bind)]);
                rig.ordered(1);
                rig.push(&[("close", opcode::close(0))]);
                rig.ordered(1);
            }
        },
        expect: "socket 0, - 0, bind 0, close 0, socket 0, - 0, bind 0, close 0",
        ..CASE
    },
    Case {
        name: "a port that only the privileged may have",
        low_ports: true,
        run: |rig| {
            make(rig, 0);
            ask_from(rig, 0, LOW);
            rig.ordered(4);
        },
        expect: "socket 0, - 0, bind -13, connect -125, send -125, recv -125",
        ..CASE
    },
    Case {
        name: "a port of the kernel's choice",
        run: |rig| {
            make(rig, 0);
            ask_from(rig, 0, 0);
            rig.ordered(3);
            rig.world().answer(&[b"one"]);
            assert_ne!(rig.world().asked_from(), 0);
            rig.ordered(1);
        },
        expect: "socket 0, - 0, bind 0, connect 0, send 8, recv 3+ one:3, left: recv -125",
        ..CASE
    },
    Case {
        name: "a socket has one port",
        run: |rig| {
            let port = rig.world().free_port();
            let other = rig.world().free_port();
            make(rig, 0);
            for port in [port, other, port] {
                let bind = rig.bind(0, port, Flags::empty());
                rig.push(&[("bind", bind)]);
                rig.ordered(1);
            }
            make(rig, 1);
            let connect = rig.connect_alone(1, Place::Datagrams);
            rig.push(&[("connect", connect)]);
            let bind = rig.bind(1, other, Flags::empty());
            rig.push(&[("bind", bind)]);
            rig.ordered(2);
        },
        expect: "socket 0, - 0, bind 0, bind -22, bind -22, socket 0, - 0, connect 0, bind -22",
        ..CASE
    },
    Case {
        name: "a port for an empty slot, and for one outside of the table",
        run: |rig| {
            for slot in [0, 100] {
                let bind = rig.bind(slot, 0, Flags::empty());
                rig.push(&[("bind", bind)]);
                rig.ordered(1);
            }
        },
        expect: "bind -9, bind -9",
        ..CASE
    },
    Case {
        name: "a question in a stream, its answer in two pieces, and the end",
        run: |rig| {
            ask(rig, Place::Server);
            rig.ordered(3);
            rig.world().accept();
            rig.peer(0, Act::Read(8));
            for piece in [b"one", b"two"] {
                rig.peer(0, Act::Send(piece));
                rig.ordered(1);
            }
            rig.peer(0, Act::End);
            rig.ordered(1);
        },
        expect: "socket 0, connect 0, send 8, peer reads 8, recv 3+ one:3, recv 3+ two:3, recv 0",
        ..CASE
    },
    Case {
        name: "a stream that is refused",
        run: |rig| {
            ask(rig, Place::Deaf);
            rig.ordered(4);
        },
        expect: "socket 0, connect -111, send -125, recv -125",
        ..CASE
    },
    Case {
        name: "a stream that is reset instead of an answer",
        run: |rig| {
            ask(rig, Place::Server);
            rig.ordered(3);
            rig.world().accept();
            rig.peer(0, Act::Reset);
            rig.ordered(1);
        },
        expect: "socket 0, connect 0, send 8, recv -104",
        ..CASE
    },
    Case {
        name: "a close while a stream gets no answer",
        run: |rig| {
            ask(rig, Place::Full);
            rig.ordered(1);
            close(rig, 5);
        },
        expect: "socket 0, cancel 1, close 0, connect -125, recv -125, send -125",
        ..CASE
    },
    Case {
        name: "what is linked behind a connect finds the slot empty after a close",
        run: |rig| {
            let (socket, connect) = (rig.socket(0), rig.connect_alone(0, Place::Full));
            let send = rig.send(0, b"question");
            rig.push(&[
                ("socket", socket),
                ("connect", connect.flags(Flags::IO_HARDLINK)),
                ("send", send),
            ]);
            rig.ordered(1);
            rig.push(&[("close", opcode::close(0))]);
            rig.ordered(1);
            let cancel = rig.cancel("connect");
            rig.push(&[("cancel", cancel)]);
            rig.any(3);
        },
        expect: "socket 0, close 0, cancel 0, connect -125, send -9",
        ..CASE
    },
    Case {
        name: "a question that waits for room goes whole",
        run: |rig| {
            rig.pair(0, Place::Slow);
            let stuffed = rig.stuff(0);
            let send = rig.send_query(0, b"question");
            rig.push(&[("send", send), ("recv", rig.recv(0))]);
            rig.world().act(0, Act::Read(stuffed));
            rig.ordered(1);
            rig.peer(0, Act::Read(8));
            rig.peer(0, Act::Send(b"one"));
            rig.ordered(1);
        },
        expect: "send 8, peer reads 8, recv 3+ one:3, left: recv -125",
        ..CASE
    },
    Case {
        name: "a close while a question waits for room",
        run: |rig| {
            rig.pair(0, Place::Slow);
            rig.stuff(0);
            let send = rig.send_query(0, b"question");
            rig.push(&[("send", send), ("recv", rig.recv(0))]);
            close(rig, 4);
        },
        expect: "cancel 1, close 0, recv -125, send -125",
        ..CASE
    },
    Case {
        name: "a part of a question breaks its chain",
        run: |rig| {
            rig.pair(0, Place::Slow);
            let send = rig.send_query(0, &vec![b'x'; LARGE]);
            rig.push(&[("send", send), ("recv", rig.recv(0))]);
            rig.peer(0, Act::Reset);
            rig.in_part("send", LARGE);
            rig.ordered(1);
        },
        expect: "send in part, recv -125",
        ..CASE
    },
];

/// More than a connection takes that nobody reads.
const LARGE: usize = 16 * 1024 * 1024;
