//! Reading and writing on behalf of a stream handle: the ring moves the bytes, this file decides
//! who waits, until when, and what an error looks like to the user.
//!
//! Promise: one reader and one writer wait at a time; a wait ends by bytes, by an error or at its
//! deadline; a handle whose connection has ended gets `Closed`.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio_uring::buf::IoBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::policy::event::{CloseReason, ConnKey};
use crate::ring::{EmptyBox, End, OwnedBuf};

use super::Shard;
use super::cells::{ConnCell, Front, Side, Stage, Use, keep_waker};
use super::chunk::Chunk;
use super::core::Core;
use super::deferred::Deferred;

/// Boxes of users' buffers that are kept for the next ones.
const MAX_BOXES: usize = 256;
/// Those that are empty.
pub(super) type Boxes = Vec<EmptyBox>;

impl Shard {
    /// The next piece of the stream; `None` at its end.
    pub(crate) fn poll_chunk(&self, at: Use, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>>> {
        self.enter(|core| core.poll_chunk(at, cx))
    }

    /// Reads until `fill` has enough, or to the end of the stream.
    #[inline]
    pub(crate) fn poll_fill(
        &self,
        at: Use,
        cx: &mut Context<'_>,
        fill: &mut Fill<'_>,
    ) -> Poll<Result<()>> {
        self.enter(|core| core.poll_fill(at, cx, fill))
    }

    /// Puts a piece back in front of the stream. An empty one is dropped.
    pub(crate) fn unread(&self, at: Use, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        // The chunk is dropped outside if its connection has ended.
        let _rest = self.enter(|core| match core.cells.usable(at) {
            Some(cell) if !cell.is_closing() => {
                cell.front.push_front(chunk);
                None
            }
            _ => Some(chunk),
        });
    }

    pub(crate) fn poll_write(
        &self,
        at: Use,
        cx: &mut Context<'_>,
        bytes: &[u8],
        begins: bool,
    ) -> Poll<Result<usize>> {
        self.enter(|core| core.poll_write(at, cx, bytes, begins))
    }

    pub(crate) fn poll_flush(&self, at: Use, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.enter(|core| core.poll_flush(at, cx))
    }

    pub(crate) fn shutdown_write(&self, at: Use) -> Result<()> {
        self.enter(|core| {
            let cell = usable(&mut core.cells, at)?;
            // Half a stream is no stream for the next user.
            cell.torn = true;
            core.backend.shutdown_write(at.conn.0);
            Ok(())
        })
    }

    /// A message was written in part, and the rest will not be.
    pub(crate) fn tear(&self, at: Use) {
        self.enter(|core| {
            if let Some(cell) = core.cells.usable(at) {
                cell.torn = true;
            }
        });
    }

    /// Gives `buf` to the kernel and waits until it is back.
    pub(crate) async fn write_owned<B: IoBuf>(&self, at: Use, buf: B) -> (Result<()>, B) {
        if buf.bytes_init() == 0 {
            return (Ok(()), buf);
        }
        let place = self.boxes.borrow_mut().pop();
        // Asks the user's buffer where it is, so before the core is borrowed.
        let owned = OwnedBuf::in_place(place, buf);
        let started = self.enter(|core| core.start_owned(at, owned));
        if let Err((error, owned)) = started {
            return (Err(error), self.back(owned));
        }
        let mut wait = OwnedWait {
            shard: self,
            at,
            done: false,
        };
        let (result, owned) = poll_fn(|cx| self.enter(|core| core.poll_owned(at.conn, cx))).await;
        wait.done = true;
        (result, self.back(owned))
    }

    /// The buffer in its own type again. Its box waits for the next.
    fn back<B: IoBuf>(&self, owned: OwnedBuf) -> B {
        let Ok((buf, place)) = owned.downcast::<B>() else {
            // The ring gives back the very buffer that `write_owned` gave it, and one connection
            // has one at a time; no input of a peer or the kernel can change that.
            panic!("the ring gave back another buffer than it was given");
        };
        let mut boxes = self.boxes.borrow_mut();
        if boxes.len() < MAX_BOXES {
            boxes.push(place);
        }
        buf
    }

    /// A new read begins: its deadline counts from its first wait.
    pub(crate) fn begin_read(&self, at: Use) {
        self.enter(|core| core.cells.usable(at).map(|cell| cell.read.begin()));
    }

    /// A new write begins: its deadline counts from its first wait.
    pub(crate) fn begin_write(&self, at: Use) {
        self.enter(|core| core.cells.usable(at).map(|cell| cell.write.begin()));
    }

    /// Why a connection that was just granted is of no use to anybody, if it died on its way.
    pub(crate) fn dead_on_arrival(&self, conn: ConnKey) -> Option<CloseReason> {
        self.enter(|core| core.cells.get(conn).and_then(fate))
    }
}

impl Core {
    fn poll_chunk(&mut self, at: Use, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>>> {
        self.refresh();
        let cell = usable(&mut self.cells, at)?;
        let next = cell.front.pop_front();
        let next = next.or_else(|| self.backend.read(at.conn.0).map(Chunk::kernel));
        if let Some(chunk) = next {
            cell.read.done(cx, &mut self.deferred);
            return Poll::Ready(Ok(Some(chunk)));
        }
        self.wait_to_read(at.conn, cx).map_ok(|()| None)
    }

    /// One look for the connection, and one for its bytes, whatever is there.
    #[inline]
    fn poll_fill(
        &mut self,
        at: Use,
        cx: &mut Context<'_>,
        fill: &mut Fill<'_>,
    ) -> Poll<Result<()>> {
        self.refresh();
        let cell = usable(&mut self.cells, at)?;
        let before = fill.filled;
        if !cell.front.is_empty() {
            fill.take_front(&mut cell.front);
        }
        let rest = &mut fill.buf[fill.filled..];
        fill.filled += self.backend.read_into(at.conn.0, rest);
        if fill.filled >= fill.enough {
            cell.read.done(cx, &mut self.deferred);
            return Poll::Ready(Ok(()));
        }
        // Each piece may take its time.
        if !std::mem::replace(&mut fill.begun, true) || fill.filled > before {
            cell.read.begin();
        }
        self.wait_to_read(at.conn, cx)
    }

    /// Makes the calling task one that waits for bytes, unless none come any more: ready at the
    /// end of the stream.
    fn wait_to_read(&mut self, conn: ConnKey, cx: &Context<'_>) -> Poll<Result<()>> {
        let Some(cell) = self.cells.get_mut(conn) else {
            return Poll::Ready(Err(closed()));
        };
        if let Some(error) = &cell.failure {
            return Poll::Ready(Err(error.clone()));
        }
        match cell.end {
            Some(End::Eof) => return Poll::Ready(Ok(())),
            Some(End::Reset(errno)) => {
                return Poll::Ready(Err(Error::on_connection(errno)));
            }
            None => {}
        }
        let wait = Wait {
            cx,
            host: &self.host,
            limit: self.config.read_timeout,
            shared: cell.shared,
        };
        wait.on(&mut cell.read, ErrorKind::ReadTimeout, &mut self.deferred)?;
        // Nearly always an earlier moment is looked at, from before.
        let deadline = cell.read.deadline();
        if deadline.is_some_and(|deadline| deadline < cell.timed) {
            self.arm_timer(conn);
        }
        Poll::Pending
    }

    /// `begins`: the write is a new one, whose deadline counts from its first wait.
    fn poll_write(
        &mut self,
        at: Use,
        cx: &mut Context<'_>,
        bytes: &[u8],
        begins: bool,
    ) -> Poll<Result<usize>> {
        self.refresh();
        let cell = usable(&mut self.cells, at)?;
        if let Some(error) = &cell.failure {
            return Poll::Ready(Err(error.clone()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = self.backend.write(at.conn.0, bytes)?;
        if taken > 0 {
            cell.write.done(cx, &mut self.deferred);
            return Poll::Ready(Ok(taken));
        }
        if begins {
            cell.write.begin();
        }
        self.wait_to_write(at.conn, cx)
    }

    fn poll_flush(&mut self, at: Use, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.refresh();
        let cell = usable(&mut self.cells, at)?;
        if let Some(error) = &cell.failure {
            return Poll::Ready(Err(error.clone()));
        }
        if self.backend.is_flushed(at.conn.0) {
            cell.write.done(cx, &mut self.deferred);
            return Poll::Ready(Ok(()));
        }
        self.backend.notify_flushed(at.conn.0);
        self.wait_to_write(at.conn, cx)
    }

    /// Makes the calling task one that waits until more can be written.
    fn wait_to_write<T>(&mut self, conn: ConnKey, cx: &Context<'_>) -> Poll<Result<T>> {
        let Some(cell) = self.cells.get_mut(conn) else {
            return Poll::Ready(Err(closed()));
        };
        let wait = Wait {
            cx,
            host: &self.host,
            limit: self.config.write_timeout,
            shared: cell.shared,
        };
        wait.on(&mut cell.write, ErrorKind::WriteTimeout, &mut self.deferred)?;
        self.arm_timer(conn);
        Poll::Pending
    }

    fn start_owned(
        &mut self,
        at: Use,
        buf: OwnedBuf,
    ) -> std::result::Result<(), (Error, OwnedBuf)> {
        self.refresh();
        let cell = match usable(&mut self.cells, at) {
            Ok(cell) => cell,
            Err(error) => return Err((error, buf)),
        };
        if let Some(error) = &cell.failure {
            return Err((error.clone(), buf));
        }
        if cell.torn || self.owned.contains_key(&at.conn) {
            let text = "another buffer is being written on this connection, or was given up";
            return Err((Error::new(ErrorKind::InvalidInput, text), buf));
        }
        self.backend.write_owned(at.conn.0, buf)?;
        let late = self.host.now().plus(self.config.write_timeout);
        cell.write.set_deadline(late, &mut self.deferred);
        let unsent = self.backend.unsent(at.conn.0);
        self.owned.insert(at.conn, OwnedWrite::new(unsent));
        self.arm_timer(at.conn);
        Ok(())
    }

    fn poll_owned(&mut self, conn: ConnKey, cx: &mut Context<'_>) -> Poll<(Result<()>, OwnedBuf)> {
        let owned = self.owned.entry(conn).or_insert_with(|| OwnedWrite::new(0));
        if let Some(returned) = owned.returned.take() {
            return Poll::Ready(returned);
        }
        keep_waker(&mut owned.waker, cx, &mut self.deferred.stale);
        Poll::Pending
    }

    /// The write deadline of `conn` has passed while a buffer of its user's is with the kernel:
    /// if nothing of it moved meanwhile, only closing the connection gets it back.
    pub(crate) fn owned_is_late(&mut self, conn: ConnKey) {
        let Some(owned) = self.owned.get_mut(&conn) else {
            return;
        };
        let unsent = self.backend.unsent(conn.0);
        if unsent < owned.unsent {
            owned.unsent = unsent;
            if let Some(cell) = self.cells.get_mut(conn) {
                let late = self.now.plus(self.config.write_timeout);
                cell.write.set_deadline(late, &mut self.deferred);
            }
            return;
        }
        let text = format!(
            "nothing moved for {} ms",
            self.config.write_timeout.as_millis()
        );
        let error = Error::new(ErrorKind::WriteTimeout, text).context("writing");
        self.cut(conn, error, CloseReason::Failed);
    }
}

/// Where a read puts its bytes, and how far it is.
pub(crate) struct Fill<'a> {
    buf: &'a mut [u8],
    filled: usize,
    /// It need not wait for more.
    enough: usize,
    /// It has looked before.
    begun: bool,
}

impl<'a> Fill<'a> {
    pub(crate) fn new(buf: &'a mut [u8], enough: usize) -> Self {
        Self {
            buf,
            filled: 0,
            enough,
            begun: false,
        }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// The bytes it has.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[..self.filled]
    }

    #[cold]
    fn take_front(&mut self, front: &mut Front) {
        while let Some(chunk) = front.front_mut()
            && self.filled < self.buf.len()
        {
            let count = chunk.len().min(self.buf.len() - self.filled);
            self.buf[self.filled..self.filled + count].copy_from_slice(&chunk[..count]);
            self.filled += count;
            chunk.advance(count);
            if chunk.is_empty() {
                front.pop_front();
            }
        }
    }
}

/// A buffer that the kernel has and its writer waits for. The ring hands it out after its last
/// completion, also when the connection is closed meanwhile.
pub(crate) struct OwnedWrite {
    pub(crate) waker: Option<Waker>,
    pub(crate) returned: Option<(Result<()>, OwnedBuf)>,
    /// How much was unsent when it was last looked at.
    unsent: usize,
}

impl OwnedWrite {
    fn new(unsent: usize) -> Self {
        Self {
            waker: None,
            returned: None,
            unsent,
        }
    }
}

/// Forgets the wait when the writer goes away; the buffer is then dropped when it comes back, and
/// nobody else may have the connection.
struct OwnedWait<'a> {
    shard: &'a Shard,
    at: Use,
    done: bool,
}

impl Drop for OwnedWait<'_> {
    fn drop(&mut self) {
        // The user's buffer, if it has come back, is dropped here, with nothing borrowed.
        let _entry = self.shard.enter(|core| core.owned.remove(&self.at.conn));
        if !self.done {
            self.shard.tear(self.at);
        }
    }
}

/// The cell of a connection that may be used, or why it may not.
fn usable(cells: &mut super::cells::Cells, at: Use) -> Result<&mut ConnCell> {
    match cells.usable(at) {
        Some(cell) if !cell.is_closing() => Ok(cell),
        Some(cell) => Err(cell.failure.clone().unwrap_or_else(closed)),
        None => Err(closed()),
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the connection has ended, or is not this user's any more",
    )
}

/// Why the connection cannot serve anybody else, if it cannot.
#[inline]
pub(super) fn fate(cell: &ConnCell) -> Option<CloseReason> {
    match (&cell.failure, cell.end) {
        (Some(_), _) => return Some(CloseReason::Failed),
        (None, Some(End::Eof)) => return Some(CloseReason::PeerClosed),
        (None, Some(End::Reset(_))) => return Some(CloseReason::Reset),
        (None, None) => {}
    }
    match cell.stage {
        Stage::Closing(reason) => Some(reason),
        _ => cell.torn.then_some(CloseReason::UnfinishedWrite),
    }
}

/// A task that must wait, until `limit` after its operation first had to.
struct Wait<'a, 'b> {
    cx: &'a Context<'b>,
    /// Its clock is read when the wait begins: the process may have stood still since the turn's
    /// time was read, for longer than the limit (P13).
    host: &'a Host,
    limit: Duration,
    shared: bool,
}

impl Wait<'_, '_> {
    fn on(&self, side: &mut Side, late: ErrorKind, deferred: &mut Deferred) -> Result<()> {
        if side.wait_until(|| self.host.now().plus(self.limit), deferred) {
            side.done(self.cx, deferred);
            let doing = if late == ErrorKind::ReadTimeout {
                "reading"
            } else {
                "writing"
            };
            let text = format!("nothing moved for {} ms", self.limit.as_millis());
            return Err(Error::new(late, text).context(doing));
        }
        side.wait(self.cx, self.shared, deferred);
        Ok(())
    }
}
