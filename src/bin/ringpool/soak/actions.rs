//! What a client does, drawn at random: use a connection in every way, and leave it in every way,
//! most of them rude.
//!
//! Promise: a client breaks no rule that the pool cannot check: it releases a connection at a
//! message boundary, or with a write that the pool knows to be unfinished. What then goes wrong is
//! the server's fault or the pool's.

use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use ringpool::{Conn, EndpointHandle, Error, ErrorKind, Pool};
use tokio::time::timeout;

use super::clients::Shard;
use super::exchange::{Failure, How, Request, poll_times};
use super::frame;

/// What a client can do, and how often it does: the weights are of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Exchange,
    WithConnection,
    ReadParts,
    ReadChunks,
    ReadCancelled,
    WriteOwned,
    Pipeline,
    OneWay,
    TryGet,
    DropAfterPolls,
    DropAfterTime,
    AbortTask,
    DropGets,
    UnfinishedWrite,
    UnfinishedOwned,
    DropUnused,
    DropUnanswered,
    Close,
    HalfClose,
    KeepChunk,
    StaleHandle,
    Panic,
    Clear,
}

type Ended = Result<(), Failure>;

impl Action {
    pub(super) const ALL: [(Self, &'static str, u32); 23] = [
        (Self::Exchange, "exchange", 30),
        (Self::WithConnection, "with_connection", 6),
        (Self::ReadParts, "read in parts", 8),
        (Self::ReadChunks, "read chunks", 8),
        (Self::ReadCancelled, "reads cancelled", 8),
        (Self::WriteOwned, "write_owned", 8),
        (Self::Pipeline, "pipeline", 6),
        (Self::OneWay, "one way", 4),
        (Self::TryGet, "try_get", 4),
        (Self::DropAfterPolls, "dropped after polls", 8),
        (Self::DropAfterTime, "dropped after time", 6),
        (Self::AbortTask, "task aborted", 3),
        (Self::DropGets, "gets dropped", 5),
        (Self::UnfinishedWrite, "unfinished write", 3),
        (Self::UnfinishedOwned, "unfinished write_owned", 3),
        (Self::DropUnused, "dropped unused", 2),
        (Self::DropUnanswered, "dropped unanswered", 3),
        (Self::Close, "close", 2),
        (Self::HalfClose, "half-close", 3),
        (Self::KeepChunk, "chunk kept", 3),
        (Self::StaleHandle, "handle kept", 2),
        (Self::Panic, "panic", 2),
        (Self::Clear, "clear_endpoint", 1),
    ];

    pub(super) fn draw(rng: &mut Rng) -> Self {
        let all: u32 = Self::ALL.iter().map(|(.., weight)| weight).sum();
        let mut drawn = rng.u32(..all);
        for (action, _, weight) in Self::ALL {
            if drawn < weight {
                return action;
            }
            drawn -= weight;
        }
        Self::Exchange
    }
}

/// One action of one client, on one server.
pub(super) struct Act {
    pub(super) shard: Rc<Shard>,
    pub(super) server: usize,
    pub(super) rng: Rng,
}

impl Act {
    pub(super) async fn run(mut self, action: Action) -> Ended {
        match action {
            Action::Exchange | Action::AbortTask => self.exchange(How::Exact).await,
            Action::ReadParts => self.exchange(How::Parts).await,
            Action::ReadChunks => self.exchange(How::Chunks).await,
            Action::ReadCancelled => self.exchange(How::Cancelled).await,
            Action::WithConnection => self.with_connection().await,
            Action::WriteOwned => self.write_owned().await,
            Action::Pipeline => self.pipeline().await,
            Action::OneWay => self.one_way().await,
            Action::TryGet => self.try_get().await,
            Action::DropAfterPolls => {
                let polls = self.rng.usize(1..40);
                let exchange = self.exchange(How::Parts);
                poll_times(exchange, polls).await.unwrap_or(Ok(()))
            }
            Action::DropAfterTime => {
                let time = Duration::from_micros(self.rng.u64(..5000));
                let exchange = self.exchange(How::Exact);
                timeout(time, exchange).await.unwrap_or(Ok(()))
            }
            Action::DropGets => self.drop_gets().await,
            Action::UnfinishedWrite => self.unfinished_write().await,
            Action::UnfinishedOwned => self.unfinished_owned().await,
            Action::DropUnused => self.get().await.map(drop),
            Action::DropUnanswered => self.drop_unanswered().await,
            Action::Close => {
                self.get().await?.close();
                Ok(())
            }
            Action::HalfClose => self.half_close().await,
            Action::KeepChunk => self.keep_chunk().await,
            Action::StaleHandle => self.stale_handle().await,
            Action::Panic => self.panic().await,
            Action::Clear => {
                self.handle().clear();
                Ok(())
            }
        }
    }

