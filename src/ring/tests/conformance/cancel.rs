//! Cancels and closes.

use std::time::Duration;

use io_uring::squeue::Flags;

use super::rig::{Act, Place, Rig};
use super::{CASE, Case};
use crate::ring::opcode;

const LONG: Duration = Duration::from_secs(10);

fn receiving(rig: &mut Rig, slot: u32) {
    rig.pair(slot, Place::Server);
    let recv = rig.recv(slot);
    rig.push(&[("recv", recv)]);
}

/// A connection on which a receive waits and a send finds no room.
fn busy(rig: &mut Rig) {
    rig.pair(0, Place::Slow);
    rig.stuff(0);
    let (recv, send) = (rig.recv(0), rig.send(0, b"more"));
    rig.push(&[("recv", recv)]);
    rig.push(&[("send", send)]);
}

/// A connect that gets no answer.
fn connecting(rig: &mut Rig) {
    let (socket, connect) = (rig.socket(0), rig.connect(0, Place::Full));
    let limit = rig.limit(LONG);
    rig.push(&[("socket", socket), ("connect", connect), ("limit", limit)]);
    rig.ordered(1);
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a cancel finds its operation",
        run: |rig| {
            receiving(rig, 0);
            let cancel = rig.cancel("recv");
            rig.push(&[("cancel", cancel)]);
            rig.any(2);
        },
        expect: "cancel 0, recv -125",
        ..CASE
    },
    Case {
        name: "a cancel finds nothing",
        run: |rig| {
            receiving(rig, 0);
            let cancel = rig.cancel("nobody");
            rig.push(&[("cancel", cancel)]);
            rig.ordered(1);
        },
        expect: "cancel -2, left: recv -125",
        ..CASE
    },
    Case {
        name: "a cancel by slot counts what it found",
        run: |rig| {
            busy(rig);
            rig.push(&[("cancel", opcode::cancel_slot(0))]);
            rig.any(3);
        },
        expect: "cancel 2, recv -125, send -125",
        ..CASE
    },
    Case {
        name: "a cancel of a send that waits for room",
        run: |rig| {
            busy(rig);
            let cancel = rig.cancel("send");
            rig.push(&[("cancel", cancel)]);
            rig.any(2);
        },
        expect: "cancel 0, send -125, left: recv -125",
        ..CASE
    },
    Case {
        name: "a cancel by slot finds nothing",
        run: |rig| {
            rig.pair(0, Place::Server);
            rig.push(&[("cancel", opcode::cancel_slot(0))]);
            rig.ordered(1);
        },
        expect: "cancel 0",
        ..CASE
    },
    Case {
        name: "a cancel by slot leaves other slots alone",
        run: |rig| {
            receiving(rig, 0);
            rig.pair(1, Place::Server);
            let recv = rig.recv(1);
            rig.push(&[("other", recv)]);
            rig.push(&[("cancel", opcode::cancel_slot(1))]);
            rig.any(2);
            rig.peer(0, Act::Send(b"hello"));
            rig.ordered(1);
        },
        expect: "cancel 1, other -125, recv 5+ hello:5, left: recv -125",
        ..CASE
    },
    Case {
        name: "a cancel of everything counts",
        run: |rig| {
            receiving(rig, 0);
            rig.pair(1, Place::Server);
            let recv = rig.recv(1);
            rig.push(&[("other", recv)]);
            rig.push(&[("cancel", opcode::cancel_all())]);
            rig.any(3);
            rig.push(&[("again", opcode::cancel_all())]);
            rig.ordered(1);
        },
        expect: "cancel 2, other -125, recv -125, again 0",
        ..CASE
    },
    Case {
        name: "a cancel of everything finds a connect, not its limit",
        run: |rig| {
            connecting(rig);
            rig.push(&[("cancel", opcode::cancel_all())]);
            rig.any(3);
        },
        expect: "socket 0, cancel 1, connect -125, limit -125",
        ..CASE
    },
    Case {
        name: "a cancel of a connect",
        run: |rig| {
            connecting(rig);
            let cancel = rig.cancel("connect");
            rig.push(&[("cancel", cancel)]);
            rig.any(3);
        },
        expect: "socket 0, cancel 0, connect -125, limit -125",
        ..CASE
    },
    Case {
        name: "a cancel by slot of a connect",
        run: |rig| {
            connecting(rig);
            rig.push(&[("cancel", opcode::cancel_slot(0))]);
            rig.any(3);
        },
        expect: "socket 0, cancel 1, connect -125, limit -125",
        ..CASE
    },
    Case {
        name: "a cancel of what is linked and has not begun",
        run: |rig| {
            let (socket, connect) = (rig.socket(0), rig.connect_alone(0, Place::Full));
            let send = rig.send(0, b"later");
            rig.push(&[
                ("socket", socket),
                ("connect", connect.flags(Flags::IO_LINK)),
                ("send", send),
            ]);
            rig.ordered(1);
            let cancel = rig.cancel("send");
            rig.push(&[("cancel", cancel)]);
            rig.ordered(1);
            let cancel = rig.cancel("connect");
            rig.push(&[("second", cancel)]);
            rig.any(3);
        },
        expect: "socket 0, cancel -2, connect -125, second 0, send -125",
        ..CASE
    },
    Case {
        name: "a cancel hard-linked to a close ends the receive",
        run: |rig| {
            receiving(rig, 0);
            let cancel = opcode::cancel_slot(0).flags(Flags::IO_HARDLINK);
            rig.push(&[("cancel", cancel), ("close", opcode::close(0))]);
            rig.any(3);
            rig.peer(0, Act::Finish);
        },
        expect: "cancel 1, close 0, recv -125, peer sees the end",
        ..CASE
    },
    Case {
        name: "a cancel by identity hard-linked to a close",
        run: |rig| {
            receiving(rig, 0);
            let cancel = rig.cancel("recv").flags(Flags::IO_HARDLINK);
            rig.push(&[("cancel", cancel), ("close", opcode::close(0))]);
            rig.any(3);
            rig.peer(0, Act::Finish);
        },
        expect: "cancel 0, close 0, recv -125, peer sees the end",
        ..CASE
    },
    Case {
        name: "a cancel that finds nothing, hard-linked to a close",
        run: |rig| {
            rig.pair(0, Place::Server);
            let cancel = rig.cancel("nobody").flags(Flags::IO_HARDLINK);
            rig.push(&[("cancel", cancel), ("close", opcode::close(0))]);
            rig.ordered(2);
            rig.peer(0, Act::Finish);
        },
        expect: "cancel -2, close 0, peer sees the end",
        ..CASE
    },
    Case {
        name: "a cancel that finds nothing, soft-linked to a close, keeps it from happening",
        run: |rig| {
            rig.pair(0, Place::Server);
            let cancel = rig.cancel("nobody").flags(Flags::IO_LINK);
            rig.push(&[("cancel", cancel), ("close", opcode::close(0))]);
            rig.ordered(2);
            rig.push(&[("again", opcode::close(0))]);
            rig.ordered(1);
        },
        expect: "cancel -2, close -125, again 0",
        ..CASE
    },
    Case {
        name: "a cancel hard-linked to a close ends a receive and a send",
        run: |rig| {
            busy(rig);
            let cancel = opcode::cancel_slot(0).flags(Flags::IO_HARDLINK);
            rig.push(&[("cancel", cancel), ("close", opcode::close(0))]);
            rig.any(4);
            rig.peer(0, Act::Finish);
        },
        expect: "cancel 2, close 0, recv -125, send -125, peer sees the end",
        ..CASE
    },
    Case {
        name: "a close with a receive armed leaves the receive and the connection",
        run: |rig| {
            receiving(rig, 0);
            rig.push(&[("close", opcode::close(0))]);
            rig.ordered(1);
            rig.peer(0, Act::Send(b"hello"));
            rig.ordered(1);
            let cancel = rig.cancel("recv");
            rig.push(&[("cancel", cancel)]);
            rig.any(2);
            rig.peer(0, Act::Finish);
        },
        expect: "close 0, recv 5+ hello:5, cancel 0, recv -125, peer sees the end",
        ..CASE
    },
    Case {
        name: "a cancel by slot does not meet the tenant before",
        run: |rig| {
            receiving(rig, 0);
            rig.push(&[("close", opcode::close(0))]);
            rig.ordered(1);
            let socket = rig.socket(0);
            rig.push(&[("socket", socket), ("cancel", opcode::cancel_slot(0))]);
            rig.ordered(2);
        },
        expect: "close 0, socket 0, cancel 0, left: recv -125",
        ..CASE
    },
    Case {
        name: "a close with bytes unread resets",
        run: |rig| {
            rig.pair(0, Place::Server);
            rig.peer(0, Act::Send(b"hello"));
            rig.push(&[("close", opcode::close(0))]);
            rig.ordered(1);
            rig.peer(0, Act::Finish);
        },
        expect: "close 0, peer sees a reset",
        ..CASE
    },
    Case {
        name: "a close after the peer's end",
        run: |rig| {
            receiving(rig, 0);
            rig.peer(0, Act::End);
            rig.ordered(1);
            rig.push(&[("close", opcode::close(0))]);
            rig.ordered(1);
            rig.push(&[("again", opcode::close(0))]);
            rig.ordered(1);
            rig.peer(0, Act::Finish);
        },
        expect: "recv 0, close 0, again -9, peer sees the end",
        ..CASE
    },
    Case {
        name: "a close while a connect waits does not end the connect",
        run: |rig| {
            connecting(rig);
            rig.push(&[("close", opcode::close(0))]);
            rig.ordered(1);
            let cancel = rig.cancel("connect");
            rig.push(&[("cancel", cancel)]);
            rig.any(3);
        },
        expect: "socket 0, close 0, cancel 0, connect -125, limit -125",
        ..CASE
    },
];
