//! A completion carries one number, `user_data`, and that number must lead to exactly the
//! operation that caused it: not to a later tenant of the same slot, not to a message that another
//! thread sent.
//!
//! Promise: `kind 8 | generation 24 | index 32`, and decoding is total: every `u64` is either one
//! [`Token`] or `None` (D8, D9).

use crate::slot::Key;

/// What an operation does. A slot has at most one operation of a kind in flight (D38).
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Socket = 1,
    Connect = 2,
    ConnectTimeout = 3,
    Recv = 4,
    Send = 5,
    Shutdown = 6,
    Close = 7,
    /// The cancel that is hard-linked to a close.
    Cancel = 8,
    CancelRecv = 9,
    CancelSend = 10,
    CancelConnect = 11,
    CancelShutdown = 12,
    /// Ring-wide, at the end.
    CancelAll = 13,
    /// Does nothing; for probing and tests.
    Nop = 14,
    Bind = 15,
    Option0 = 16,
    Option1 = 17,
    Option2 = 18,
    Option3 = 19,
    Option4 = 20,
    Option5 = 21,
    /// The connection goes to another ring.
    Give = 22,
    /// The end of a connection that another ring may have too, before its close.
    Cut = 23,
    /// Chosen by another thread: never an operation of ours.
    Message = 30,
    /// Reserved for waking a sleeping ring.
    Wake = 31,
}

impl Kind {
    /// Every kind. Discriminants stay below 32, so that a set of kinds is one `u32`.
    pub(super) const ALL: [Kind; 25] = [
        Kind::Socket,
        Kind::Connect,
        Kind::ConnectTimeout,
        Kind::Recv,
        Kind::Send,
        Kind::Shutdown,
        Kind::Close,
        Kind::Cancel,
        Kind::CancelRecv,
        Kind::CancelSend,
        Kind::CancelConnect,
        Kind::CancelShutdown,
        Kind::CancelAll,
        Kind::Nop,
        Kind::Bind,
        Kind::Option0,
        Kind::Option1,
        Kind::Option2,
        Kind::Option3,
        Kind::Option4,
        Kind::Option5,
        Kind::Give,
        Kind::Cut,
        Kind::Message,
        Kind::Wake,
    ];

    /// The kinds of the option steps of a connect, in order.
    pub(super) const OPTIONS: [Kind; 6] = [
        Kind::Option0,
        Kind::Option1,
        Kind::Option2,
        Kind::Option3,
        Kind::Option4,
        Kind::Option5,
    ];

    const fn from_u8(code: u8) -> Option<Kind> {
        let mut at = 0;
        while at < Self::ALL.len() {
            if Self::ALL[at] as u8 == code {
                return Some(Self::ALL[at]);
            }
            at += 1;
        }
        None
    }

    /// The kind as a set with one member.
    pub(super) const fn bit(self) -> u32 {
        1 << (self as u8)
    }
}

/// The decoded form of every possible `user_data` kind byte; looked up once per completion.
const KINDS: [Option<Kind>; 256] = {
    let mut kinds = [None; 256];
    let mut code = 0;
    while code < 256 {
        kinds[code] = Kind::from_u8(code as u8);
        code += 1;
    }
    kinds
};

/// The identity of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) key: Key,
}

impl Token {
    pub(super) const fn new(kind: Kind, key: Key) -> Self {
        Self { kind, key }
    }

    /// The number that goes into the submission entry.
    pub(super) const fn encode(self) -> u64 {
        ((self.kind as u64) << 56)
            | ((self.key.generation() as u64) << 32)
            | self.key.index() as u64
    }

    /// The operation that `user_data` names, or `None` if no kind has that code.
    pub(super) const fn decode(user_data: u64) -> Option<Self> {
        match KINDS[(user_data >> 56) as usize] {
            Some(kind) => Some(Self {
                kind,
                key: Key::new(user_data as u32, (user_data >> 32) as u32),
            }),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_survives_the_trip_and_fits_a_set() {
        for kind in Kind::ALL {
            assert!((kind as u8) < 32);
            let token = Token::new(kind, Key::new(u32::MAX, 0xff_ffff));
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }

    #[test]
    fn zero_and_unassigned_codes_are_unknown() {
        assert_eq!(Token::decode(0), None);
        for code in 0..=255u8 {
            let known = Kind::ALL.iter().any(|kind| *kind as u8 == code);
            assert_eq!(Token::decode(u64::from(code) << 56).is_some(), known);
        }
    }

    proptest! {
        #[test]
        fn decoding_is_total_and_exact(user_data: u64) {
            if let Some(token) = Token::decode(user_data) {
                prop_assert_eq!(token.encode(), user_data);
            }
        }
    }
}
