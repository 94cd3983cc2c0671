//! How a name server treats a question, as a test wants it.

use std::time::Duration;

/// What a name server says instead of an answer (RFC 1035 §4.1.1, RFC 6891 §9).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// It did not understand the question.
    FormErr,
    /// It could not find out.
    ServFail,
    /// It does not know this kind of question.
    NotImp,
    /// It does not want to answer.
    Refused,
    /// It knows no EDNS of this version. Only with EDNS; else it says FORMERR.
    BadVers,
}

/// In what a lie differs from the answer. All lies name the address [`LIE`](super::LIE).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It has another number, as one that was guessed.
    Id,
    /// It answers a question about another name.
    Name,
    /// It answers a question for another type of record.
    Kind,
    /// It belongs to the question, and its record to another name.
    Owner,
}

/// What happens to a stream in the middle of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    Stall,
    End,
    Reset,
}

/// How a name server treats a question: truthfully and at once, unless something else is said.
///
/// ```
/// use std::time::Duration;
/// use ringpool::sim::{Lie, Manner, Rcode, World};
///
/// let world = World::new(1)?;
/// let [first, second] = &world.name_servers()[..] else { panic!("there are two") };
/// first.set(Manner::new().code(Rcode::ServFail));
/// // The next question of all to the second: a lie first, the answer later and twice.
/// second.next(Manner::new().lie(Lie::Id).wait(Duration::from_millis(20)).twice());
/// # Ok::<(), ringpool::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Manner {
    pub(super) wait: Duration,
    pub(super) first: Vec<Vec<u8>>,
    pub(super) lies: Vec<Lie>,
    pub(super) code: Option<Rcode>,
    pub(super) header: bool,
    pub(super) old: Option<Rcode>,
    pub(super) silent: bool,
    pub(super) twice: bool,
    pub(super) cut: bool,
    pub(super) cut_in_streams: bool,
    pub(super) at_least: usize,
    pub(super) pieces: Option<usize>,
    pub(super) breaks: Option<(usize, Break)>,
}

impl Manner {
    /// The truth, at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits so long before it answers. What comes [first](Self::first), and lies, do not wait.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Says nothing at all to the question.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Sends these bytes first, whatever they are: a datagram of its own, or a whole message in a
    /// stream.
    #[must_use]
    pub fn first(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.first.push(bytes.into());
        self
    }

    /// Lies before it answers.
    #[must_use]
    pub fn lie(mut self, lie: Lie) -> Self {
        self.lies.push(lie);
        self
    }

    /// Says this instead of an answer.
    #[must_use]
    pub fn code(mut self, code: Rcode) -> Self {
        self.code = Some(code);
        self
    }

    /// What it says instead of an answer is a header and nothing else, not even the question.
    #[must_use]
    pub fn header_only(mut self) -> Self {
        self.header = true;
        self
    }

    /// It is old: to a question with EDNS it says this, without EDNS.
    #[must_use]
    pub fn old(mut self, code: Rcode) -> Self {
        self.old = Some(code);
        self
    }

    /// Answers twice.
    #[must_use]
    pub fn twice(mut self) -> Self {
        self.twice = true;
        self
    }

    /// Says in datagrams that its answer was cut (TC); what is left of it names
    /// [`LIE`](super::LIE).
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// Says that its answer was cut even in a stream.
    #[must_use]
    pub fn cut_everywhere(mut self) -> Self {
        self.cut = true;
        self.cut_in_streams = true;
        self
    }

    /// Makes the answer at least so many bytes long, whatever the question allows, by records that
    /// nobody asked for.
    #[must_use]
    pub fn at_least(mut self, bytes: usize) -> Self {
        self.at_least = bytes;
        self
    }

    /// In a stream, sends so many bytes at once, one packet after the other.
    #[must_use]
    pub fn in_pieces(mut self, bytes: usize) -> Self {
        self.pieces = Some(bytes.max(1));
        self
    }

    /// In a stream, stops after so many bytes of the answer, its length included, and says no more.
    #[must_use]
    pub fn stall_after(mut self, bytes: usize) -> Self {
        self.breaks = Some((bytes, Break::Stall));
        self
    }

    /// In a stream, ends it (FIN) after so many bytes of the answer, its length included.
    #[must_use]
    pub fn end_after(mut self, bytes: usize) -> Self {
        self.breaks = Some((bytes, Break::End));
        self
    }

    /// In a stream, resets it after so many bytes of the answer, its length included.
    #[must_use]
    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.breaks = Some((bytes, Break::Reset));
        self
    }
}
