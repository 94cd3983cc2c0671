//! Descriptors that go from one ring's table into another's.

use super::rig::{Act, Place, Rig};
use super::{CASE, Case};
use crate::ring::opcode;

/// Pushes a message that sends the descriptor of slot `from` to slot `to` of the ring named `door`,
/// and waits for it.
fn give(rig: &mut Rig, from: u32, door: i32, to: u32) {
    let entry = opcode::give(from, door, to).unwrap();
    rig.push(&[("give", entry)]);
    rig.ordered(1);
}

/// As [`give`], to another core's rig.
fn give_to(rig: &mut Rig, from: u32, other: &Rig, to: u32) {
    let door = other.door();
    give(rig, from, door.number(), to);
}

/// A connection in slot 0, given to slot 2 of another ring.
fn given(rig: &mut Rig) -> Rig {
    rig.pair(0, Place::Server);
    let other = rig.other();
    give_to(rig, 0, &other, 2);
    other
}

fn close(rig: &mut Rig, slot: u32) {
    rig.push(&[("close", opcode::close(slot))]);
    rig.ordered(1);
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a connection goes on in another ring",
        run: |rig| {
            let mut other = given(rig);
            close(rig, 0);
            let (recv, send) = (other.recv(2), other.send(2, b"there"));
            other.push(&[("recv", recv), ("send", send)]);
            other.ordered(1);
            rig.peer(0, Act::Read(5));
            rig.peer(0, Act::Send(b"back"));
            other.ordered(1);
            rig.end_other(other);
            rig.peer(0, Act::Finish);
        },
        expect: "give 0, close 0, peer reads 5, there send 5, there recv 4+ back:4, \
                  there left: recv -125, peer sees the end",
        ..CASE
    },
    Case {
        name: "bytes that came before it moved, and while it did",
        run: |rig| {
            rig.pair(0, Place::Server);
            rig.peer(0, Act::Send(b"early"));
            let mut other = rig.other();
            give_to(rig, 0, &other, 2);
            let recv = other.recv(2);
            other.push(&[("recv", recv)]);
            other.ordered(1);
            rig.peer(0, Act::Send(b"late"));
            other.ordered(1);
            close(rig, 0);
            rig.end_other(other);
        },
        expect: "give 0, close 0, there recv 5+ early:5, there recv 4+ late:4, \
                  there left: recv -125",
        ..CASE
    },
    Case {
        name: "the end that came while it moved",
        run: |rig| {
            let mut other = given(rig);
            rig.peer(0, Act::Send(b"last"));
            rig.peer(0, Act::End);
            let recv = other.recv(2);
            other.push(&[("recv", recv)]);
            other.ordered(2);
            rig.end_other(other);
        },
        expect: "give 0, there recv 4+ last:4, there recv 0",
        ..CASE
    },
    Case {
        name: "the peer sees the end when both have closed",
        run: |rig| {
            let mut other = given(rig);
            close(&mut other, 2);
            let (recv, send) = (rig.recv(0), rig.send(0, b"here"));
            rig.push(&[("recv", recv), ("send", send)]);
            rig.ordered(1);
            rig.peer(0, Act::Read(4));
            let cancel = rig.cancel("recv");
            rig.push(&[("cancel", cancel)]);
            rig.any(2);
            close(rig, 0);
            rig.peer(0, Act::Finish);
            rig.end_other(other);
        },
        expect: "give 0, send 4, peer reads 4, cancel 0, recv -125, close 0, peer sees the end, \
                  there close 0",
        ..CASE
    },
    Case {
        name: "who shuts it down ends it for both",
        run: |rig| {
            let mut other = given(rig);
            rig.push(&[("cut", opcode::cut(0)), ("close", opcode::close(0))]);
            rig.ordered(2);
            rig.peer(0, Act::Finish);
            let (recv, send) = (other.recv(2), other.send(2, b"late"));
            other.push(&[("recv", recv)]);
            other.ordered(1);
            other.push(&[("send", send)]);
            other.ordered(1);
            other.push(&[("cut", opcode::cut(2)), ("close", opcode::close(2))]);
            other.ordered(2);
            rig.end_other(other);
        },
        expect: "give 0, cut 0, close 0, peer sees the end, there recv 0, there send -32, \
                  there cut 0, there close 0",
        ..CASE
    },
    Case {
        name: "what is shut down is closed though it is empty",
        run: |rig| {
            rig.push(&[("cut", opcode::cut(0)), ("close", opcode::close(0))]);
            rig.ordered(2);
        },
        expect: "cut -9, close -9",
        ..CASE
    },
    Case {
        name: "it moves on and comes back",
        run: |rig| {
            let mut other = given(rig);
            close(rig, 0);
            let mut third = rig.other();
            give_to(&mut other, 2, &third, 1);
            close(&mut other, 2);
            give_to(&mut third, 1, rig, 3);
            close(&mut third, 1);
            let recv = rig.recv(3);
            rig.push(&[("recv", recv)]);
            rig.peer(0, Act::Send(b"home"));
            rig.ordered(1);
            rig.end_other(other);
            rig.end_other(third);
        },
        expect: "give 0, close 0, recv 4+ home:4, there give 0, there close 0, there give 0, \
                  there close 0, left: recv -125",
        ..CASE
    },
    Case {
        name: "a ring that goes takes along what it got, and no more",
        run: |rig| {
            let other = given(rig);
            drop(other);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            rig.peer(0, Act::Send(b"still"));
            rig.ordered(1);
        },
        expect: "give 0, recv 5+ still:5, left: recv -125",
        ..CASE
    },
    Case {
        name: "an empty slot has nothing to give",
        run: |rig| {
            let other = rig.other();
            give_to(rig, 0, &other, 2);
            rig.end_other(other);
        },
        expect: "give -9",
        ..CASE
    },
    Case {
        name: "a slot beyond the other table, and then one in it",
        run: |rig| {
            rig.pair(0, Place::Server);
            let other = rig.other();
            give_to(rig, 0, &other, 4);
            give_to(rig, 0, &other, 3);
            rig.end_other(other);
        },
        expect: "give -22, give 0",
        ..CASE
    },
    Case {
        name: "a ring gives nothing to itself",
        run: |rig| {
            rig.pair(0, Place::Server);
            let door = rig.door();
            give(rig, 0, door.number(), 2);
        },
        expect: "give -22",
        ..CASE
    },
    Case {
        name: "what is no ring takes nothing",
        run: |rig| {
            rig.pair(0, Place::Server);
            let door = rig.world().no_ring();
            give(rig, 0, door, 2);
        },
        expect: "give -77",
        ..CASE
    },
    Case {
        name: "a slot that is taken loses what it had",
        run: |rig| {
            rig.pair(0, Place::Server);
            let mut other = rig.other();
            other.pair(2, Place::Server);
            give_to(rig, 0, &other, 2);
            rig.peer(1, Act::Finish);
            let send = other.send(2, b"new");
            other.push(&[("send", send)]);
            other.ordered(1);
            rig.peer(0, Act::Read(3));
            rig.end_other(other);
        },
        expect: "give 0, peer sees the end, peer reads 3, there send 3",
        breaks: "I4",
        ..CASE
    },
    Case {
        name: "a receive that was armed goes on in the old ring",
        run: |rig| {
            rig.pair(0, Place::Server);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            let other = rig.other();
            give_to(rig, 0, &other, 2);
            close(rig, 0);
            rig.peer(0, Act::Send(b"lost"));
            rig.ordered(1);
            rig.end_other(other);
        },
        expect: "give 0, close 0, recv 4+ lost:4, left: recv -125",
        breaks: "I2",
        ..CASE
    },
    Case {
        name: "the next request of a chain comes when it has gone",
        run: |rig| {
            rig.pair(0, Place::Server);
            let other = rig.other();
            let door = other.door();
            let give = opcode::give(0, door.number(), 2).unwrap();
            let link = io_uring::squeue::Flags::IO_LINK;
            rig.push(&[("give", give.flags(link)), ("close", opcode::close(0))]);
            rig.ordered(2);
            let fails = opcode::give(0, door.number(), 3).unwrap();
            rig.push(&[("fails", fails.flags(link)), ("cut", opcode::close(1))]);
            rig.ordered(2);
            rig.end_other(other);
            rig.peer(0, Act::Finish);
        },
        expect: "give 0, close 0, fails -9, cut -125, peer sees the end",
        ..CASE
    },
];
