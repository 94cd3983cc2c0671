//! `ringpool soak`: what wears a pool out is not load but everything that goes wrong, for long.
//!
//! Promise: a run passes only if every answer that a client read was the answer to its own request,
//! in full; every error was of a kind that the servers' faults explain; every client ended; as many
//! connections as the limit allows could be opened at once afterwards; and each of the
//! [`Values`](values::Values) is what it was after the warm-up. Else the exit status is 1 and the
//! error stream names what was wrong.
//!
//! The seed decides what is drawn. The order in which the kernel completes is its own: a run cannot
//! be repeated to the letter.

mod actions;
mod clients;
mod exchange;
mod faults;
mod frame;
mod report;
mod servers;
mod values;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringpool::{Config, Error, ErrorKind, HealthCheck, Hook, Pool, Resolver, Result, Shards};

use self::clients::{Account, Run};
use self::report::Report;
use self::servers::{SERVERS, Servers};
use self::values::{Told, Values};
use crate::args::SoakArgs;
use crate::limits;
use crate::output;
use crate::progress::Progress;

/// Connections to each server: few, so that cores compete for them.
const LIMIT: usize = 6;
/// Connections of each shard: fewer than to all servers, so that endpoints compete for them.
const PER_SHARD: usize = 16;
/// How long it may take until nothing is under way any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the soak and tells how it went. Says whether it passed.
pub(crate) fn run(args: &SoakArgs) -> Result<bool> {
    // Both ends of every connection, and those that a server has not seen the end of yet.
    limits::allow_descriptors(8 * SERVERS * LIMIT)?;
    let at_start = values::open_descriptors()?;
    let soak = Soak::start(args)?;
    let report = soak.run(args)?;
    output::print(&report.render())?;
    let mut failures = report.failures();
    soak.end();
    let at_end = values::open_descriptors()?;
    if at_end != at_start {
        failures.push(format!(
            "{at_end} descriptors are open after the shutdown, {at_start} were at the start"
        ));
    }
    for failure in &failures {
        eprintln!("  error: {failure}");
    }
    Ok(failures.is_empty())
}

struct Soak {
    shards: Shards,
    servers: Servers,
    run: Arc<Run>,
    told: Arc<Told>,
}

impl Soak {
    fn start(args: &SoakArgs) -> Result<Self> {
        let servers = Servers::start(args.seed).map_err(|error| {
            Error::from_source(ErrorKind::Io, error).context("starting the embedded servers")
        })?;
        let told = Arc::new(Told::default());
        let mut builder = Shards::builder().config(config(&told));
        if let Some(shards) = args.shards.and_then(|n| NonZeroUsize::new(n.into())) {
            builder = builder.shards(shards);
        }
        Ok(Self {
            shards: builder.build()?,
            run: Run::new(servers.names.clone(), args.seed),
            servers,
            told,
        })
    }

    fn run(&self, args: &SoakArgs) -> Result<Report> {
        let seconds = Duration::from_secs(args.seconds.into());
        let mut account = self.phase((seconds / 5).max(Duration::from_secs(1)))?;
        // Only what must not be is taken over from the warm-up.
        account.checked = 0;
        account.actions.fill(0);
        account.errors.clear();
        account.unsolicited = 0;
        let before = self.rest(None, &mut account)?;
        let (faults, answered) = (self.servers.seen.faults(), self.servers.seen.answered());

        let started = Instant::now();
        account.merge(self.phase(seconds)?);
        let seconds = started.elapsed().as_secs_f64();
        let stats = values::endpoint_stats(&self.shards, &self.run.names)?;
        let after = self.rest(Some(&before), &mut account)?;
        account.wrong.merge(self.servers.seen.take_wrong());
        let all_faults = self.servers.seen.faults().into_iter();
        Ok(Report {
            seed: args.seed,
            seconds,
            account,
            faults: all_faults.zip(faults).map(|(all, old)| all - old).collect(),
            answered: self.servers.seen.answered() - answered,
            stats,
            values: Values::compare(&before, &after),
        })
    }

