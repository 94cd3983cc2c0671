//! The clients of a schedule: they get connections, ask and read answers, and do what users do
//! wrong.
//!
//! Promise: what a client cannot explain by a fault it reports.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Injected;
use super::truth::{ANSWER_HEAD, JUNK, TELL, Truth, pattern, request};
use crate::conn::Conn;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::{Fault, Machine};
use crate::policy::Rng;
use crate::pool::{EndpointHandle, Pool};
use crate::protocol::{Access, Plain, Protocol};
use crate::stream::Stream;
use crate::time::Tick;

/// What a core's handles leave behind, to be dropped when the core is long gone.
pub(super) type Attic = Rc<RefCell<Vec<(usize, Box<dyn std::any::Any>)>>>;

/// One client.
pub(super) struct Client {
    pub(super) core: usize,
    pub(super) machine: Machine,
    pub(super) truth: Truth,
    pub(super) rng: Rng,
    pub(super) name: String,
    pub(super) attic: Attic,
    /// How long a get may take, whatever happens.
    pub(super) patience: Duration,
    pub(super) keeps_handles: bool,
    /// A handle on the last connection that it gave back.
    pub(super) old: Option<Stream>,
}

/// Why a client gives a connection up.
pub(super) type Given<T> = std::result::Result<T, Trouble>;

pub(super) enum Trouble {
    /// The pool or the peer failed, as they may.
    Failed(Error),
    /// The client's own future was dropped where it waited.
    Dropped,
    /// The same, between two writes of one message: that the rest is missing only the client knows.
    Halfway,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Failed(error)
    }
}

impl Client {
    /// Does `rounds` things.
    pub(super) async fn run(mut self, rounds: u64) {
        for _ in 0..rounds {
            let Ok(pool) = Pool::local() else { return };
            match self.rng.below(20) {
                0 => drop(pool.clear_endpoint(self.name.as_str())),
                1 => {
                    let pause = Duration::from_millis(self.rng.below(200));
                    self.sleep(pause).await;
                }
                2 => self.look(&pool),
                3..=5 => {
                    let greeter = Greeter {
                        truth: self.truth.clone(),
                        shared: 1 + self.rng.below(3) as u32,
                    };
                    let handle = pool.protocol(greeter).endpoint(self.name.as_str());
                    if let Ok(handle) = handle {
                        self.hold(&handle).await;
                    }
                }
                _ => {
                    if let Ok(handle) = pool.endpoint(self.name.as_str()) {
                        let _given_up = self.exchange(&handle).await;
                    }
                }
            }
        }
    }

    async fn sleep(&self, time: Duration) {
        let until = self.machine.now().plus(time);
        self.machine.sleep_until(until).await;
    }

    /// Takes what is idle, if anything is.
    fn look(&self, pool: &Pool) {
        if let Ok(Some(conn)) = pool.try_get(self.name.as_str()) {
            conn.release();
        }
    }

    /// Gets a connection and holds it for a while.
    async fn hold<P: Protocol>(&mut self, handle: &EndpointHandle<P>) {
        if let Ok(conn) = self.get(handle).await {
            let time = Duration::from_micros(self.rng.below(20_000));
            self.sleep(time).await;
            conn.release();
        }
    }

    async fn get<P: Protocol>(&mut self, handle: &EndpointHandle<P>) -> Given<Conn<P>> {
        let began = self.machine.now();
        let polls = self.polls(Fault::DropWaiting);
        let got = DropAfter::new(handle.get(), polls).await;
        let took = self.machine.now().since(began);
        if took > self.patience {
            let text = format!("I7: a get took {took:?}, at most {:?}", self.patience);
            self.truth.violate(text);
        }
        let got = got.ok_or(Trouble::Dropped)?;
        if let Err(error) = &got {
            self.count(error);
        }
        Ok(got?)
    }

    fn count(&self, error: &Error) {
        if error.kind() == ErrorKind::Exhausted {
            self.machine
                .with(|state| state.faults.count(Fault::TooManyWaiters));
        }
    }

    /// After how many polls what can wait is dropped, if at all.
    fn polls(&mut self, fault: Fault) -> Option<u64> {
        self.truth.hit(fault).then(|| 1 + self.rng.below(4))
    }

