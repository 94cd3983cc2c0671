//! Reading and writing on behalf of a stream handle: the ring moves the bytes, this file decides
//! who waits, until when, and what an error looks like to the user.
//!
//! Promise: one reader and one writer wait at a time; a wait ends by bytes, by an error or at its
//! deadline; a handle whose connection has ended gets `Closed`.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio_uring::buf::IoBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::policy::event::{CloseReason, ConnKey, Return};
use crate::ring::{End, OwnedBuf};
use crate::time::Tick;

use super::Shard;
use super::cells::{ConnCell, Side, Stage, keep_waker};
use super::chunk::Chunk;
use super::core::Core;
use super::deferred::Deferred;

impl Shard {
    /// The next piece of the stream; `None` at its end.
    pub(crate) fn poll_chunk(
        &self,
        conn: ConnKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>>> {
        self.enter(|core| core.poll_chunk(conn, cx))
    }

    /// Puts a piece back in front of the stream. An empty one is dropped.
    pub(crate) fn unread(&self, conn: ConnKey, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        // The chunk is dropped outside if its connection has ended.
        let _rest = self.enter(|core| match core.cells.get_mut(conn) {
            Some(cell) if !cell.is_closing() => {
                cell.front.push_front(chunk);
                None
            }
            _ => Some(chunk),
        });
    }

    pub(crate) fn poll_write(
        &self,
        conn: ConnKey,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.enter(|core| core.poll_write(conn, cx, bytes))
    }

    pub(crate) fn poll_flush(&self, conn: ConnKey, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.enter(|core| core.poll_flush(conn, cx))
    }

    pub(crate) fn shutdown_write(&self, conn: ConnKey) -> Result<()> {
        self.enter(|core| {
            let cell = usable(&mut core.cells, conn)?;
            // Half a stream is no stream for the next user.
            cell.unfinished = true;
            core.backend.shutdown_write(conn.0);
            Ok(())
        })
    }

    /// Says that a message is half written (`true`) or whole again.
    pub(crate) fn mark_unfinished(&self, conn: ConnKey, unfinished: bool) {
        self.enter(|core| {
            if let Some(cell) = core.cells.get_mut(conn) {
                cell.unfinished = unfinished;
            }
        });
    }

    /// Gives `buf` to the kernel and waits until it is back.
    pub(crate) async fn write_owned<B: IoBuf>(
        self: &Rc<Self>,
        conn: ConnKey,
        buf: B,
    ) -> (Result<()>, B) {
        if buf.bytes_init() == 0 {
            return (Ok(()), buf);
        }
        let started = self.enter(|core| core.start_owned(conn, OwnedBuf::new(buf)));
        if let Err((error, owned)) = started {
            return (Err(error), back(owned));
        }
        let _wait = OwnedWait { shard: self, conn };
        let (result, owned) = poll_fn(|cx| self.enter(|core| core.poll_owned(conn, cx))).await;
        self.mark_unfinished(conn, false);
        (result, back(owned))
    }

    /// A new read begins: its deadline counts from its first wait.
    pub(crate) fn begin_read(&self, conn: ConnKey) {
        self.enter(|core| core.cells.get_mut(conn).map(|cell| cell.read.begin()));
    }

    /// A new write begins: its deadline counts from its first wait.
    pub(crate) fn begin_write(&self, conn: ConnKey) {
        self.enter(|core| core.cells.get_mut(conn).map(|cell| cell.write.begin()));
    }

    /// What becomes of an exclusive connection that its user gives back (the return rule).
    pub(crate) fn judge(&self, conn: ConnKey) -> Return {
        self.enter(|core| core.judge(conn))
    }

    /// The same for one share of a shared connection.
    pub(crate) fn judge_share(&self, conn: ConnKey) -> Return {
        self.enter(|core| match core.cells.get(conn) {
            Some(cell) => fate(cell).map_or(Return::Clean, Return::Discard),
            None => Return::Clean,
        })
    }
}

impl Core {
    fn poll_chunk(&mut self, conn: ConnKey, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>>> {
        self.refresh();
        let cell = usable(&mut self.cells, conn)?;
        let next = cell.front.pop_front();
        let next = next.or_else(|| self.backend.read(conn.0).map(Chunk::kernel));
        if let Some(chunk) = next {
            cell.read.done(&mut self.deferred.stale);
            return Poll::Ready(Ok(Some(chunk)));
        }
        if let Some(error) = &cell.failure {
            return Poll::Ready(Err(error.clone()));
        }
        match cell.end {
            Some(End::Eof) => return Poll::Ready(Ok(None)),
            Some(End::Reset(errno)) => {
                return Poll::Ready(Err(Error::from_errno(ErrorKind::Closed, errno)));
            }
            None => {}
        }
        let limit = self.config.read_timeout;
        wait(
            &mut cell.read,
            cx,
            self.now,
            limit,
            ErrorKind::ReadTimeout,
            &mut self.deferred,
        )?;
        self.arm_timer(conn);
        Poll::Pending
    }

    fn poll_write(
        &mut self,
        conn: ConnKey,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.refresh();
        let cell = usable(&mut self.cells, conn)?;
        if let Some(error) = &cell.failure {
            return Poll::Ready(Err(error.clone()));
        }
        let taken = match bytes.is_empty() {
            true => return Poll::Ready(Ok(0)),
            false => self.backend.write(conn.0, bytes)?,
        };
        if taken > 0 {
            cell.write.done(&mut self.deferred.stale);
            return Poll::Ready(Ok(taken));
        }
        let limit = self.config.write_timeout;
        wait(
            &mut cell.write,
            cx,
            self.now,
            limit,
            ErrorKind::WriteTimeout,
            &mut self.deferred,
        )?;
        self.arm_timer(conn);
        Poll::Pending
    }

    fn poll_flush(&mut self, conn: ConnKey, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.refresh();
        let cell = usable(&mut self.cells, conn)?;
        if let Some(error) = &cell.failure {
            return Poll::Ready(Err(error.clone()));
        }
        if self.backend.is_flushed(conn.0) {
            cell.write.done(&mut self.deferred.stale);
            return Poll::Ready(Ok(()));
        }
        self.backend.notify_flushed(conn.0);
        let limit = self.config.write_timeout;
        wait(
            &mut cell.write,
            cx,
            self.now,
            limit,
            ErrorKind::WriteTimeout,
            &mut self.deferred,
        )?;
        self.arm_timer(conn);
        Poll::Pending
    }

    fn start_owned(
        &mut self,
        conn: ConnKey,
        buf: OwnedBuf,
    ) -> std::result::Result<(), (Error, OwnedBuf)> {
        let cell = match usable(&mut self.cells, conn) {
            Ok(cell) => cell,
            Err(error) => return Err((error, buf)),
        };
        if let Some(error) = &cell.failure {
            return Err((error.clone(), buf));
        }
        if cell.unfinished {
            let text = "a write is unfinished on this connection";
            return Err((Error::new(ErrorKind::InvalidInput, text), buf));
        }
        self.backend.write_owned(conn.0, buf)?;
        cell.unfinished = true;
        cell.write.deadline = Some(self.now.plus(self.config.write_timeout));
        self.owned.insert(conn, OwnedWrite::default());
        self.arm_timer(conn);
        Ok(())
    }

    fn poll_owned(&mut self, conn: ConnKey, cx: &mut Context<'_>) -> Poll<(Result<()>, OwnedBuf)> {
        let owned = self.owned.entry(conn).or_default();
        if let Some(returned) = owned.returned.take() {
            return Poll::Ready(returned);
        }
        keep_waker(&mut owned.waker, cx, &mut self.deferred.stale);
        Poll::Pending
    }

    fn judge(&mut self, conn: ConnKey) -> Return {
        if self.backend.unsent(conn.0) > 0 && self.backend.has_completions() {
            self.collect();
        }
        let Some(cell) = self.cells.get(conn) else {
            return Return::Clean;
        };
        if let Some(reason) = fate(cell) {
            return Return::Discard(reason);
        }
        let reason = if cell.unfinished || self.backend.unsent(conn.0) > 0 {
            CloseReason::UnfinishedWrite
        } else if !cell.front.is_empty() || self.backend.unread(conn.0) > 0 {
            CloseReason::Unread
        } else if !self.backend.is_watching(conn.0) {
            CloseReason::Unwatched
        } else {
            return Return::Clean;
        };
        Return::Discard(reason)
    }
}

/// The buffer in its own type again.
fn back<B: IoBuf>(owned: OwnedBuf) -> B {
    match owned.downcast::<B>() {
        Ok(buf) => buf,
        // The ring gives back the very buffer that `write_owned` gave it, and one connection has
        // one at a time; no input of a peer or the kernel can change that.
        Err(_) => panic!("the ring gave back another buffer than it was given"),
    }
}

/// A buffer that the kernel has and its writer waits for. The ring hands it out after its last
/// completion, also when the connection is closed meanwhile.
#[derive(Default)]
pub(crate) struct OwnedWrite {
    pub(crate) waker: Option<Waker>,
    pub(crate) returned: Option<(Result<()>, OwnedBuf)>,
}

/// Forgets the wait when the writer goes away; the buffer is then dropped when it comes back.
struct OwnedWait<'a> {
    shard: &'a Shard,
    conn: ConnKey,
}

impl Drop for OwnedWait<'_> {
    fn drop(&mut self) {
        // The user's buffer is dropped here, with nothing borrowed.
        let _entry = self.shard.enter(|core| core.owned.remove(&self.conn));
    }
}

