//! What the policy wants, done.

use std::any::Any;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::hooks::ConnectionInfo;
use crate::policy::event::{
    Action, CloseReason, ConnKey, EndpointKey, Event, Hook, Return, WaiterKey,
};

use super::cells::{ConnCell, Cut, Stage};
use super::chunk::Chunk;
use super::core::Core;
use super::deferred::Call;
use super::erased::ConnectionProtocol;

/// Bytes that came while idle, the protocol that may take them, and the connection's state.
pub(crate) type IdlePiece = (
    Chunk,
    Option<Rc<dyn ConnectionProtocol>>,
    Option<Rc<dyn Any>>,
);

impl Core {
    pub(crate) fn perform(&mut self, action: Action) {
        self.touch_endpoint_of(&action);
        match action {
            Action::Resolve { endpoint } => self.resolve(endpoint),
            Action::AcquirePermit { endpoint } => self.acquire_permit(endpoint),
            Action::Survey { endpoint } => self.survey(endpoint),
            Action::WithdrawPermit { endpoint } => self.withdraw_permit(endpoint),
            Action::ReturnPermit { endpoint } => self.return_permit(endpoint),
            Action::MakeWay => self.make_way(),
            Action::Dial {
                conn,
                endpoint,
                address,
                timeout,
            } => {
                self.dial(conn, endpoint, address, timeout);
            }
            Action::Report {
                endpoint,
                address,
                verdict,
                chance,
            } => self.report(endpoint, address, verdict, chance),
            Action::Probe {
                endpoint,
                address,
                chance,
            } => self.ask_to_probe(endpoint, address, chance),
            Action::Initialise {
                conn,
                endpoint,
                timeout,
            } => {
                self.initialise(conn, endpoint, timeout);
            }
            Action::CheckHealth { conn, endpoint } => self.check_health(conn, endpoint),
            Action::Look { conn, .. } => self.look(conn),
            Action::Give { conn, endpoint } => self.give(conn, endpoint),
            Action::Recall { conn, .. } => self.recall(conn),
            Action::Expect { conn, endpoint } => self.expect(conn, endpoint),
            Action::Unexpect { conn, endpoint } => self.unexpect(conn, endpoint),
            Action::Close { conn, reason } => self.close(conn, reason),
            Action::Grant {
                waiter,
                conn,
                reused,
            } => self.grant(waiter, conn, reused),
            Action::Fail { waiter, error } => self.fail(waiter, error),
            Action::Notify {
                endpoint,
                conn,
                hook,
            } => self.notify(endpoint, conn, hook),
        }
    }

    /// What the policy decided changed its counts of this endpoint.
    fn touch_endpoint_of(&mut self, action: &Action) {
        let endpoint = match action {
            Action::Resolve { endpoint }
            | Action::AcquirePermit { endpoint }
            | Action::Survey { endpoint }
            | Action::WithdrawPermit { endpoint }
            | Action::ReturnPermit { endpoint }
            | Action::Dial { endpoint, .. }
            | Action::Initialise { endpoint, .. }
            | Action::Report { endpoint, .. }
            | Action::Probe { endpoint, .. }
            | Action::CheckHealth { endpoint, .. }
            | Action::Look { endpoint, .. }
            | Action::Give { endpoint, .. }
            | Action::Recall { endpoint, .. }
            | Action::Expect { endpoint, .. }
            | Action::Unexpect { endpoint, .. }
            | Action::Notify { endpoint, .. } => Some(*endpoint),
            Action::Close { conn, .. } | Action::Grant { conn, .. } => {
                self.policy.endpoint_of(*conn)
            }
            Action::Fail { waiter, .. } => self.waiters.endpoint(*waiter),
            Action::MakeWay => None,
        };
        if let Some(endpoint) = endpoint {
            self.endpoints.touch(endpoint);
        }
    }