    /// Asks one to three things on one connection.
    pub(super) async fn exchange(&mut self, handle: &EndpointHandle) -> Given<()> {
        let conn = self.get(handle).await?;
        // Perhaps on this very connection, but from an earlier checkout (I2).
        self.try_old();
        for _ in 0..1 + self.rng.below(3) {
            let number = self.truth.ask();
            let (wanted, len) = (self.size(), self.size());
            if let Err(trouble) = self.write(&conn, request(number, wanted, len)).await {
                if matches!(trouble, Trouble::Dropped) {
                    // Given back as if all were well, which the pool must see through.
                    self.truth.abandon(number);
                    conn.release();
                }
                return Err(trouble);
            }
            if self.truth.hit(Fault::UnreadReturn) {
                self.truth.abandon(number);
                conn.release();
                return Ok(());
            }
            self.read_answer(&conn, number, wanted).await?;
            self.truth.answered();
        }
        self.part(conn);
        Ok(())
    }

    /// Mostly small, sometimes more than every buffer holds.
    fn size(&mut self) -> u32 {
        match self.rng.below(10) {
            0 => self.rng.below(12_000) as u32,
            1..=3 => self.rng.below(1500) as u32,
            _ => self.rng.below(60) as u32,
        }
    }

    /// Gives the connection back, or does what users do.
    fn part(&mut self, conn: Conn) {
        if self.truth.hit(Fault::PanicHolding) {
            std::panic::panic_any(Injected);
        }
        if self.keeps_handles && self.rng.below(3) == 0 {
            self.attic.borrow_mut().push((self.core, Box::new(conn)));
        } else if self.truth.may_forget() {
            std::mem::forget(conn);
        } else if self.rng.below(12) == 0 {
            drop(conn);
        } else {
            self.old = Some(conn.stream().clone());
            conn.release();
        }
    }

    /// A handle that was kept must do nothing any more.
    fn try_old(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Some(old) = self.old.take()
            && !matches!(old.poll_write(&mut cx, &[JUNK]), Poll::Ready(Err(_)))
        {
            self.truth
                .violate("I2: a handle of an earlier checkout still writes".to_owned());
        }
    }

    async fn write(&mut self, conn: &Conn, bytes: Vec<u8>) -> Given<()> {
        let polls = self.polls(Fault::DropWriting);
        match self.rng.below(4) {
            0 => {
                let written = DropAfter::new(conn.write_owned(bytes), polls);
                let Some(written) = self.within_a_minute(written).await else {
                    return Err(Trouble::Dropped);
                };
                let (written, _bytes) = written.ok_or(Trouble::Dropped)?;
                written.map_err(|error| Error::from_source(ErrorKind::Io, error))?;
            }
            1 => {
                let cut = self.rng.below(bytes.len() as u64) as usize;
                conn.write_all(&bytes[..cut]).await?;
                let rest = DropAfter::new(conn.write_all(&bytes[cut..]), polls).await;
                rest.ok_or(Trouble::Halfway)??;
            }
            2 => {
                conn.write_all(&bytes).await?;
                DropAfter::new(conn.flush(), polls)
                    .await
                    .ok_or(Trouble::Dropped)??;
            }
            _ => {
                let written = DropAfter::new(conn.write_all(&bytes), polls).await;
                written.ok_or(Trouble::Dropped)??;
            }
        }
        Ok(())
    }

    /// A kernel that has lost a completion (EBADR) may keep a buffer for ever, and its writer waits
    /// as long. Anything else ends in time.
    async fn within_a_minute<F: Future>(&self, future: F) -> Option<F::Output> {
        let late = self
            .machine
            .now()
            .plus(Duration::from_secs(60))
            .plus(self.patience);
        let late = self.machine.sleep_until(late);
        let done = crate::ring::until(late, future).await;
        let has_died = |state: &mut crate::machine::State| state.faults.happened(Fault::RingDies);
        if done.is_none() && !self.machine.with(has_died) {
            self.truth
                .violate("I7: an owned write does not end".to_owned());
        }
        done
    }

    async fn read_answer(&mut self, conn: &Conn, number: u64, wanted: u32) -> Given<()> {
        let mut bytes = vec![0; ANSWER_HEAD + wanted as usize];
        // A read that is dropped takes nothing: the next one begins where it began.
        if let Some(polls) = self.polls(Fault::DropReading)
            && let Some(read) = DropAfter::new(conn.read_exact(&mut bytes), Some(polls)).await
        {
            read?;
            return self.check_answer(number, wanted, &bytes);
        }
        if self.rng.below(3) == 0 {
            let (head, body) = bytes.split_at_mut(ANSWER_HEAD);
            conn.read_exact(head).await?;
            conn.read_exact(body).await?;
        } else {
            conn.read_exact(&mut bytes).await?;
        }
        self.check_answer(number, wanted, &bytes)
    }