/// The cell of a connection that may be used, or why it may not.
fn usable(cells: &mut super::cells::Cells, conn: ConnKey) -> Result<&mut ConnCell> {
    match cells.get_mut(conn) {
        Some(cell) if !cell.is_closing() => Ok(cell),
        Some(cell) => Err(cell.failure.clone().unwrap_or_else(closed)),
        None => Err(closed()),
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection has ended")
}

/// Why the connection cannot serve anybody else, if it cannot.
fn fate(cell: &ConnCell) -> Option<CloseReason> {
    match (&cell.failure, cell.end) {
        (Some(_), _) => Some(CloseReason::Failed),
        (None, Some(End::Eof)) => Some(CloseReason::PeerClosed),
        (None, Some(End::Reset(_))) => Some(CloseReason::Reset),
        (None, None) => match cell.stage {
            Stage::Closing(reason) => Some(reason),
            _ => None,
        },
    }
}

/// Makes the calling task the one that waits on `side`, until `limit` after the first wait.
fn wait(
    side: &mut Side,
    cx: &Context<'_>,
    now: Tick,
    limit: Duration,
    late: ErrorKind,
    deferred: &mut Deferred,
) -> Result<()> {
    side.deadline.get_or_insert_with(|| now.plus(limit));
    if side.late {
        side.done(&mut deferred.stale);
        let doing = if late == ErrorKind::ReadTimeout {
            "reading"
        } else {
            "writing"
        };
        let text = format!("nothing moved for {} ms", limit.as_millis());
        return Err(Error::new(late, text).context(doing));
    }
    side.wait(cx, &mut deferred.stale);
    Ok(())
}
