//! The shell, the policy, the ring and the shares each keep their own account of a connection. In a
//! simulated world they are compared after every step.
//!
//! Promise: it changes nothing and finds what it names; each finding begins with the invariant that
//! is broken (`docs/faults.md`).

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use super::Shard;
use super::cells::{ConnCell, Cut, Stage};
use super::core::Core;
use super::deferred::Call;
use super::resolve::MAX_RUNNING;
use crate::policy::event::{ConnKey, EndpointKey, Event};
use crate::share::{MAX_NAMES, MAX_SHARDS};

/// What a shard has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audit {
    /// Connections, from dialing to closed.
    pub(crate) connections: usize,
    pub(crate) waiters: usize,
    pub(crate) buffers_lent: usize,
    pub(crate) ended: bool,
    /// Its ring can do no more.
    pub(crate) dead: bool,
}

impl Shard {
    /// Compares the accounts.
    ///
    /// # Errors
    ///
    /// What does not agree.
    pub(crate) fn audit(&self) -> Result<Audit, String> {
        self.enter(|core| core.audit())
    }

    /// Whether another core has waited for `long` for what this one has idle.
    ///
    /// # Errors
    ///
    /// For what.
    pub(crate) fn withholds(&self, long: Duration) -> Result<(), String> {
        self.enter(|core| core.withholds(long))
    }

    /// Who waits for what.
    pub(crate) fn waits(&self) -> Vec<(Waker, String)> {
        self.enter(|core| core.waits())
    }
}

impl Core {
    /// Counts that the state of what `event` is about met it.
    pub(crate) fn cover(&self, event: &Event, endpoint: Option<EndpointKey>) {
        let conn = match event {
            Event::Connected { conn }
            | Event::ConnectFailed { conn, .. }
            | Event::Initialised { conn, .. }
            | Event::InitFailed { conn, .. }
            | Event::Broken { conn, .. }
            | Event::HealthChecked { conn, .. }
            | Event::Given { conn }
            | Event::GiveFailed { conn, .. }
            | Event::Received { conn, .. }
            | Event::Closed { conn } => Some(*conn),
            _ => None,
        };
        let state = match (conn, endpoint) {
            (Some(conn), _) => self.policy.seen(conn).map_or("Gone", |seen| seen.stage),
            (None, Some(endpoint)) => self.policy.seen_endpoint(endpoint),
            (None, None) => "Pool",
        };
        self.host.cover(state, event.name());
    }

    /// Counts that an endpoint was told something while its next connection waits for a slot.
    pub(crate) fn count_parked(&self, endpoint: EndpointKey) {
        if self.policy.is_parked(endpoint) {
            self.host.lacks_slot();
        }
    }

    fn audit(&mut self) -> Result<Audit, String> {
        let (free, all) = self.backend.buffers();
        let audit = Audit {
            connections: self.cells.iter().count(),
            waiters: self.waiters.len(),
            buffers_lent: all - free,
            ended: self.ended,
            dead: self.dead.is_some(),
        };
        if self.ended || self.dead.is_some() {
            if !self.lookups.are_over() {
                return Err("I4: a core that can do no more asks for names".to_owned());
            }
            return Ok(audit);
        }
        catch_unwind(AssertUnwindSafe(|| self.policy.check()))
            .map_err(|panic| format!("I4: the policy's accounts: {}", words(&*panic)))?;
        self.backend.audit()?;
        self.check_bounds()?;
        if !self.policy.has_work() {
            for cell in self.cells.iter() {
                self.check_cell(cell)?;
            }
            let (own, known) = (audit.connections, self.policy.conn_count());
            if own != known {
                return Err(format!(
                    "I4: {own} cells, {known} connections in the policy"
                ));
            }
            self.check_permits()?;
            self.check_board()?;
        }
        Ok(audit)
    }

