//! Over TCP a message comes with its length before it, in pieces of any size, and perhaps after
//! messages that nobody asked for (RFC 7766). [`Stream`] puts one together at a time.
//!
//! Promise: it holds no more than has come, and at most one message; each byte is copied once; a
//! stream of more than [`MAX_MESSAGES`] is broken.

/// Messages on one socket, of which one is the answer.
pub(super) const MAX_MESSAGES: u32 = 64;
const PREFIX: usize = 2;

/// What has come of a stream, up to the end of the last whole message.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The length and what follows it.
    partial: Vec<u8>,
    messages: u32,
}

/// What a stream holds next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message, without its length.
    Message(Vec<u8>),
    /// All bytes are taken; more must come.
    Incomplete,
    /// No answer can follow.
    Broken(&'static str),
}

impl Stream {
    /// Takes from `bytes`, which come next, what belongs to the next message.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Frame {
        self.fill(bytes, PREFIX);
        let Some(len) = self.partial.first_chunk::<PREFIX>() else {
            return Frame::Incomplete;
        };
        let len = usize::from(u16::from_be_bytes(*len));
        if len == 0 {
            return Frame::Broken("a message of no bytes");
        }
        self.fill(bytes, PREFIX + len);
        if self.partial.len() < PREFIX + len {
            return Frame::Incomplete;
        }
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            return Frame::Broken("too many messages");
        }
        let message = self.partial.split_off(PREFIX);
        self.partial.clear();
        Frame::Message(message)
    }

    /// The bytes that are kept for it.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes bytes until there are `len` of them.
    fn fill(&mut self, bytes: &mut &[u8], len: usize) {
        let missing = len.saturating_sub(self.partial.len());
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.partial.extend_from_slice(taken);
        *bytes = rest;
    }
}