    fn dial(&mut self, conn: ConnKey, endpoint: EndpointKey, to: SocketAddr, limit: Duration) {
        if let Some(old) = self.cells.insert(ConnCell::new(conn, endpoint, to)) {
            // The policy reuses a slot only after `Closed`; a cell still here is dropped outside.
            self.deferred.calls.push_back(Call::Ended {
                protocol: None,
                cell: old,
            });
        }
        self.watch_sources(endpoint);
        self.board_opened(endpoint, to);
        let is_own = |ip| self.routes.is_own(self.now, &self.host, ip);
        self.options.local_ports = self.local_ports.for_connect(to, is_own);
        self.backend.connect(conn.0, to, &self.options, limit);
    }

    fn initialise(&mut self, conn: ConnKey, endpoint: EndpointKey, limit: Duration) {
        let Some(entry) = self.endpoints.get(endpoint) else {
            return;
        };
        let protocol = entry.protocol.clone();
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        if protocol.is_plain() {
            cell.stage = Stage::Ready;
            cell.was_ready = true;
            self.tell(Event::Initialised {
                conn,
                capacity: 1,
                watched: true,
            });
            return;
        }
        cell.stage = Stage::Initialising(self.now.plus(limit));
        self.arm_timer(conn);
        self.deferred.calls.push_back(Call::Open { conn, protocol });
    }