    /// Clients and servers misbehave for a time.
    fn phase(&self, time: Duration) -> Result<Account> {
        self.servers.seen.calm_down(false);
        let started = Instant::now();
        let end = started + time;
        let progress = Progress::start("soak", Some(time.as_secs()), move || {
            started.elapsed().as_secs()
        });
        let mut running = Vec::with_capacity(self.shards.len());
        for shard in 0..self.shards.len() {
            let run = self.run.clone();
            let work = move || clients::run_shard(run, shard as u64, end);
            running.push(self.shards.run_on(shard, work)?);
        }
        let mut account = Account::default();
        for shard in running {
            account.merge(shard.wait()??);
        }
        drop(progress);
        Ok(account)
    }

    /// Faults end. Everything that is open is closed; then each shard must be able to hold as many
    /// connections as there may be, and to let go of them. What does not come true is told.
    fn rest(&self, before: Option<&Values>, account: &mut Account) -> Result<Values> {
        self.servers.seen.calm_down(true);
        self.wait_for("the servers do not listen", account, || {
            Ok(self.servers.seen.listening() == SERVERS)
        })?;
        self.close_all(account)?;
        for shard in 0..self.shards.len() {
            let run = self.run.clone();
            let filled = self.shards.run_on(shard, || clients::fill_up(run, LIMIT))?;
            if let Err(error) = filled.wait()? {
                let text = format!("holding {LIMIT} connections at once on shard {shard}: {error}");
                account.wrong.add(text);
            }
            self.close_all(account)?;
        }
        // The last ends of the servers' sockets are closed a moment after they are counted out.
        let of_before = before.map_or(u64::MAX, |before| before.descriptors);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let values = Values::take(&self.shards, &self.servers, &self.told)?;
            if values.descriptors <= of_before || Instant::now() > deadline {
                return Ok(values);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn close_all(&self, account: &mut Account) -> Result<()> {
        for shard in 0..self.shards.len() {
            let names = self.run.names.clone();
            let cleared = self.shards.run_on(shard, move || async move {
                let pool = Pool::local()?;
                names
                    .iter()
                    .try_for_each(|name| pool.clear_endpoint(&**name))
            })?;
            cleared.wait()??;
        }
        self.wait_for("something stays open", account, || {
            Ok(Values::take(&self.shards, &self.servers, &self.told)?.at_rest())
        })
    }

    /// Waits until `condition` holds; if it does not come true, that is wrong.
    fn wait_for(
        &self,
        otherwise: &str,
        account: &mut Account,
        condition: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition()? {
            if Instant::now() > deadline {
                let values = Values::take(&self.shards, &self.servers, &self.told)?;
                account.wrong.add(format!("{otherwise}: {values:?}"));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends the pool, then the servers.
    fn end(self) {
        self.shards.shutdown();
        drop(self.servers);
    }
}

/// Few of everything and short times, so that limits are reached and deadlines pass all the time.
fn config(told: &Arc<Told>) -> Config {
    let count = |of: fn(&Told) -> &AtomicU64| {
        let told = told.clone();
        Some(Hook::new(move |_| {
            of(&told).fetch_add(1, Ordering::SeqCst);
        }))
    };
    let asked = AtomicU64::new(0);
    let healthy = move |_: &_| !asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(16);
    let ms = Duration::from_millis;
    Config {
        max_connections_per_endpoint: LIMIT,
        max_connections_per_shard: PER_SHARD,
        max_waiters: 20,
        max_connecting: 3,
        get_timeout: ms(1000),
        connect_timeout: ms(300),
        connect_retry_count: 1,
        connect_retry_delay: ms(10),
        connect_retry_delay_max: ms(40),
        max_idle_time: ms(200),
        max_connection_lifetime: ms(3000),
        max_connection_uses: 500,
        read_timeout: ms(250),
        write_timeout: ms(250),
        health_check_after: ms(5),
        ring_entries: 64,
        recv_buffers: 64,
        recv_buffer_size: 2048,
        recv_limit: 16 * 1024,
        send_limit: 16 * 1024,
        // Servers are named by address. No name is asked for.
        resolver: Resolver::Servers(vec![([127, 0, 0, 1], 53).into()]),
        on_connection_created: count(|told| &told.created),
        on_connection_closed: count(|told| &told.closed),
        health_check: Some(HealthCheck::new(healthy)),
        ..Config::default()
    }
}
