//! Sockets, options, connects and their limits.

use std::time::Duration;

use io_uring::squeue::Flags;

use super::rig::{Act, Place, Rig};
use super::{CASE, Case};
use crate::ring::opcode::{self, Setting};

const TCP: i32 = libc::IPPROTO_TCP;
const NODELAY: Setting = (TCP, libc::TCP_NODELAY, 1);
const BAD: Setting = (TCP, libc::TCP_KEEPIDLE, 0);
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

/// The ring's chain, with one option.
fn chain(rig: &mut Rig, slot: u32, setting: Setting, link: Flags, place: Place, limit: Duration) {
    let socket = rig.socket(slot);
    let option = rig.option(slot, setting).flags(link);
    let connect = rig.connect(slot, place);
    let limit = rig.limit(limit);
    rig.push(&[
        ("socket", socket),
        ("option", option),
        ("connect", connect),
        ("limit", limit),
    ]);
    rig.ordered(2);
    rig.any(2);
}

fn options(rig: &mut Rig, settings: &[(&'static str, Setting)]) {
    let socket = rig.socket(0);
    rig.push(&[
        ("socket", socket.flags(Flags::IO_HARDLINK)),
        ("-", opcode::nop()),
    ]);
    rig.ordered(2);
    for (name, setting) in settings {
        let option = rig.option(0, *setting);
        rig.push(&[(*name, option)]);
        rig.ordered(1);
    }
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a connect with its limit succeeds",
        run: |rig| chain(rig, 0, NODELAY, Flags::IO_HARDLINK, Place::Server, LONG),
        expect: "socket 0, option 0, connect 0, limit -125",
        ..CASE
    },
    Case {
        name: "a connect is refused",
        run: |rig| chain(rig, 0, NODELAY, Flags::IO_HARDLINK, Place::Deaf, LONG),
        expect: "socket 0, option 0, connect -111, limit -125",
        ..CASE
    },
    Case {
        name: "a slot is used again after a refused connect",
        run: |rig| {
            chain(rig, 0, NODELAY, Flags::IO_HARDLINK, Place::Deaf, LONG);
            rig.push(&[("close", opcode::close(0))]);
            rig.ordered(1);
            chain(rig, 0, NODELAY, Flags::IO_HARDLINK, Place::Server, LONG);
        },
        expect: "socket 0, option 0, connect -111, limit -125, close 0, socket 0, option 0, \
                  connect 0, limit -125",
        ..CASE
    },
    Case {
        name: "a connect without an answer meets its limit",
        run: |rig| chain(rig, 0, NODELAY, Flags::IO_HARDLINK, Place::Full, SHORT),
        expect: "socket 0, option 0, connect -125, limit -62",
        ..CASE
    },
    Case {
        name: "a limit of nothing ends a connect at once",
        run: |rig| {
            chain(
                rig,
                0,
                NODELAY,
                Flags::IO_HARDLINK,
                Place::Full,
                Duration::ZERO,
            )
        },
        expect: "socket 0, option 0, connect -125, limit -62",
        ..CASE
    },
    Case {
        name: "a refused option does not stop a hard-linked chain",
        run: |rig| chain(rig, 0, BAD, Flags::IO_HARDLINK, Place::Server, LONG),
        expect: "socket 0, option -22, connect 0, limit -125",
        ..CASE
    },
    Case {
        name: "a refused option stops a soft-linked chain",
        run: |rig| chain(rig, 0, BAD, Flags::IO_LINK, Place::Server, LONG),
        expect: "socket 0, option -22, connect -125, limit -125",
        ..CASE
    },
    Case {
        name: "a socket outside of the table does not stop the chain",
        run: |rig| chain(rig, 100, NODELAY, Flags::IO_HARDLINK, Place::Server, LONG),
        expect: "socket -22, option -9, connect -9, limit -125",
        ..CASE
    },
    Case {
        name: "a socket into an occupied slot closes the tenant",
        run: |rig| {
            rig.pair(0, Place::Server);
            let socket = rig.socket(0);
            rig.push(&[("socket", socket)]);
            rig.ordered(1);
            rig.peer(0, Act::Finish);
        },
        expect: "socket 0, peer sees the end",
        breaks: "I4: slot 0",
        ..CASE
    },
    Case {
        name: "a socket into a slot whose tenant receives leaves that alone",
        run: |rig| {
            rig.pair(0, Place::Server);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            let socket = rig.socket(0);
            rig.push(&[("socket", socket)]);
            rig.ordered(1);
            rig.peer(0, Act::Send(b"hello"));
            rig.ordered(1);
        },
        expect: "socket 0, recv 5+ hello:5, left: recv -125",
        breaks: "I4: slot 0",
        ..CASE
    },
    Case {
        name: "a second connect finds the socket connected",
        run: |rig| {
            rig.pair(0, Place::Server);
            let connect = rig.connect_alone(0, Place::Server);
            rig.push(&[("again", connect)]);
            rig.ordered(1);
        },
        expect: "again -106",
        breaks: "I4: a socket of ring 0 connects twice",
        ..CASE
    },
    Case {
        name: "a connect of an empty slot",
        run: |rig| {
            let connect = rig.connect(0, Place::Server);
            let limit = rig.limit(LONG);
            rig.push(&[("connect", connect), ("limit", limit)]);
            rig.any(2);
        },
        expect: "connect -9, limit -125",
        ..CASE
    },
    Case {
        name: "a limit alone is refused",
        run: |rig| {
            let limit = rig.limit(LONG);
            rig.push(&[("limit", limit)]);
            rig.ordered(1);
        },
        expect: "limit -22",
        ..CASE
    },
    Case {
        name: "a limit behind an entry that is not linked is refused",
        run: |rig| {
            let limit = rig.limit(LONG);
            rig.push(&[("nop", opcode::nop()), ("limit", limit)]);
            rig.any(2);
        },
        expect: "limit -22, nop 0",
        ..CASE
    },
    Case {
        name: "the limit of what ends at once is cancelled",
        run: |rig| {
            let socket = rig.datagrams(0);
            let connect = rig.connect(0, Place::Datagrams);
            let limit = rig.limit(LONG);
            rig.push(&[("socket", socket), ("connect", connect), ("limit", limit)]);
            rig.ordered(1);
            rig.any(2);
        },
        expect: "socket 0, connect 0, limit -125",
        ..CASE
    },
    Case {
        name: "options and their bounds",
        run: |rig| {
            options(
                rig,
                &[
                    ("nodelay", NODELAY),
                    ("keepalive", (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)),
                    ("idle 0", BAD),
                    ("idle 1", (TCP, libc::TCP_KEEPIDLE, 1)),
                    ("idle 32767", (TCP, libc::TCP_KEEPIDLE, 32_767)),
                    ("idle 32768", (TCP, libc::TCP_KEEPIDLE, 32_768)),
                    ("interval 0", (TCP, libc::TCP_KEEPINTVL, 0)),
                    ("interval 32767", (TCP, libc::TCP_KEEPINTVL, 32_767)),
                    ("interval 32768", (TCP, libc::TCP_KEEPINTVL, 32_768)),
                    ("user timeout 0", (TCP, libc::TCP_USER_TIMEOUT, 0)),
                    ("user timeout -1", (TCP, libc::TCP_USER_TIMEOUT, -1)),
                    ("unknown", (TCP, 9999, 1)),
                ],
            );
        },
        expect: "socket 0, - 0, nodelay 0, keepalive 0, idle 0 -22, idle 1 0, idle 32767 0, \
                  idle 32768 -22, interval 0 -22, interval 32767 0, interval 32768 -22, \
                  user timeout 0 0, user timeout -1 -22, unknown -92",
        ..CASE
    },
    Case {
        name: "operations on an empty slot",
        run: |rig| {
            let option = rig.option(0, NODELAY);
            let send = rig.send(0, b"hello");
            for entry in [
                ("option", option),
                ("send", send),
                ("recv", rig.recv(0)),
                ("shutdown", opcode::shutdown(0)),
                ("close", opcode::close(0)),
                ("cancel", opcode::cancel_slot(0)),
            ] {
                rig.push(&[entry]);
                rig.ordered(1);
            }
        },
        expect: "option -9, send -9, recv -9, shutdown -9, close -9, cancel -9",
        ..CASE
    },
    Case {
        name: "operations on a slot outside of the table",
        run: |rig| {
            let send = rig.send(100, b"hello");
            for entry in [
                ("send", send),
                ("recv", rig.recv(100)),
                ("shutdown", opcode::shutdown(100)),
                ("close", opcode::close(100)),
                ("cancel", opcode::cancel_slot(100)),
            ] {
                rig.push(&[entry]);
                rig.ordered(1);
            }
        },
        expect: "send -9, recv -9, shutdown -9, close -22, cancel -9",
        ..CASE
    },
    Case {
        name: "operations on a socket that is not connected",
        run: |rig| {
            let socket = rig.socket(0);
            let send = rig.send(0, b"hello");
            for entry in [
                ("socket", socket.flags(Flags::empty())),
                ("recv", rig.recv(0)),
                ("send", send),
                ("shutdown", opcode::shutdown(0)),
            ] {
                if entry.0 == "socket" {
                    rig.push(&[entry, ("-", opcode::nop())]);
                    rig.ordered(2);
                } else {
                    rig.push(&[entry]);
                    rig.ordered(1);
                }
            }
        },
        expect: "socket 0, - 0, recv -107, send -32, shutdown -107",
        ..CASE
    },
];
