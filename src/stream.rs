//! The bytes of one connection. A [`Stream`] is a cheap handle: the connection itself belongs to
//! the core's pool, and a handle that outlives it only gets an error.
//!
//! Promise: reads are cancel-safe, a dropped read loses no byte; writes are not, a dropped write
//! leaves the connection unusable for others, and the pool knows it. Every buffered read has a
//! maximum, every wait a deadline.
//!
//! Beneath the async methods lies a poll core (`poll_read_chunk`, `poll_write`, `poll_flush`,
//! `poll_shutdown`) on which other I/O traits can stand.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use memchr::memmem;
use tokio_uring::BufResult;
use tokio_uring::buf::IoBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::policy::event::ConnKey;
use crate::shard::{Fill, Shard, Use};

pub use crate::shard::Chunk;

/// A handle on a connection's bytes, for as long as its user has the connection: a copy that is
/// used after the connection was given back gets an error. The one that a protocol's `init` gets is
/// good for the connection's life. One reader and one writer at a time: of two tasks that wait
/// to read, bytes wake only the one that waited last.
#[derive(Clone)]
pub struct Stream {
    shard: Rc<Shard>,
    at: Use,
    /// Alive as long as a handle that a protocol's `init` got.
    _life: Option<Rc<()>>,
}

impl Stream {
    #[inline]
    pub(crate) fn new(shard: Rc<Shard>, at: Use) -> Self {
        let _life = None;
        Self { shard, at, _life }
    }

    /// The handle for a protocol's `init`: whoever keeps it may read for as long as the connection
    /// lives.
    pub(crate) fn for_life(shard: Rc<Shard>, conn: ConnKey) -> Self {
        let _life = Some(shard.begin_life(conn));
        let at = Use::for_life(conn);
        Self { shard, at, _life }
    }

    #[inline]
    pub(crate) fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    #[inline]
    pub(crate) fn conn(&self) -> ConnKey {
        self.at.conn
    }

