//! One request and its answer, in every way in which the pool lets a user write and read.
//!
//! Promise: an exchange that ends well has read the whole answer to its own request and nothing
//! more; the connection is then at a message boundary.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use fastrand::Rng;
use ringpool::{Chunk, Error, Stream};

use super::frame::{self, HEADER, Header, Kind, NO_ANSWER};

/// Why an exchange has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The pool says so.
    Pool(Error),
    /// Bytes that nobody asked for came instead.
    Unsolicited,
    /// What came is wrong: no fault of a server explains it.
    Wrong(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Pool(error)
    }
}

/// How an answer is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Exact,
    /// A few bytes at a time.
    Parts,
    /// As the kernel's pieces, all of them held until the end.
    Chunks,
    /// By reads that are dropped after a poll or two, again and again.
    Cancelled,
}

/// A request to one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    server: u32,
    header: Header,
}

impl Request {
    /// A request of `len` bytes to `server`, to be answered with `answer` bytes.
    pub(super) fn new(id: u64, server: usize, len: u32, answer: u32) -> Self {
        Self {
            server: server as u32,
            header: Header {
                kind: Kind::Request,
                len,
                about: answer,
                id,
            },
        }
    }

    /// The same, not to be answered.
    pub(super) fn one_way(self) -> Self {
        let about = NO_ANSWER;
        Self {
            header: Header {
                about,
                ..self.header
            },
            ..self
        }
    }

    pub(super) fn frame(self) -> Vec<u8> {
        self.header.frame()
    }

    fn answer(self) -> Header {
        Header {
            kind: Kind::Answer,
            len: self.header.about,
            about: self.server,
            id: self.header.id,
        }
    }

    /// Writes the request and reads its answer.
    pub(super) async fn exchange(
        self,
        stream: &Stream,
        how: How,
        rng: &mut Rng,
    ) -> Result<(), Failure> {
        stream.write_all(&self.frame()).await?;
        self.read_answer(stream, how, rng).await
    }

    /// Reads the answer, all of it and nothing more.
    pub(super) async fn read_answer(
        self,
        stream: &Stream,
        how: How,
        rng: &mut Rng,
    ) -> Result<(), Failure> {
        if let How::Chunks = how {
            return self.read_chunks(stream).await;
        }
        let mut front = [0; HEADER];
        fill(stream, &mut front, how, rng).await?;
        self.expect(&front)?;
        let mut content = vec![0; self.answer().len as usize];
        fill(stream, &mut content, how, rng).await?;
        self.answer().compare(&content).map_err(Failure::Wrong)
    }

    async fn read_chunks(self, stream: &Stream) -> Result<(), Failure> {
        let wanted = HEADER + self.answer().len as usize;
        let mut held: Vec<Chunk> = Vec::new();
        let mut came = 0;
        while came < wanted {
            let Some(chunk) = stream.read_chunk().await? else {
                return Err(end_of_stream());
            };
            came += chunk.len();
            held.push(chunk);
            if came >= HEADER {
                self.expect(&held.concat_front())?;
            }
        }
        let bytes: Vec<u8> = held
            .iter()
            .flat_map(|chunk| chunk.iter().copied())
            .collect();
        let (answer, rest) = bytes.split_at(wanted);
        let right = self.answer().compare(&answer[HEADER..]);
        right.map_err(Failure::Wrong)?;
        match rest {
            [] => Ok(()),
            // Nothing is under way that these could answer; the user has taken them, so the pool
            // cannot know of them.
            rest if frame::is_unsolicited(rest) => Err(Failure::Unsolicited),
            rest => Err(Failure::Wrong(format!(
                "\"{}\" follows the answer to {:#x}",
                rest.escape_ascii(),
                self.header.id
            ))),
        }
    }

    /// Whether `front` begins the answer to this request.
    fn expect(self, front: &[u8]) -> Result<(), Failure> {
        let wanted = self.answer();
        match Header::from_bytes(front) {
            Ok(header) if header == wanted => Ok(()),
            Ok(header) if header.kind == Kind::Unsolicited => Err(Failure::Unsolicited),
            Ok(header) => Err(Failure::Wrong(format!("{header:?} instead of {wanted:?}"))),
            Err(text) => Err(Failure::Wrong(format!("{text}, instead of {wanted:?}"))),
        }
    }
}

/// The first bytes of several pieces.
trait ConcatFront {
    fn concat_front(&self) -> Vec<u8>;
}

impl ConcatFront for Vec<Chunk> {
    fn concat_front(&self) -> Vec<u8> {
        let bytes = self.iter().flat_map(|chunk| chunk.iter().copied());
        bytes.take(HEADER).collect()
    }
}

async fn fill(stream: &Stream, buf: &mut [u8], how: How, rng: &mut Rng) -> Result<(), Failure> {
    match how {
        How::Parts => fill_by_parts(stream, buf, rng).await,
        How::Cancelled => {
            // Each is a read of its own with the whole time limit; a stalled server must not keep
            // this up for ever.
            for _ in 0..32 {
                let polls = rng.usize(1..4);
                if let Some(read) = poll_times(stream.read_exact(buf), polls).await {
                    return Ok(read?);
                }
            }
            Ok(stream.read_exact(buf).await?)
        }
        How::Exact | How::Chunks => Ok(stream.read_exact(buf).await?),
    }
}

async fn fill_by_parts(stream: &Stream, buf: &mut [u8], rng: &mut Rng) -> Result<(), Failure> {
    let mut filled = 0;
    while filled < buf.len() {
        let part = rng.usize(1..=512).min(buf.len() - filled);
        match stream.read(&mut buf[filled..filled + part]).await? {
            0 => return Err(end_of_stream()),
            read => filled += read,
        }
    }
    Ok(())
}

fn end_of_stream() -> Failure {
    let text = "the peer closed the connection within an answer";
    Failure::Pool(Error::new(ringpool::ErrorKind::Closed, text))
}

/// Polls `future` `polls` times, letting the loop turn in between, then drops it.
pub(super) async fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(value) = polled {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}