    fn handle(&self) -> &EndpointHandle {
        &self.shard.handles[self.server]
    }

    async fn get(&self) -> Result<Conn, Failure> {
        Ok(self.handle().get().await?)
    }

    /// A request of some length; most are short.
    fn request(&mut self) -> Request {
        let mut length = || match self.rng.u32(..20) {
            0 => self.rng.u32(..80_000),
            1..5 => self.rng.u32(..8_000),
            _ => self.rng.u32(..200),
        };
        let (len, answer) = (length(), length());
        Request::new(self.shard.run.next_id(), self.server, len, answer)
    }

    /// A request that does not fit into what a connection may hold unsent.
    fn long_request(&mut self) -> Request {
        let len = self.rng.u32(60_000..200_000);
        Request::new(self.shard.run.next_id(), self.server, len, 10)
    }

    fn answered(&self, conn: Conn) -> Ended {
        self.shard.checked.set(self.shard.checked.get() + 1);
        conn.release();
        Ok(())
    }

    async fn exchange(&mut self, how: How) -> Ended {
        let request = self.request();
        let conn = self.get().await?;
        request.exchange(&conn, how, &mut self.rng).await?;
        self.answered(conn)
    }

    async fn with_connection(&mut self) -> Ended {
        let (request, mut rng) = (self.request(), self.rng.fork());
        let name = &*self.shard.run.names[self.server];
        let work = async |conn: &Conn| request.exchange(conn, How::Exact, &mut rng).await;
        Pool::local()?.with_connection(name, work).await?;
        self.shard.checked.set(self.shard.checked.get() + 1);
        Ok(())
    }

    async fn write_owned(&mut self) -> Ended {
        let request = self.request();
        let conn = self.get().await?;
        let frame = request.frame();
        let sent = frame.len();
        let (written, back) = conn.write_owned(frame).await;
        if back.len() != sent {
            return Err(wrong("write_owned gave another buffer back"));
        }
        match written {
            Ok(written) if written == sent => {}
            Ok(_) => return Err(wrong("write_owned wrote a part and says it ended well")),
            Err(error) => return Err(from_io(error)),
        }
        request
            .read_answer(&conn, How::Exact, &mut self.rng)
            .await?;
        self.answered(conn)
    }

    async fn pipeline(&mut self) -> Ended {
        let requests: Vec<Request> = (0..self.rng.usize(2..8)).map(|_| self.request()).collect();
        let conn = self.get().await?;
        let frames: Vec<Vec<u8>> = requests.iter().map(|request| request.frame()).collect();
        // Nobody reads meanwhile: if the answers are long, this ends by the write's time limit.
        conn.write_all(&frames.concat()).await?;
        for request in requests {
            let how = [How::Exact, How::Parts, How::Cancelled][self.rng.usize(..3)];
            request.read_answer(&conn, how, &mut self.rng).await?;
            self.shard.checked.set(self.shard.checked.get() + 1);
        }
        conn.release();
        Ok(())
    }

    async fn one_way(&mut self) -> Ended {
        let request = self.request().one_way();
        let conn = self.get().await?;
        conn.write_all(&request.frame()).await?;
        conn.flush().await?;
        conn.release();
        Ok(())
    }

    async fn try_get(&mut self) -> Ended {
        let request = self.request();
        let Some(conn) = self.handle().try_get()? else {
            return Ok(());
        };
        request.exchange(&conn, How::Exact, &mut self.rng).await?;
        self.answered(conn)
    }

    /// Some gets at once, all of them dropped: some wait, some have been granted a connection.
    async fn drop_gets(&mut self) -> Ended {
        let polls = self.rng.usize(1..6);
        let handle = self.handle().clone();
        let gets: Vec<_> = (0..self.rng.usize(1..8))
            .map(|_| {
                let handle = handle.clone();
                ringpool::spawn(async move { poll_times(handle.get(), polls).await.map(drop) })
            })
            .collect();
        for get in gets {
            get.await?;
        }
        Ok(())
    }