    /// `init` has ended.
    pub(crate) fn initialised(&mut self, conn: ConnKey, opened: Result<super::erased::Opened>) {
        self.refresh();
        self.collect();
        let cell = self.cells.get_mut(conn);
        let Some(cell) = cell.filter(|cell| matches!(cell.stage, Stage::Initialising(_))) else {
            // Too late; what it made is the user's to drop.
            self.deferred.calls.push_back(Call::Drop(Box::new(opened)));
            return;
        };
        cell.task = None;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                cell.stage = Stage::Ready;
                self.tell(Event::InitFailed { conn, error });
                self.pump();
                return;
            }
        };
        cell.state = Some(opened.state);
        let capacity = opened.access.capacity();
        cell.shared = capacity > 1;
        let unread = !cell.front.is_empty() || self.backend.unread(conn.0) > 0;
        if !unread || cell.reads_for_itself() {
            self.opened(conn, capacity);
        } else {
            let call = Call::Greeting { conn, capacity };
            self.deferred.calls.push_back(call);
        }
    }

    /// The connection is ready: its state is made, and nothing unread is left of the greeting.
    pub(crate) fn opened(&mut self, conn: ConnKey, capacity: u32) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        if !matches!(cell.stage, Stage::Initialising(_)) {
            return;
        }
        cell.stage = Stage::Ready;
        cell.was_ready = true;
        let watched = capacity > 1 || self.watched_meanwhile(conn) == Return::Clean;
        self.tell(Event::Initialised {
            conn,
            capacity,
            watched,
        });
        self.pump();
    }

    /// The server said more than the protocol's `init` read, and the protocol does not take it.
    pub(crate) fn not_opened(&mut self, conn: ConnKey) {
        if let Some(cell) = self.cells.get_mut(conn)
            && matches!(cell.stage, Stage::Initialising(_))
        {
            cell.stage = Stage::Ready;
            let text = "the server sent more than the protocol's init reads";
            let error = Error::new(ErrorKind::Protocol, text);
            self.tell(Event::InitFailed { conn, error });
            self.pump();
        }
    }

    fn check_health(&mut self, conn: ConnKey, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get(endpoint) else {
            return;
        };
        let protocol = entry.protocol.clone();
        let info = self.info(conn, endpoint);
        let until = self.now.plus(self.config.connect_timeout);
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        cell.stage = Stage::Checking(until);
        let call = match (&cell.state, &self.config.health_check, info) {
            (Some(state), _, _) => Call::Check {
                conn,
                protocol,
                state: state.clone(),
            },
            (None, Some(check), Some(info)) => Call::CheckPlain {
                conn,
                check: check.clone(),
                info,
            },
            _ => return self.checked(conn, true, !self.backend.has_completions()),
        };
        self.deferred.calls.push_back(call);
        self.arm_timer(conn);
    }

    /// A health check has ended.
    pub(crate) fn health_checked(&mut self, conn: ConnKey, healthy: bool) {
        self.refresh();
        let is_all = self.collect();
        self.checked(conn, healthy, is_all);
        self.pump();
    }

    /// What the check left behind, and what came meanwhile, is not the next user's.
    fn checked(&mut self, conn: ConnKey, healthy: bool, is_all: bool) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        if !matches!(cell.stage, Stage::Checking(_)) {
            return;
        }
        cell.stage = Stage::Ready;
        cell.task = None;
        let shared = cell.shared;
        let healthy = match self.verdict(conn, is_all) {
            _ if !healthy => false,
            Return::Unwatched if !shared => return self.look(conn),
            Return::Clean | Return::Unwatched => true,
            Return::Discard(reason) => shared && reason == CloseReason::Unwatched,
        };
        self.tell(Event::HealthChecked { conn, healthy });
    }

    fn close(&mut self, conn: ConnKey, reason: CloseReason) {
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        cell.stage = Stage::Closing(reason);
        cell.read.wake(&mut self.deferred.wakers);
        cell.write.wake(&mut self.deferred.wakers);
        if let Some(task) = cell.task.take() {
            task.abort();
        }
        match cell.cut {
            Cut::No => self.backend.close(conn.0),
            Cut::UnderWay => {}
            Cut::Done => self.end_of(conn),
        }
    }

    /// A piece that came while nobody held the connection, and who may want it.
    pub(crate) fn idle_piece(&mut self, conn: ConnKey) -> Option<IdlePiece> {
        let nobodys = |cell: &&mut ConnCell| {
            cell.is_idle() || matches!(cell.stage, Stage::Initialising(_)) && cell.state.is_some()
        };
        let cell = self.cells.get_mut(conn).filter(nobodys)?;
        let front = cell.front.pop_front();
        let chunk = front.or_else(|| self.backend.read(conn.0).map(Chunk::kernel))?;
        let protocol = self
            .endpoints
            .get(cell.endpoint)
            .map(|entry| entry.protocol.clone());
        Some((chunk, protocol, cell.state.clone()))
    }

    fn grant(&mut self, waiter: WaiterKey, conn: ConnKey, reused: bool) {
        if let Some(cell) = self.cells.get_mut(conn) {
            cell.hold();
        }
        let lost = self
            .waiters
            .finish(waiter, Ok((conn, reused)), &mut self.deferred.wakers);
        if lost.is_some() {
            let how = match self.cells.get(conn) {
                Some(cell) if !cell.shared => self.verdict(conn, !self.backend.has_completions()),
                _ => Return::Clean,
            };
            self.put(conn, how);
        }
    }

    fn fail(&mut self, waiter: WaiterKey, error: Error) {
        let _nobody = self
            .waiters
            .finish(waiter, Err(error), &mut self.deferred.wakers);
    }

    fn notify(&mut self, endpoint: EndpointKey, conn: ConnKey, hook: Hook) {
        let function = match hook {
            Hook::Created => &self.config.on_connection_created,
            Hook::Reused => &self.config.on_connection_reused,
            // Told by `forget`, while the connection's address is still known.
            Hook::Closed(_) => return,
        };
        let Some(hook) = function.clone() else { return };
        if let Some(info) = self.info(conn, endpoint) {
            self.deferred.calls.push_back(Call::Hook { hook, info });
        }
    }

    fn info(&self, conn: ConnKey, endpoint: EndpointKey) -> Option<ConnectionInfo> {
        let endpoint = self.endpoints.get(endpoint)?.endpoint.clone();
        let address = self.cells.get(conn)?.address;
        Some(ConnectionInfo {
            endpoint,
            address,
            closed: None,
        })
    }
}