    /// The address at the other end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] when the connection has ended.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        self.shard.address(self.at.conn).ok_or_else(ended)
    }

    // -- the poll core -----------------------------------------------------------------------

    /// The next received piece, or `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after a reset or when the pool closed the connection,
    /// [`ErrorKind::ReadTimeout`] when nothing came for
    /// [`Config::read_timeout`](crate::Config::read_timeout), counted from the first poll that had
    /// to wait.
    pub fn poll_read_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>>> {
        self.shard.poll_chunk(self.at, cx)
    }

    /// Takes as many bytes as the connection may hold unsent and returns how many that were.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Stream::write_all).
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.shard.poll_write(self.at, cx, bytes, false)
    }

    /// Ready when the kernel has taken every byte written so far.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Stream::write_all).
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.shard.poll_flush(self.at, cx)
    }

    /// Flushes, then tells the peer that no more bytes come. The connection is not reusable after.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Stream::write_all).
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.shard.poll_flush(self.at, cx))?;
        Poll::Ready(self.shard.shutdown_write(self.at))
    }

    // -- reading -------------------------------------------------------------------------------

    /// The next received piece without a copy: it lends the kernel's buffer, which goes back when
    /// the chunk is dropped. `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`poll_read_chunk`](Stream::poll_read_chunk).
    pub async fn read_chunk(&self) -> Result<Option<Chunk>> {
        self.shard.begin_read(self.at);
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// Reads what is there, waiting for the first byte; 0 at the end of the stream, or if `buf`
    /// is empty.
    ///
    /// # Errors
    ///
    /// As [`poll_read_chunk`](Stream::poll_read_chunk).
    pub async fn read(&self, buf: &mut [u8]) -> Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut fill = Fill::new(buf, 1);
        poll_fn(|cx| self.shard.poll_fill(self.at, cx, &mut fill)).await?;
        Ok(fill.len())
    }

    /// Fills `buf`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the stream ends before; else as
    /// [`poll_read_chunk`](Stream::poll_read_chunk). On an error, or when the future is dropped,
    /// the bytes read so far go back to the stream.
    pub async fn read_exact(&self, buf: &mut [u8]) -> Result<()> {
        let wanted = buf.len();
        if wanted == 0 {
            return Ok(());
        }
        let mut partial = PartialRead {
            stream: self,
            fill: Fill::new(buf, wanted),
            whole: false,
        };
        poll_fn(|cx| self.shard.poll_fill(self.at, cx, &mut partial.fill)).await?;
        if partial.fill.len() < wanted {
            return Err(end_of_stream(
                partial.fill.len(),
                &format!("{wanted} bytes"),
            ));
        }
        partial.whole = true;
        Ok(())
    }

    /// Reads up to and including `delimiter`, `max` bytes at most.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLong`] if `max` bytes came without the delimiter,
    /// [`ErrorKind::InvalidInput`] for an empty delimiter, [`ErrorKind::Closed`] if the stream
    /// ends before it; else as [`poll_read_chunk`](Stream::poll_read_chunk). On an error, or when
    /// the future is dropped, the bytes read so far go back to the stream.
    pub async fn read_until(&self, delimiter: &[u8], max: usize) -> Result<Vec<u8>> {
        if delimiter.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the delimiter is empty",
            ));
        }
        let finder = memmem::Finder::new(delimiter);
        let mut gathered = Gathered {
            stream: self,
            bytes: Vec::new(),
        };
        loop {
            let before = gathered.bytes.len();
            let Some(mut chunk) = self.read_chunk().await? else {
                return Err(end_of_stream(
                    before,
                    &format!("the delimiter {}", escaped(delimiter)),
                ));
            };
            let take = chunk.len().min(max - before);
            gathered.bytes.extend_from_slice(&chunk[..take]);
            let from = before.saturating_sub(delimiter.len() - 1);
            if let Some(at) = finder.find(&gathered.bytes[from..]) {
                let end = from + at + delimiter.len();
                gathered.bytes.truncate(end);
                chunk.advance(end - before);
                self.shard.unread(self.at, chunk);
                return Ok(std::mem::take(&mut gathered.bytes));
            }
            chunk.advance(take);
            self.shard.unread(self.at, chunk);
            if gathered.bytes.len() >= max {
                return Err(Error::new(
                    ErrorKind::TooLong,
                    format!(
                        "{max} bytes came without the delimiter {}",
                        escaped(delimiter)
                    ),
                ));
            }
        }
    }

    /// Reads one line and returns it without its `\n` or `\r\n`; `max` counts both.
    ///
    /// # Errors
    ///
    /// As [`read_until`](Stream::read_until), and [`ErrorKind::Protocol`] if the line is not UTF-8.
    pub async fn read_line(&self, max: usize) -> Result<String> {
        let mut line = self.read_until(b"\n", max).await?;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::new(
                ErrorKind::Protocol,
                format!("the line is not UTF-8 from byte {at} on"),
            )
        })
    }

    /// Reads to the end of the stream, `max` bytes at most.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLong`] if more than `max` bytes come; else as
    /// [`poll_read_chunk`](Stream::poll_read_chunk). On an error, or when the future is dropped,
    /// the bytes read so far go back to the stream.
    pub async fn read_to_end(&self, max: usize) -> Result<Vec<u8>> {
        let mut gathered = Gathered {
            stream: self,
            bytes: Vec::new(),
        };
        while let Some(chunk) = self.read_chunk().await? {
            gathered.bytes.extend_from_slice(&chunk);
            if gathered.bytes.len() > max {
                return Err(Error::new(
                    ErrorKind::TooLong,
                    format!("more than {max} bytes came before the end of the stream"),
                ));
            }
        }
        Ok(std::mem::take(&mut gathered.bytes))
    }

    // -- writing -------------------------------------------------------------------------------

    /// Copies `bytes` into the connection's send queue, waiting while it is full. It returns when
    /// the last byte is queued: the kernel sends them in this turn of the core's loop; what goes
    /// wrong then shows in the next call. [`flush`](Stream::flush) waits for the kernel.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the connection is lost, [`ErrorKind::Io`] if the system refused to
    /// send for another reason, [`ErrorKind::WriteTimeout`] if the queue stayed full for
    /// [`Config::write_timeout`](crate::Config::write_timeout).
    pub async fn write_all(&self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            // Nothing begins, so nothing of another user's write may be forgotten.
            return Ok(());
        }
        let mut partial = PartialWrite {
            stream: self,
            open: false,
        };
        let (mut rest, mut begins) = (bytes, true);
        while !rest.is_empty() {
            let write = |cx: &mut Context<'_>| {
                let begins = std::mem::take(&mut begins);
                self.shard.poll_write(self.at, cx, rest, begins)
            };
            let n = poll_fn(write).await?;
            rest = &rest[n..];
            partial.open = !rest.is_empty();
        }
        Ok(())
    }

    /// Gives a whole buffer to the kernel without a copy, after what was written before, and gets
    /// it back when every byte of it was taken. Zero-length buffers come back at once.
    ///
    /// Dropping the future leaves the buffer with the kernel until it is done, and makes the
    /// connection unusable for others.
    ///
    /// If the core's ring dies with the buffer in the kernel's hands (io_uring_enter(2): EBADR),
    /// nobody knows when the kernel lets go of it, and this never ends: no deadline may free memory
    /// that the kernel reads. Every other operation of such a core fails.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Stream::write_all); the buffer comes back either way.
    pub async fn write_owned<B: IoBuf>(&self, buf: B) -> BufResult<usize, B> {
        let len = buf.bytes_init();
        let (result, buf) = self.shard.write_owned(self.at, buf).await;
        (result.map(|()| len).map_err(std::io::Error::from), buf)
    }

    /// Waits until the kernel has taken every byte written so far.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Stream::write_all).
    pub async fn flush(&self) -> Result<()> {
        self.shard.begin_write(self.at);
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Flushes, then tells the peer that no more bytes come (`SHUT_WR`, shutdown(2)).
    ///
    /// # Errors
    ///
    /// As [`write_all`](Stream::write_all).
    pub async fn shutdown(&self) -> Result<()> {
        self.shard.begin_write(self.at);
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("conn", &self.at.conn)
            .finish_non_exhaustive()
    }
}

