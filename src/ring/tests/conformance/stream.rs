//! Bytes of a connection in both directions, and its ends.

use std::time::Duration;

use super::rig::{Act, Place, Rig, Size};
use super::{CASE, Case, USUAL};
use crate::ring::opcode;

/// A connection in slot 0 with a receive.
fn receiving(rig: &mut Rig) {
    rig.pair(0, Place::Server);
    let recv = rig.recv(0);
    rig.push(&[("recv", recv)]);
}

const PIECES: &[u8] = &[b'a'; 150];

pub(super) const CASES: &[Case] = &[
    Case {
        name: "bytes come and the receive stays",
        run: |rig| {
            receiving(rig);
            for bytes in [&b"one"[..], b"two", b"three"] {
                rig.peer(0, Act::Send(bytes));
                rig.ordered(1);
            }
        },
        expect: "recv 3+ one:3, recv 3+ two:3, recv 5+ three:5, left: recv -125",
        ..CASE
    },
    Case {
        name: "more than a buffer holds comes in pieces",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::Send(PIECES));
            rig.ordered(3);
        },
        expect: "recv 64+ aaaaaaaa:64, recv 64+ aaaaaaaa:64, recv 22+ aaaaaaaa:22, \
                  left: recv -125",
        ..CASE
    },
    Case {
        name: "what came before the receive",
        run: |rig| {
            rig.pair(0, Place::Server);
            rig.peer(0, Act::Send(b"early"));
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            rig.ordered(1);
        },
        expect: "recv 5+ early:5, left: recv -125",
        ..CASE
    },
    Case {
        name: "the end, and the end again",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::End);
            rig.ordered(1);
            let recv = rig.recv(0);
            rig.push(&[("again", recv)]);
            rig.ordered(1);
        },
        expect: "recv 0, again 0",
        ..CASE
    },
    Case {
        name: "bytes and the end before the receive",
        run: |rig| {
            rig.pair(0, Place::Server);
            rig.peer(0, Act::Send(b"last"));
            rig.peer(0, Act::End);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            rig.ordered(2);
        },
        expect: "recv 4+ last:4, recv 0",
        ..CASE
    },
    Case {
        name: "sending after the peer's end",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::End);
            rig.ordered(1);
            let send = rig.send(0, b"hello");
            rig.push(&[("send", send)]);
            rig.ordered(1);
            rig.peer(0, Act::Read(5));
        },
        expect: "recv 0, send 5, peer reads 5",
        ..CASE
    },
    Case {
        name: "a reset ends the receive; then sends fail and receives end",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::Reset);
            rig.ordered(1);
            let (recv, send) = (rig.recv(0), rig.send(0, b"hello"));
            rig.push(&[("again", recv)]);
            rig.ordered(1);
            rig.push(&[("send", send)]);
            rig.ordered(1);
        },
        expect: "recv -104, again 0, send -32",
        ..CASE
    },
    Case {
        name: "a reset that a send hears first",
        run: |rig| {
            rig.pair(0, Place::Server);
            rig.peer(0, Act::Reset);
            rig.until_heard(0, libc::POLLHUP);
            let (first, second) = (rig.send(0, b"hello"), rig.send(0, b"hello"));
            rig.push(&[("first", first)]);
            rig.ordered(1);
            rig.push(&[("second", second)]);
            rig.ordered(1);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            rig.ordered(1);
        },
        expect: "first -104, second -32, recv 0",
        ..CASE
    },
    Case {
        name: "a reset after the end breaks the pipe",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::End);
            rig.ordered(1);
            rig.peer(0, Act::Reset);
            rig.until_heard(0, libc::POLLHUP);
            let (send, recv) = (rig.send(0, b"hello"), rig.recv(0));
            rig.push(&[("send", send)]);
            rig.ordered(1);
            rig.push(&[("again", recv)]);
            rig.ordered(1);
        },
        expect: "recv 0, send -32, again 0",
        ..CASE
    },
    Case {
        name: "a reset after the end, heard by a receive",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::End);
            rig.ordered(1);
            rig.peer(0, Act::Reset);
            rig.until_heard(0, libc::POLLHUP);
            let recv = rig.recv(0);
            rig.push(&[("again", recv)]);
            rig.ordered(1);
        },
        expect: "recv 0, again 0",
        ..CASE
    },
    Case {
        name: "a reset after the end ends a send that waits for room",
        run: |rig| {
            rig.pair(0, Place::Slow);
            rig.stuff(0);
            let send = rig.send(0, &[b'y'; 1000]);
            rig.push(&[("send", send)]);
            rig.peer(0, Act::End);
            rig.peer(0, Act::Reset);
            rig.ordered(1);
        },
        expect: "send -32",
        ..CASE
    },
    Case {
        name: "a shutdown after the peer's end",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::End);
            rig.ordered(1);
            rig.push(&[("shutdown", opcode::shutdown(0))]);
            rig.ordered(1);
            rig.peer(0, Act::Finish);
            rig.push(&[("again", opcode::shutdown(0))]);
            rig.ordered(1);
        },
        expect: "recv 0, shutdown 0, peer sees the end, again -107",
        ..CASE
    },
    Case {
        name: "bytes and a reset before the receive",
        run: |rig| {
            rig.pair(0, Place::Server);
            rig.peer(0, Act::Send(b"last"));
            rig.peer(0, Act::Reset);
            rig.until_heard(0, libc::POLLHUP);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            rig.ordered(2);
        },
        expect: "recv 4+ last:4, recv -104",
        ..CASE
    },
    Case {
        name: "no buffers end a receive",
        size: Size {
            buffers: 2,
            ..USUAL
        },
        run: |rig| {
            rig.holds = true;
            receiving(rig);
            rig.peer(0, Act::Send(PIECES));
            rig.ordered(3);
            rig.give_back();
            let recv = rig.recv(0);
            rig.push(&[("again", recv)]);
            rig.ordered(1);
        },
        expect: "recv 64+ aaaaaaaa:64, recv 64+ aaaaaaaa:64, recv -105, \
                  again 22+ aaaaaaaa:22, left: again -125",
        ..CASE
    },
    Case {
        name: "the last buffer, filled by the last bytes, does not end a receive",
        size: Size {
            buffers: 1,
            ..USUAL
        },
        run: |rig| {
            rig.holds = true;
            receiving(rig);
            rig.peer(0, Act::Send(b"one"));
            rig.ordered(1);
            rig.peer(0, Act::Send(b"two"));
            rig.ordered(1);
        },
        expect: "recv 3+ one:3, recv -105",
        ..CASE
    },
    Case {
        name: "a receive that begins without buffers ends at once",
        size: Size {
            buffers: 1,
            ..USUAL
        },
        run: |rig| {
            rig.holds = true;
            receiving(rig);
            rig.peer(0, Act::Send(b"one"));
            rig.ordered(1);
            rig.pair(1, Place::Server);
            let recv = rig.recv(1);
            rig.push(&[("other", recv)]);
            rig.ordered(1);
        },
        expect: "recv 3+ one:3, other -105, left: recv -125",
        ..CASE
    },
    Case {
        name: "the peer's end finds no buffer",
        size: Size {
            buffers: 1,
            ..USUAL
        },
        run: |rig| {
            rig.holds = true;
            receiving(rig);
            rig.peer(0, Act::Send(b"one"));
            rig.ordered(1);
            rig.peer(0, Act::End);
            rig.ordered(1);
            rig.give_back();
            let recv = rig.recv(0);
            rig.push(&[("again", recv)]);
            rig.ordered(1);
        },
        expect: "recv 3+ one:3, recv -105, again 0",
        ..CASE
    },
    Case {
        name: "a reset finds no buffer",
        size: Size {
            buffers: 1,
            ..USUAL
        },
        run: |rig| {
            rig.holds = true;
            receiving(rig);
            rig.peer(0, Act::Send(b"one"));
            rig.ordered(1);
            rig.peer(0, Act::Reset);
            rig.ordered(1);
            rig.give_back();
            let recv = rig.recv(0);
            rig.push(&[("again", recv)]);
            rig.ordered(1);
        },
        expect: "recv 3+ one:3, recv -105, again -104",
        ..CASE
    },
    Case {
        name: "a send is taken whole and the peer reads it",
        run: |rig| {
            rig.pair(0, Place::Server);
            let send = rig.send(0, b"hello");
            rig.push(&[("send", send)]);
            rig.ordered(1);
            rig.peer(0, Act::Read(5));
        },
        expect: "send 5, peer reads 5",
        ..CASE
    },
    Case {
        name: "a shutdown, and what follows it",
        run: |rig| {
            receiving(rig);
            rig.push(&[("shutdown", opcode::shutdown(0))]);
            rig.ordered(1);
            rig.peer(0, Act::Finish);
            let send = rig.send(0, b"hello");
            rig.push(&[("send", send)]);
            rig.ordered(1);
            rig.push(&[("again", opcode::shutdown(0))]);
            rig.ordered(1);
            rig.peer(0, Act::Send(b"answer"));
            rig.ordered(1);
            rig.peer(0, Act::End);
            rig.ordered(1);
        },
        expect: "shutdown 0, peer sees the end, send -32, again 0, recv 6+ answer:6, recv 0",
        ..CASE
    },
    Case {
        name: "a shutdown after a reset",
        run: |rig| {
            receiving(rig);
            rig.peer(0, Act::Reset);
            rig.ordered(1);
            rig.push(&[("shutdown", opcode::shutdown(0))]);
            rig.ordered(1);
        },
        expect: "recv -104, shutdown -107",
        ..CASE
    },
    Case {
        name: "a send waits for room",
        run: |rig| {
            rig.pair(0, Place::Slow);
            let held = rig.stuff(0);
            let send = rig.send(0, &[b'y'; 1000]);
            rig.push(&[("send", send)]);
            rig.push(&[("nop", opcode::nop())]);
            rig.ordered(1);
            rig.world().act(0, Act::Read(held));
            rig.ordered(1);
        },
        expect: "nop 0, send 1000",
        ..CASE
    },
    Case {
        name: "a reset ends a send that waits for room",
        run: |rig| {
            rig.pair(0, Place::Slow);
            rig.stuff(0);
            let send = rig.send(0, &[b'y'; 1000]);
            rig.push(&[("send", send)]);
            rig.peer(0, Act::Reset);
            rig.ordered(1);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            rig.ordered(1);
        },
        expect: "send -104, recv 0",
        ..CASE
    },
    Case {
        name: "a reset ends the receive and the send that waits for room",
        run: |rig| {
            rig.pair(0, Place::Slow);
            rig.stuff(0);
            let (send, recv) = (rig.send(0, &[b'y'; 1000]), rig.recv(0));
            rig.push(&[("recv", recv)]);
            rig.push(&[("send", send)]);
            rig.peer(0, Act::Reset);
            rig.any(2);
        },
        expect: "recv 0, send -104",
        ..CASE
    },
    Case {
        name: "a reset ends a send that waits for room, and the receive armed after it",
        run: |rig| {
            rig.pair(0, Place::Slow);
            rig.stuff(0);
            let (send, recv) = (rig.send(0, &[b'y'; 1000]), rig.recv(0));
            rig.push(&[("send", send)]);
            rig.push(&[("recv", recv)]);
            rig.peer(0, Act::Reset);
            rig.any(2);
        },
        expect: "recv -104, send -32",
        ..CASE
    },
    Case {
        name: "a send with a limit that has room",
        run: |rig| {
            rig.pair(0, Place::Server);
            let send = rig.send(0, b"hello");
            let limit = rig.limit(Duration::from_secs(10));
            rig.push(&[
                ("send", send.flags(io_uring::squeue::Flags::IO_LINK)),
                ("limit", limit),
            ]);
            rig.any(2);
        },
        expect: "limit -125, send 5",
        ..CASE
    },
];
