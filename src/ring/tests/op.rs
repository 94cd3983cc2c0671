//! The table of operations, without a kernel.

use proptest::prelude::*;

use super::key;
use crate::ring::memory::{OpBox, OpBytes};
use crate::ring::op::{Address, Completion, Dial, OpTable, Payload};
use crate::ring::owned::OwnedBuf;
use crate::ring::token::{Kind, Token};
use crate::slot::Key;

fn op(kind: Kind, key: Key, last: bool, abandoned: bool) -> Completion {
    let token = Token::new(kind, key);
    Completion::Op {
        token,
        last,
        abandoned,
    }
}

fn payload(bytes: &[u8]) -> Payload {
    let mut copy = OpBytes::with_capacity(bytes.len());
    copy.extend(bytes);
    Payload::Copied(copy)
}

fn dial() -> OpBox<Dial> {
    let v4 = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 80,
        sin_addr: libc::in_addr { s_addr: 1 },
        sin_zero: [0; 8],
    };
    OpBox::new(Dial {
        address: Address { v4 },
        local: Address { v4 },
        address_len: size_of::<libc::sockaddr_in>() as u32,
        timeout: io_uring::types::Timespec::new(),
        options: [1; Kind::OPTIONS.len()],
    })
}

#[test]
fn only_a_completion_without_more_ends_an_operation() {
    let mut ops = OpTable::new(4);
    assert!(ops.open(key(1)));
    let recv = ops.begin(Kind::Recv, key(1)).unwrap();
    assert_eq!(ops.begin(Kind::Recv, key(1)), None);
    for _ in 0..3 {
        let more = ops.complete(recv, true);
        assert_eq!(more, op(Kind::Recv, key(1), false, false));
    }
    assert_eq!(ops.in_flight(), 1);
    let last = ops.complete(recv, false);
    assert_eq!(last, op(Kind::Recv, key(1), true, false));
    assert_eq!(ops.in_flight(), 0);
    assert_eq!(ops.complete(recv, false), Completion::Stale);
    assert_eq!(ops.stale(), 1);
}

#[test]
fn r17_a_late_completion_does_not_reach_the_next_tenant() {
    let mut ops = OpTable::new(4);
    let (old, new) = (Key::new(2, 7), Key::new(2, 8));
    assert!(ops.open(old));
    let late = ops.begin(Kind::Send, old).unwrap();
    assert!(!ops.open(new), "not drained");
    ops.complete(late, false);
    assert!(ops.open(new));
    let send = ops.begin(Kind::Send, new).unwrap();
    assert_eq!(ops.complete(late, false), Completion::Stale);
    assert_eq!(ops.in_flight(), 1);
    assert_eq!(ops.complete(send, false), op(Kind::Send, new, true, false));
}

#[test]
fn unknown_and_foreign_numbers_change_nothing() {
    let mut ops = OpTable::new(2);
    assert!(ops.open(key(0)));
    assert_eq!(ops.complete(0, false), Completion::Unknown);
    assert_eq!(ops.complete(u64::MAX, false), Completion::Unknown);
    let outside = Token::new(Kind::Recv, key(2)).encode();
    assert_eq!(ops.complete(outside, false), Completion::Stale);
    let message = Token::new(Kind::Message, key(0)).encode();
    assert_eq!(ops.complete(message, false), Completion::Stale);
    assert_eq!(ops.stale(), 4);
    assert!(!ops.open(key(2)));
    assert_eq!(ops.begin(Kind::Recv, key(2)), None);
}

#[test]
fn k14_cancel_and_target_may_complete_in_either_order() {
    for cancel_first in [true, false] {
        let mut ops = OpTable::new(1);
        assert!(ops.open(key(0)));
        assert!(ops.set_payload(key(0), payload(b"x")).is_some());
        let send = ops.begin(Kind::Send, key(0)).unwrap();
        let cancel = ops.begin(Kind::Cancel, key(0)).unwrap();
        ops.abandon(key(0));
        let (first, second) = if cancel_first {
            (cancel, send)
        } else {
            (send, cancel)
        };
        assert!(matches!(
            ops.complete(first, false),
            Completion::Op {
                last: true,
                abandoned: true,
                ..
            }
        ));
        assert_eq!(ops.take_payload(key(0)).is_some(), !cancel_first);
        assert_eq!(ops.in_flight(), 1);
        ops.complete(second, false);
        assert_eq!(ops.outstanding(key(0)), 0);
        assert_eq!(ops.take_payload(key(0)).is_some(), cancel_first);
    }
}

#[test]
fn memory_stays_until_the_final_completion() {
    let mut ops = OpTable::new(1);
    assert!(ops.open(key(0)));
    assert!(ops.set_payload(key(0), payload(b"bytes")).is_some());
    assert!(ops.set_payload(key(0), payload(b"other")).is_none());
    let send = ops.begin(Kind::Send, key(0)).unwrap();
    assert!(ops.take_payload(key(0)).is_none());
    ops.complete(send, true);
    assert!(ops.take_payload(key(0)).is_none());
    ops.complete(send, false);
    assert!(ops.take_payload(key(0)).is_some());
    assert!(ops.take_payload(key(0)).is_none());
}