    /// It must be the answer to this very request, and nothing else.
    fn check_answer(&self, number: u64, wanted: u32, bytes: &[u8]) -> Given<()> {
        if bytes.iter().take(ANSWER_HEAD).any(|byte| *byte == JUNK) && bytes[0] == JUNK {
            // The server spoke out of turn while this client had the connection.
            let text = "the server sent what nobody asked for";
            return Err(Error::new(ErrorKind::Protocol, text).into());
        }
        let named = bytes[2..10]
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
        let body = &bytes[ANSWER_HEAD..];
        let mut expected = (0..wanted).map(|at| pattern(!number, at));
        let right = bytes.starts_with(TELL)
            && named == number
            && body.iter().all(|byte| expected.next() == Some(*byte));
        let babbled = self
            .machine
            .with(|state| state.faults.may(Fault::Unsolicited));
        let excused = self.truth.is_abandoned(named) || (babbled && bytes.contains(&JUNK));
        if !right && !excused {
            let start = bytes[..ANSWER_HEAD].escape_ascii();
            self.truth
                .violate(format!("I3: request {number} got another's bytes: {start}"));
        }
        if right {
            return Ok(());
        }
        let text = "the server sent what nobody asked for";
        Err(Error::new(ErrorKind::Protocol, text).into())
    }
}

/// A protocol that greets, and shares its connections.
pub(super) struct Greeter {
    truth: Truth,
    shared: u32,
}

impl Greeter {
    async fn greet(&self, stream: &Stream) -> Result<()> {
        let number = self.truth.ask();
        stream.write_all(&request(number, 4, 4)).await?;
        let mut bytes = [0; ANSWER_HEAD + 4];
        stream.read_exact(&mut bytes).await?;
        match bytes.starts_with(TELL) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Protocol, "not a greeting")),
        }
    }
}

impl Protocol for Greeter {
    type State = u32;

    fn key(&self) -> String {
        self.shared.to_string()
    }

    async fn init(&self, stream: Stream) -> Result<u32> {
        self.greet(&stream).await?;
        Ok(self.shared)
    }

    fn access(&self, shared: &u32) -> Access {
        match shared {
            1 => Access::Exclusive,
            many => Access::Shared(*many),
        }
    }

    fn checks_health(&self) -> bool {
        self.shared == 1
    }

    async fn is_healthy(&self, stream: Stream, _state: Rc<u32>) -> bool {
        self.greet(&stream).await.is_ok()
    }

    fn on_idle_bytes(&self, _state: &u32, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| *byte == JUNK)
    }
}

/// Gives a future up after it had to wait so many times, each counted twice: at an odd number where
/// it waits, at an even one when it is woken and has not looked yet.
pub(super) struct DropAfter<F> {
    future: Option<Pin<Box<F>>>,
    left: Option<u64>,
}

impl<F: Future> DropAfter<F> {
    pub(super) fn new(future: F, polls: Option<u64>) -> Self {
        Self {
            future: Some(Box::pin(future)),
            left: polls,
        }
    }
}

impl<F: Future> Future for DropAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == Some(0) {
            self.future = None;
            return Poll::Ready(None);
        }
        let Some(future) = &mut self.future else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            self.future = None;
            return Poll::Ready(Some(value));
        }
        if let Some(left) = &mut self.left {
            let now = *left == 1;
            *left = left.saturating_sub(2);
            if now {
                self.future = None;
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }
}

/// One exchange that must succeed now that nothing goes wrong, tried a few times: what went wrong
/// before may still have to be found out.
pub(super) async fn must_succeed(mut client: Client, until: Tick) {
    let mut last = String::new();
    while client.machine.now() < until {
        let Ok(pool) = Pool::local() else { return };
        let Ok(handle) = pool.endpoint(client.name.as_str()) else {
            return;
        };
        match client.exchange(&handle).await {
            Ok(()) => return,
            Err(Trouble::Failed(error)) => last = error.to_string(),
            Err(Trouble::Dropped | Trouble::Halfway) => {}
        }
        client.sleep(Duration::from_millis(50)).await;
    }
    let (core, name) = (client.core, &client.name);
    client.truth.violate(format!(
        "liveness: core {core} gets nothing from {name}: {last}"
    ));
}

/// Holds a connection until the others have theirs.
pub(super) async fn hold_one(client: Client, until: Tick) {
    let Ok(handle) = Pool::<Plain>::local().and_then(|pool| pool.endpoint(client.name.as_str()))
    else {
        return;
    };
    if let Ok(conn) = handle.get().await {
        client.machine.sleep_until(until).await;
        conn.release();
    }
}
