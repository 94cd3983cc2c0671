//! What a completion's number costs, for `benches/parts.rs`.

use super::token::{Kind, Token};
use crate::slot::Key;

/// The number of an operation in the slot `index`, written and read again: the slot that it names.
#[must_use]
pub fn there_and_back(index: u32) -> Option<u32> {
    let number = Token::new(Kind::Recv, Key::new(index, 1)).encode();
    Token::decode(std::hint::black_box(number)).map(|token| token.key.index())
}
