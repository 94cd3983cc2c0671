//! Chains, and completions that find no room.

use io_uring::squeue::Flags;

use super::rig::{Act, Place, Size};
use super::{CASE, Case, USUAL};
use crate::ring::opcode;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a soft link that breaks cancels the rest",
        run: |rig| {
            rig.push(&[
                ("one", opcode::nop().flags(Flags::IO_LINK)),
                ("two", opcode::close(0).flags(Flags::IO_LINK)),
                ("three", opcode::nop().flags(Flags::IO_HARDLINK)),
                ("four", opcode::nop()),
            ]);
            rig.ordered(4);
            rig.push(&[("five", opcode::nop())]);
            rig.ordered(1);
        },
        expect: "one 0, two -9, three -125, four -125, five 0",
        ..CASE
    },
    Case {
        name: "a hard link that breaks cancels nothing",
        run: |rig| {
            rig.push(&[
                ("one", opcode::nop().flags(Flags::IO_LINK)),
                ("two", opcode::close(0).flags(Flags::IO_HARDLINK)),
                ("three", opcode::close(0).flags(Flags::IO_LINK)),
                ("four", opcode::nop()),
            ]);
            rig.ordered(4);
        },
        expect: "one 0, two -9, three -9, four -125",
        ..CASE
    },
    Case {
        name: "completions that overflow come in order",
        size: Size {
            completions: 16,
            ..USUAL
        },
        run: |rig| {
            for names in [
                ["a1", "a2", "a3", "a4", "a5", "a6"],
                ["b1", "b2", "b3", "b4", "b5", "b6"],
                ["c1", "c2", "c3", "c4", "c5", "c6"],
                ["d1", "d2", "d3", "d4", "d5", "d6"],
            ] {
                rig.push(&names.map(|name| (name, opcode::nop())));
            }
            rig.ordered(24);
        },
        expect: "a1 0, a2 0, a3 0, a4 0, a5 0, a6 0, b1 0, b2 0, b3 0, b4 0, b5 0, b6 0, \
                  c1 0, c2 0, c3 0, c4 0, c5 0, c6 0, d1 0, d2 0, d3 0, d4 0, d5 0, d6 0",
        ..CASE
    },
    Case {
        name: "a completion that overflows ends a receive",
        size: Size {
            completions: 16,
            ..USUAL
        },
        run: |rig| {
            rig.pair(0, Place::Server);
            let recv = rig.recv(0);
            rig.push(&[("recv", recv)]);
            rig.push(
                &["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"].map(|name| (name, opcode::nop())),
            );
            rig.push(
                &["b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8"].map(|name| (name, opcode::nop())),
            );
            rig.peer(0, Act::Send(b"hello"));
            rig.ordered(17);
        },
        expect: "a1 0, a2 0, a3 0, a4 0, a5 0, a6 0, a7 0, a8 0, b1 0, b2 0, b3 0, b4 0, \
                  b5 0, b6 0, b7 0, b8 0, recv 5 hello:5",
        ..CASE
    },
];
