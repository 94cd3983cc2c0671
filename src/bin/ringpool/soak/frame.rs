//! An answer that reaches the wrong user looks like any other answer. Every request and every
//! answer of a run therefore says whose it is, and its content is drawn from that.
//!
//! Promise: bytes that are not exactly the request or the answer that the reader waits for are an
//! error that says what came instead. Bytes that nobody asked for are told apart from all answers,
//! so that reading them is the server's fault and never taken for an answer to somebody else.

/// Bytes in front of every frame: kind, two lengths or numbers, a check, the identity.
pub(super) const HEADER: usize = 24;
/// The longest content of a request or an answer.
pub(super) const LONGEST: u32 = 1 << 20;
/// In a request: the server is to send nothing back.
pub(super) const NO_ANSWER: u32 = u32::MAX;

/// What a frame is, in its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Request = 0x5251_7001,
    Answer = 0x414e_7002,
    /// Nobody asked for it.
    Unsolicited = 0x554e_7003,
}

/// The front of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of content that follow.
    pub(super) len: u32,
    /// In a request, the length of the answer's content; in an answer, the server's number.
    pub(super) about: u32,
    /// The request that this is, or answers.
    pub(super) id: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&(self.kind as u32).to_be_bytes());
        bytes[4..8].copy_from_slice(&self.len.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.about.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.check().to_be_bytes());
        bytes[16..].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }

    /// The header that `bytes` begin with; an error shows what they are instead.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let word = |at: usize| {
            let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
            four.map_or(0, |four| u32::from_be_bytes(*four))
        };
        let kinds = [Kind::Request, Kind::Answer, Kind::Unsolicited];
        let header = kinds.into_iter().find(|kind| *kind as u32 == word(0));
        let header = header.map(|kind| Self {
            kind,
            len: word(4),
            about: word(8),
            id: u64::from(word(16)) << 32 | u64::from(word(20)),
        });
        match header {
            Some(header) if bytes.len() >= HEADER && header.check() == word(12) => Ok(header),
            _ => {
                let front = &bytes[..bytes.len().min(HEADER)];
                Err(format!("\"{}\" is no header", front.escape_ascii()))
            }
        }
    }

    fn check(self) -> u32 {
        let Self { len, about, id, .. } = self;
        let mixed = (u64::from(len) << 32 | u64::from(about)) ^ id ^ self.kind as u64;
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// The content that belongs to this header.
    fn content(self) -> Vec<u8> {
        let mut content = vec![0; self.len as usize];
        let seed = self.id.rotate_left(32) ^ self.kind as u64;
        fastrand::Rng::with_seed(seed).fill(&mut content);
        content
    }

    /// The whole frame.
    pub(super) fn frame(self) -> Vec<u8> {
        let mut frame = self.to_bytes().to_vec();
        frame.extend_from_slice(&self.content());
        frame
    }

    /// Compares content that was read with what belongs to this header.
    pub(super) fn compare(self, content: &[u8]) -> Result<(), String> {
        let right = self.content();
        if right == content {
            return Ok(());
        }
        let pairs = right.iter().zip(content);
        let at = pairs.take_while(|(right, read)| right == read).count();
        let (kind, id, len) = (self.kind, self.id, self.len);
        Err(format!(
            "the content of {kind:?} {id:#x} differs from byte {at} of {len} on"
        ))
    }
}

/// A frame that nobody asked for. It ends with its header, so that it is short.
pub(super) fn unsolicited() -> [u8; HEADER] {
    let header = Header {
        kind: Kind::Unsolicited,
        len: 0,
        about: 0,
        id: 0,
    };
    header.to_bytes()
}

/// Whether `bytes` are such frames, the last of them perhaps in part.
pub(super) fn is_unsolicited(bytes: &[u8]) -> bool {
    let mut frames = bytes.chunks(HEADER);
    frames.all(|frame| unsolicited().starts_with(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Header = Header {
        kind: Kind::Answer,
        len: 40,
        about: 3,
        id: 0x1234_5678_9abc,
    };

    #[test]
    fn a_header_is_what_it_was() {
        assert_eq!(Header::from_bytes(&ANSWER.to_bytes()), Ok(ANSWER));
        let strange = Header::from_bytes(&unsolicited()).unwrap();
        assert_eq!(strange.kind, Kind::Unsolicited);
        let twice = [unsolicited(), unsolicited()].concat();
        assert!(is_unsolicited(&twice) && is_unsolicited(&twice[..30]));
        assert!(!is_unsolicited(&twice[1..]));
    }

    #[test]
    fn what_is_no_header_is_shown() {
        for at in 0..HEADER {
            let mut bytes = ANSWER.to_bytes();
            bytes[at] ^= 1;
            assert!(Header::from_bytes(&bytes).is_err(), "byte {at}");
        }
        assert_eq!(
            Header::from_bytes(b"abc\n").unwrap_err(),
            r#""abc\n" is no header"#
        );
    }

    #[test]
    fn contents_differ_by_request_and_kind() {
        let other = |header: Header| header.frame()[HEADER..].to_vec();
        let (id, kind) = (ANSWER.id + 1, Kind::Request);
        assert_eq!(ANSWER.compare(&other(ANSWER)), Ok(()));
        assert!(ANSWER.compare(&other(Header { id, ..ANSWER })).is_err());
        assert!(ANSWER.compare(&other(Header { kind, ..ANSWER })).is_err());
        let mut flipped = other(ANSWER);
        flipped[7] ^= 1;
        let text = ANSWER.compare(&flipped).unwrap_err();
        assert!(text.contains("byte 7 of 40"), "{text}");
    }
}
