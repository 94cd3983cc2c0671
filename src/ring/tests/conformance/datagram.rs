//! Datagrams: the ring asks name servers with them.

use io_uring::squeue::Flags;

use super::rig::{Place, Rig, Size};
use super::{CASE, Case, USUAL};

/// The ring's chain: a socket, a connect, a question and a receive.
fn ask(rig: &mut Rig, place: Place) {
    let (socket, connect) = (rig.datagrams(0), rig.connect(0, place));
    let (send, recv) = (rig.send(0, b"question"), rig.recv_datagrams(0));
    rig.push(&[
        ("socket", socket),
        ("connect", connect),
        ("send", send.flags(Flags::IO_LINK)),
        ("recv", recv),
    ]);
    rig.ordered(3);
}

const LONG: &[u8] = &[b'a'; 100];

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a question and two answers",
        run: |rig| {
            ask(rig, Place::Datagrams);
            assert_eq!(rig.world().answer(&[b"one", b"two"]), 8);
            rig.ordered(2);
        },
        expect: "socket 0, connect 0, send 8, recv 3+ one:3, recv 3+ two:3, left: recv -125",
        ..CASE
    },
    Case {
        name: "an answer longer than a buffer says how long it was",
        run: |rig| {
            ask(rig, Place::Datagrams);
            rig.world().answer(&[LONG, b"next"]);
            rig.ordered(2);
        },
        expect: "socket 0, connect 0, send 8, recv 100+ aaaaaaaa:64, recv 4+ next:4, \
                  left: recv -125",
        ..CASE
    },
    Case {
        name: "an empty answer",
        run: |rig| {
            ask(rig, Place::Datagrams);
            rig.world().answer(&[b""]);
            rig.ordered(1);
        },
        expect: "socket 0, connect 0, send 8, recv 0",
        ..CASE
    },
    Case {
        name: "a refused question ends the receive",
        run: |rig| {
            ask(rig, Place::DeafDatagrams);
            rig.ordered(1);
            let recv = rig.recv_datagrams(0);
            rig.push(&[("again", recv)]);
            let send = rig.send(0, b"question");
            rig.push(&[("send", send)]);
            rig.any(2);
        },
        expect: "socket 0, connect 0, send 8, recv -111, again -111, send 8",
        ..CASE
    },
    Case {
        name: "a refusal that a send hears first",
        run: |rig| {
            let (socket, connect) = (rig.datagrams(0), rig.connect(0, Place::DeafDatagrams));
            let (first, second) = (rig.send(0, b"question"), rig.send(0, b"question"));
            rig.push(&[("socket", socket), ("connect", connect), ("first", first)]);
            rig.ordered(3);
            rig.until_heard(0, libc::POLLERR);
            rig.push(&[("second", second)]);
            rig.ordered(1);
        },
        expect: "socket 0, connect 0, first 8, second -111",
        ..CASE
    },
    Case {
        name: "the last buffer ends the receive of datagrams",
        size: Size {
            buffers: 1,
            ..USUAL
        },
        run: |rig| {
            rig.holds = true;
            ask(rig, Place::Datagrams);
            rig.world().answer(&[b"one"]);
            rig.ordered(2);
        },
        expect: "socket 0, connect 0, send 8, recv 3+ one:3, recv -105",
        ..CASE
    },
    Case {
        name: "a datagram that is too long",
        run: |rig| {
            ask(rig, Place::Datagrams);
            let send = rig.send(0, &[0; 65_508]);
            rig.push(&[("send", send)]);
            rig.ordered(1);
        },
        expect: "socket 0, connect 0, send 8, send -90, left: recv -125",
        ..CASE
    },
    Case {
        name: "a socket of datagrams that is not connected",
        run: |rig| {
            let (socket, send) = (rig.datagrams(0), rig.send(0, b"question"));
            rig.push(&[("socket", socket), ("send", send)]);
            rig.ordered(2);
            let recv = rig.recv_datagrams(0);
            rig.push(&[("recv", recv)]);
        },
        expect: "socket 0, send -89, left: recv -125",
        ..CASE
    },
    Case {
        name: "an option of streams on a socket of datagrams",
        run: |rig| {
            let socket = rig.datagrams(0);
            let option = rig.option(0, (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1));
            rig.push(&[("socket", socket), ("option", option)]);
            rig.ordered(2);
        },
        expect: "socket 0, option -92",
        ..CASE
    },
];