    /// Every table has its bound (I8).
    fn check_bounds(&self) -> Result<(), String> {
        let bound = |what: &str, count: usize, most: usize| match count > most {
            true => Err(format!("I8: {count} {what}, at most {most}")),
            false => Ok(()),
        };
        let slots = self.config.max_connections_per_shard;
        bound("timers", self.timer_count(), 65 + 2 * slots)?;
        let (jobs, resolving) = self.lookups.counts();
        bound("running lookups", jobs, MAX_RUNNING)?;
        let tasks = self.lookups.tasks.len();
        bound("resolutions", resolving, self.config.max_endpoints + tasks)?;
        bound("tasks that resolve", tasks, self.config.max_waiters)?;
        let (names, asked) = self.links.registry().names().counts();
        bound("names", names, MAX_NAMES)?;
        bound("questions asked", asked, MAX_SHARDS * MAX_RUNNING)?;
        bound("owned writes", self.owned.len(), slots)?;
        bound("connections that are given", self.handover.giving(), slots)?;
        bound("connections to see", self.handover.unseen(), slots)?;
        let waiters = self.config.max_waiters * self.endpoints.iter().count().max(1);
        // Served waiters that have not looked are the policy's no more.
        bound("waiters", self.waiters.len(), waiters + slots * 64)
    }

    fn check_cell(&self, cell: &ConnCell) -> Result<(), String> {
        let conn = cell.conn;
        let Some(seen) = self.policy.seen(conn) else {
            return Err(format!("I4: {conn:?} has a cell and is not in the policy"));
        };
        if seen.uses != cell.holders {
            let (uses, holders) = (seen.uses, cell.holders);
            return Err(format!(
                "I2: {conn:?} has {uses} uses and {holders} holders"
            ));
        }
        if seen.uses > seen.capacity {
            return Err(format!(
                "I2: {conn:?} has {} users, capacity {}",
                seen.uses, seen.capacity
            ));
        }
        self.check_looked_at(cell, seen.looked_at, seen.stage == "Checking")?;
        if seen.idle && cell.is_idle() && cell.cut == Cut::No {
            self.check_idle(cell)?;
        }
        Ok(())
    }

    /// What is looked at is nobody's, is on its way to be seen, and has a deadline; the policy waits for
    /// no look that nobody takes.
    fn check_looked_at(
        &self,
        cell: &ConnCell,
        is_known: bool,
        is_checking: bool,
    ) -> Result<(), String> {
        let conn = cell.conn;
        let Stage::Looked(until) = cell.stage else {
            return match is_known && !cell.is_closing() {
                true => Err(format!("I7: {conn:?} waits to be looked at in vain")),
                false => Ok(()),
            };
        };
        if !is_checking || cell.holders > 0 {
            return Err(format!(
                "I2: {conn:?} is looked at and somebody's: {}, the policy's view: {is_checking}",
                cell.holders
            ));
        }
        let is_coming = self.backend.owes_watched(conn.0) || self.is_unseen(conn);
        // What came meanwhile is told first.
        if !is_coming && !self.backend.has_completions() {
            return Err(format!("I7: nobody will look at {conn:?}"));
        }
        let is_offered = cell.is_packed || cell.reads_for_itself() || self.offers(conn);
        if self.backend.unread(conn.0) > 0 && !is_offered && !self.backend.has_completions() {
            return Err(format!("I7: nobody is offered what came for {conn:?}"));
        }
        match cell.timed <= until {
            true => Ok(()),
            false => Err(format!("I7: {conn:?} is looked at without a deadline")),
        }
    }

    /// Whether what came for it is about to be offered to its protocol.
    fn offers(&self, conn: ConnKey) -> bool {
        let mut calls = self.deferred.calls.iter();
        calls.any(|call| matches!(call, Call::IdleBytes { conn: of } if *of == conn))
    }

    /// What is idle may be handed out at any moment: it must be clean (I3).
    fn check_idle(&self, cell: &ConnCell) -> Result<(), String> {
        let conn = cell.conn;
        let dirt = [
            (cell.torn, "a torn write"),
            (!cell.front.is_empty(), "bytes put back"),
            (self.backend.unread(conn.0) > 0, "unread bytes"),
            (self.backend.unsent(conn.0) > 0, "unsent bytes"),
            (cell.failure.is_some(), "a failure"),
            (cell.end.is_some(), "an end of the stream"),
        ];
        match dirt.iter().find(|(is, _)| *is) {
            Some((_, what)) => Err(format!("I3: {conn:?} is idle with {what}")),
            None => Ok(()),
        }
    }