    /// Half a request is with the kernel: nobody else may have the connection, though it is
    /// released. Else the next request would be taken for the rest of this one.
    async fn unfinished_write(&mut self) -> Ended {
        let request = self.long_request();
        let conn = self.get().await?;
        let polls = self.rng.usize(1..4);
        match poll_times(conn.write_all(&request.frame()), polls).await {
            Some(written) => {
                written?;
                request
                    .read_answer(&conn, How::Exact, &mut self.rng)
                    .await?;
                self.answered(conn)
            }
            None => {
                conn.release();
                Ok(())
            }
        }
    }

    async fn unfinished_owned(&mut self) -> Ended {
        let request = self.long_request();
        let conn = self.get().await?;
        let polls = self.rng.usize(1..4);
        match poll_times(conn.write_owned(request.frame()), polls).await {
            Some((written, _)) => {
                written.map_err(from_io)?;
                request
                    .read_answer(&conn, How::Exact, &mut self.rng)
                    .await?;
                self.answered(conn)
            }
            None => {
                conn.release();
                Ok(())
            }
        }
    }

    async fn drop_unanswered(&mut self) -> Ended {
        let request = self.request();
        let conn = self.get().await?;
        conn.write_all(&request.frame()).await?;
        let some = self.rng.usize(..100);
        let _part = poll_times(conn.read_exact(&mut vec![0; some]), 2).await;
        Ok(())
    }

    /// The server reads the end after the request, answers, and ends too.
    async fn half_close(&mut self) -> Ended {
        let request = self.request();
        let conn = self.get().await?;
        conn.write_all(&request.frame()).await?;
        conn.shutdown().await?;
        request
            .read_answer(&conn, How::Exact, &mut self.rng)
            .await?;
        self.shard.checked.set(self.shard.checked.get() + 1);
        match &conn.read_to_end(1000).await?[..] {
            [] => Ok(()),
            rest if frame::is_unsolicited(rest) => Err(Failure::Unsolicited),
            rest => Err(wrong(format!("\"{}\" before the end", rest.escape_ascii()))),
        }
    }

    /// A piece that outlives its connection, and perhaps the next user of it.
    async fn keep_chunk(&mut self) -> Ended {
        let request = self.request();
        let conn = self.get().await?;
        conn.write_all(&request.frame()).await?;
        let chunk = conn.read_chunk().await?;
        let before = chunk.as_ref().map(|chunk| chunk.to_vec());
        drop(conn);
        for _ in 0..self.rng.usize(..20) {
            tokio::task::yield_now().await;
        }
        match chunk.as_deref() == before.as_deref() {
            true => Ok(()),
            false => Err(wrong("a lent buffer was written to")),
        }
    }

    /// A handle that is used after its connection was given back must not reach the next user's.
    async fn stale_handle(&mut self) -> Ended {
        let request = self.request();
        let conn = self.get().await?;
        request.exchange(&conn, How::Exact, &mut self.rng).await?;
        let stream = conn.stream().clone();
        self.answered(conn)?;
        let worked = stream.write_all(b"stale").await.is_ok()
            || stream.read(&mut [0; 8]).await.is_ok()
            || stream.flush().await.is_ok();
        match worked {
            false => Ok(()),
            true => Err(wrong("a handle worked after its connection was released")),
        }
    }

    /// A task that panics with a connection in its hands, in the middle of a message.
    async fn panic(&mut self) -> Ended {
        let (request, handle) = (self.request(), self.handle().clone());
        let half = self.rng.bool();
        let task = ringpool::spawn(async move {
            let conn = handle.get().await?;
            if half {
                conn.write_all(&request.frame()).await?;
            }
            // As a panic, without the report on the error stream.
            std::panic::resume_unwind(Box::new("planned"));
            #[allow(unreachable_code)]
            Ok::<(), Error>(())
        });
        match task.await {
            Ok(ended) => Ok(ended?),
            Err(error) if error.kind() == ErrorKind::Panicked => Ok(()),
            Err(error) => Err(wrong(format!("a panic arrived as {error:?}"))),
        }
    }
}

fn wrong(text: impl Into<String>) -> Failure {
    Failure::Wrong(text.into())
}

/// The error of the pool inside of an I/O error.
fn from_io(error: std::io::Error) -> Failure {
    match error.downcast::<Error>() {
        Ok(error) => Failure::Pool(error),
        Err(error) => wrong(format!("{error}, without an error of the pool")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_stands_at_its_number_and_is_drawn() {
        let mut seen = [0; Action::ALL.len()];
        let mut rng = Rng::with_seed(1);
        for _ in 0..10_000 {
            seen[Action::draw(&mut rng) as usize] += 1;
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
        for (number, (action, ..)) in Action::ALL.iter().enumerate() {
            assert_eq!(*action as usize, number);
        }
    }
}