/// Puts what a cancelled or failed `read_exact` had taken back in front of the stream.
struct PartialRead<'a> {
    stream: &'a Stream,
    fill: Fill<'a>,
    /// Its user has the bytes.
    whole: bool,
}

impl Drop for PartialRead<'_> {
    fn drop(&mut self) {
        let bytes = self.fill.bytes();
        if !self.whole && !bytes.is_empty() {
            self.stream
                .shard
                .unread(self.stream.at, Chunk::owned(bytes.to_vec()));
        }
    }
}

/// Puts what a cancelled or failed buffered read had gathered back in front of the stream.
struct Gathered<'a> {
    stream: &'a Stream,
    bytes: Vec<u8>,
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.stream
                .shard
                .unread(self.stream.at, Chunk::owned(bytes));
        }
    }
}

/// Notices that a message stays half written: from then on nobody else may have the connection,
/// for the next request would be appended to half of this one.
struct PartialWrite<'a> {
    stream: &'a Stream,
    open: bool,
}

impl Drop for PartialWrite<'_> {
    fn drop(&mut self) {
        if self.open {
            self.stream.shard.tear(self.stream.at);
        }
    }
}

pub(crate) fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the connection has ended")
}

fn end_of_stream(after: usize, wanted: &str) -> Error {
    Error::new(
        ErrorKind::Closed,
        format!("the peer closed the connection after {after} bytes, before {wanted}"),
    )
}

fn escaped(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