    /// The permits that the cores share and those that the policy counts.
    fn check_permits(&self) -> Result<(), String> {
        for entry in self.endpoints.iter() {
            let held = entry.shared.held(self.links.shard());
            let own = self.policy.permits_held(entry.key);
            let moved = entry.shared.moved(self.links.shard());
            let own = own + entry.shared.inherited(self.links.shard());
            // A grant that the shard has not collected is held already; a connection that another
            // core took, and that has not been answered for, is not any more. What a core that has
            // ended may have left here has a permit without being a connection.
            if held + moved != own && held + moved != own + 1 {
                return Err(format!(
                    "I13: {} holds {own} permits by its policy, {held} by the shares",
                    entry.endpoint
                ));
            }
            if entry.shared.in_use() > entry.shared.limit() {
                return Err(format!("I13: {} is above its limit", entry.endpoint));
            }
        }
        Ok(())
    }

    /// What the other cores balance by is what this core has.
    fn check_board(&self) -> Result<(), String> {
        for entry in self.endpoints.iter() {
            let board = entry.shared.board();
            for address in board.columns().into_iter().map(|column| column.address) {
                let shown = board.held(self.links.shard(), address);
                let own = self.cells.iter();
                let own = own.filter(|it| it.endpoint == entry.key && it.address == address);
                let own = own.count();
                if shown as usize != own {
                    return Err(format!(
                        "I14: the board shows {shown} connections to {address}, there are {own}"
                    ));
                }
            }
            let waits = entry.queued.and(self.policy.oldest_wait(entry.key));
            let (told, shown) = (entry.queued, board.wait_of(self.links.shard()));
            if entry.is_published() && (shown != told || waits.is_some_and(|it| Some(it) != told)) {
                return Err(format!(
                    "I14: {} is waited for since {waits:?}, the queue has {told:?}, the board {shown:?}",
                    entry.endpoint
                ));
            }
        }
        Ok(())
    }

    fn withholds(&self, long: Duration) -> Result<(), String> {
        for entry in self.endpoints.iter() {
            let idle = self.policy.figures(entry.key).map_or(0, |it| it.idle);
            let since = entry.shared.demand(self.links.shard());
            if let Some(waited) = since.map(|since| self.now.since(since))
                && idle > 0
                && waited > long
            {
                let to = &entry.endpoint;
                return Err(format!(
                    "I14: another core waits for {to} since {waited:?}, {idle} are idle here"
                ));
            }
        }
        Ok(())
    }

    fn waits(&self) -> Vec<(Waker, String)> {
        let label = |endpoint: EndpointKey| {
            let entry = self.endpoints.get(endpoint);
            entry.map_or_else(
                || "an endpoint".to_owned(),
                |entry| entry.endpoint.to_string(),
            )
        };
        let mut all = Vec::new();
        for (endpoint, waker) in self.waiters.wakers() {
            all.push((
                waker.clone(),
                format!("a connection to {}", label(endpoint)),
            ));
        }
        for cell in self.cells.iter() {
            let (to, conn) = (label(cell.endpoint), cell.conn);
            let on = |what: &str, address: SocketAddr| {
                format!("{what} connection {conn:?} of {to} ({address})")
            };
            for waker in cell.read.waiting() {
                all.push((waker.clone(), on("bytes on", cell.address)));
            }
            for waker in cell.write.waiting() {
                all.push((waker.clone(), on("room to write on", cell.address)));
            }
        }
        for (conn, write) in &self.owned {
            if let Some(waker) = &write.waker {
                all.push((waker.clone(), format!("its buffer, written on {conn:?}")));
            }
        }
        for waker in &self.warming {
            all.push((waker.clone(), "connections to be ready".to_owned()));
        }
        for waker in &self.drained {
            all.push((waker.clone(), "the core to be drained".to_owned()));
        }
        all
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}
