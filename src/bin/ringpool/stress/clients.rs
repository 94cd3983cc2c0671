//! The clients of one shard: each gets a connection, writes a message, reads its echo, compares
//! every byte and releases the connection, once for each of its messages.
//!
//! Promise: no more clients are at work than the plan says; a failed message is counted and told,
//! and does not end the run, unless [`GIVE_UP`] of them have failed. A message whose connection was
//! cut by a server is sent again, where servers are to do that.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ringpool::{EndpointHandle, Error, ErrorKind, Pool, Result};

use super::message::MessageId;
use super::plan::Plan;
use crate::measure::Measured;
use crate::progress::Done;

/// Failed messages, over all shards, after which a run is hopeless. Each may have cost a time-out.
pub(crate) const GIVE_UP: u64 = 100;

/// How often one message is sent at most: the connections that a server has cut are not many.
const SENDS: usize = 10;

/// What the clients of all shards share.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) plan: Plan,
    /// Endpoints, by server.
    pub(crate) endpoints: Vec<String>,
    pub(crate) started: Instant,
    pub(crate) done: Arc<Done>,
    /// No client begins another message.
    pub(crate) ended: AtomicBool,
    pub(crate) failures: AtomicU64,
    /// Those failures that were no connection.
    pub(crate) failed_gets: AtomicU64,
    /// Messages that were sent again.
    pub(crate) resent: AtomicU64,
}

impl Run {
    fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.failures.load(Ordering::Relaxed) >= GIVE_UP
    }
}

/// What failed.
enum Failed {
    Get(Error),
    Exchange(Error),
}

/// What the clients of one shard share.
#[derive(Debug)]
struct Shard {
    run: Arc<Run>,
    number: usize,
    handles: Vec<EndpointHandle>,
    measured: RefCell<Measured>,
}

/// Runs the clients of shard `number`, on that shard.
pub(crate) async fn run_shard(run: Arc<Run>, number: usize) -> Result<Measured> {
    let pool = Pool::local()?;
    let handles: Result<Vec<_>> = run
        .endpoints
        .iter()
        .map(|name| pool.endpoint(name))
        .collect();
    let measured = RefCell::new(Measured::new(run.started));
    let waiting = Rc::new(RefCell::new(run.plan.clients_of(number)));
    let shard = Rc::new(Shard {
        run,
        number,
        handles: handles?,
        measured,
    });
    let places = 0..shard.run.plan.parallel_of(number);
    let tasks: Vec<_> = places
        .map(|_| {
            let (shard, waiting) = (shard.clone(), waiting.clone());
            ringpool::spawn(async move {
                loop {
                    // A statement of its own, so that the borrow ends before the client begins.
                    let next = waiting.borrow_mut().next();
                    let Some(client) = next else { return };
                    shard.run_client(client).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let finished = Measured::new(shard.run.started);
    Ok(shard.measured.replace(finished))
}

impl Shard {
    async fn run_client(&self, client: usize) {
        let plan = &self.run.plan;
        let endpoint = &self.handles[plan.server_of(client)];
        let mut sent = vec![0; plan.preset.message_bytes];
        let mut echo = vec![0; plan.preset.message_bytes];
        for index in 0..plan.preset.messages_of(client) {
            if self.run.is_over() {
                return;
            }
            let id = MessageId {
                client: client as u32,
                index,
            };
            id.fill(plan.seed, &mut sent);
            let began = Instant::now();
            match self.send(endpoint, id, &sent, &mut echo).await {
                Ok(()) => self.measured.borrow_mut().message(began),
                Err(error) => {
                    self.run.failures.fetch_add(1, Ordering::Relaxed);
                    let step = format!("sending message {index} of client {client}");
                    self.measured
                        .borrow_mut()
                        .error(error.context(step).to_string());
                }
            }
            self.run.done.add(self.number);
        }
    }
}

impl Shard {
    /// One message there and back, perhaps not at the first time.
    async fn send(
        &self,
        endpoint: &EndpointHandle,
        id: MessageId,
        sent: &[u8],
        echo: &mut [u8],
    ) -> Result<()> {
        let run = &self.run;
        let sends = match run.plan.preset.course.cuts_connections() {
            true => SENDS,
            false => 1,
        };
        for _ in 1..sends {
            match exchange(endpoint, id, sent, echo).await {
                Err(Failed::Exchange(error)) if error.is_closed() => {
                    run.resent.fetch_add(1, Ordering::Relaxed);
                }
                other => return self.told(other),
            }
        }
        self.told(exchange(endpoint, id, sent, echo).await)
    }

    fn told(&self, exchanged: Result<(), Failed>) -> Result<()> {
        exchanged.map_err(|failed| match failed {
            Failed::Exchange(error) => error,
            Failed::Get(error) => {
                self.run.failed_gets.fetch_add(1, Ordering::Relaxed);
                error
            }
        })
    }
}

/// One message there and back. An error drops the connection, which closes it.
async fn exchange(
    endpoint: &EndpointHandle,
    id: MessageId,
    sent: &[u8],
    echo: &mut [u8],
) -> Result<(), Failed> {
    let conn = endpoint.get().await.map_err(Failed::Get)?;
    let exchanged = async {
        conn.write_all(sent).await?;
        conn.read_exact(echo).await?;
        id.compare(sent, echo)
            .map_err(|text| Error::new(ErrorKind::Protocol, text))
    };
    exchanged.await.map_err(Failed::Exchange)?;
    conn.release();
    Ok(())
}