#[test]
fn leaking_forgets_what_is_in_flight_only() {
    let mut ops = OpTable::new(2);
    assert!(ops.open(key(0)) && ops.open(key(1)));
    assert!(ops.set_payload(key(0), payload(b"in flight")).is_some());
    assert!(ops.set_payload(key(1), payload(b"not yet")).is_some());
    let _recv = ops.begin(Kind::Recv, key(0)).unwrap();
    let all = ops.begin(Kind::CancelAll, OpTable::RING);
    assert!(all.is_some());
    ops.leak();
    assert_eq!(ops.in_flight(), 0);
    assert!(ops.payload(key(0)).is_none() && ops.payload(key(1)).is_some());
    assert_eq!(ops.complete(all.unwrap(), false), Completion::Stale);
}

#[test]
fn a_dial_is_freed_when_the_last_of_its_steps_is_final() {
    let steps = [Kind::Connect, Kind::ConnectTimeout];
    for kind in steps.into_iter().chain(Kind::OPTIONS) {
        let mut ops = OpTable::new(1);
        assert!(ops.open(key(0)));
        assert!(ops.set_dial(key(0), dial()).is_some());
        let socket = ops.begin(Kind::Socket, key(0)).unwrap();
        let step = ops.begin(kind, key(0)).unwrap();
        ops.begin(Kind::Recv, key(0)).unwrap();
        ops.complete(socket, false);
        assert!(ops.dial(key(0)).is_some(), "{kind:?} is in flight");
        assert!(ops.set_dial(key(0), dial()).is_none(), "{kind:?}");
        ops.complete(step, true);
        assert!(ops.dial(key(0)).is_some(), "{kind:?} has more");
        ops.complete(step, false);
        assert!(ops.dial(key(0)).is_none(), "{kind:?} was the last");
        assert!(ops.set_dial(key(0), dial()).is_some());
    }
}

#[test]
fn a_payload_is_sent_from_where_the_last_send_ended() {
    let mut bytes = OpBytes::with_capacity(5);
    bytes.extend(b"bytes");
    let copied = bytes.as_ptr();
    let owned = OwnedBuf::new(b"bytes".to_vec());
    let given = owned.as_ptr();
    for (start, payload) in [
        (copied, Payload::Copied(bytes)),
        (given, Payload::Owned(owned)),
    ] {
        assert_eq!(payload.len(), 5);
        assert_eq!(payload.from(0), (start, 5));
        assert_eq!(payload.from(2), (start.wrapping_add(2), 3));
        assert_eq!(payload.from(9), (start.wrapping_add(5), 0));
    }
}

#[test]
fn what_is_in_flight_is_known_by_kind() {
    let mut ops = OpTable::new(2);
    assert!(ops.open(key(0)) && ops.open(key(1)));
    ops.begin(Kind::Send, key(0)).unwrap();
    ops.begin(Kind::Close, key(0)).unwrap();
    assert!(ops.has(Kind::Send, key(0)) && ops.has(Kind::Close, key(0)));
    assert!(!ops.has(Kind::Recv, key(0)) && !ops.has(Kind::Send, key(1)));
    let both = Kind::Send.bit() | Kind::Close.bit();
    assert_eq!(
        (ops.outstanding(key(0)), ops.outstanding(key(1))),
        (both, 0)
    );
}

#[derive(Debug, Clone)]
enum Step {
    Open(u32, u32),
    Begin(Kind, u32, u32),
    Complete(Kind, u32, u32, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = || prop::sample::select(Kind::ALL.to_vec());
    let step = prop_oneof![
        (0..3u32, 0..3u32).prop_map(|(i, g)| Step::Open(i, g)),
        (kind(), 0..3u32, 0..3u32).prop_map(|(k, i, g)| Step::Begin(k, i, g)),
        (kind(), 0..3u32, 0..3u32, any::<bool>())
            .prop_map(|(k, i, g, m)| Step::Complete(k, i, g, m)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Against the plainest model: a set of tokens in flight, and the tenant of each slot.
    #[test]
    fn the_table_agrees_with_a_set(steps in steps()) {
        let mut ops = OpTable::new(3);
        let mut tenants = [0u32; 3];
        let mut live = std::collections::HashSet::new();
        for step in steps {
            match step {
                Step::Open(index, generation) => {
                    let idle = !live.iter().any(|token: &Token| token.key.index() == index);
                    prop_assert_eq!(ops.open(Key::new(index, generation)), idle);
                    if idle {
                        tenants[index as usize] = generation;
                    }
                }
                Step::Begin(kind, index, generation) => {
                    let token = Token::new(kind, Key::new(index, generation));
                    let may = tenants[index as usize] == generation && !live.contains(&token);
                    prop_assert_eq!(ops.begin(kind, token.key), may.then_some(token.encode()));
                    if may {
                        live.insert(token);
                    }
                }
                Step::Complete(kind, index, generation, more) => {
                    let token = Token::new(kind, Key::new(index, generation));
                    let expected = if live.contains(&token) {
                        op(kind, token.key, !more, false)
                    } else {
                        Completion::Stale
                    };
                    prop_assert_eq!(ops.complete(token.encode(), more), expected);
                    if !more {
                        live.remove(&token);
                    }
                }
            }
            prop_assert_eq!(ops.in_flight(), live.len());
        }
    }
}
