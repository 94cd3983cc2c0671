//! Opening a connection takes a socket, options, a connect and a time limit. They go to the kernel
//! as one chain in one submission, into the slot that the caller chose.
//!
//! Promise: every step completes (no `SKIP_SUCCESS`), and the first failure is the one reported;
//! nothing is reported before the slot is clean (D20, D25).
//!
//! Where the kernel cannot set options on a direct descriptor (before 6.7), the socket is made by
//! system calls and then installed in the slot; the rest is the same.

#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::ring::Ring;
use crate::ring::conn::Phase;
use crate::ring::events::{Event, SocketOptions};
use crate::ring::opcode::{self, IP_LOCAL_PORT_RANGE, Setting, Transport};
use crate::ring::queue::Class;
use crate::ring::token::Kind;
use crate::slot::Key;

impl Ring {
    /// Opens a connection in the slot of `key`, which must be free. Ends in `Connected` or
    /// `ConnectFailed`, or in `Closed` if [`close`](Self::close) is called meanwhile.
    pub(crate) fn connect(
        &mut self,
        key: Key,
        address: SocketAddr,
        options: &SocketOptions,
        timeout: Duration,
    ) {
        if key.index() >= self.config.max_connections || !self.claim(key, Phase::Connecting) {
            let error = Error::new(ErrorKind::Closed, "the descriptor slot is not free");
            self.events.push(Event::ConnectFailed { key, error });
            return;
        }
        let mut settings = std::mem::take(&mut self.settings);
        opcode::settings(options, &mut settings);
        if self.plain_sockets {
            match self.install(key.index(), address, &settings) {
                Ok(()) => self.start_connect(key, address, timeout, None),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    self.at(key).failure = errno;
                    self.finish(key);
                }
            }
        } else {
            self.start_connect(key, address, timeout, Some(&settings));
        }
        self.settings = settings;
    }

    /// Pushes the chain; with the socket and its options in it if there are `settings`.
    fn start_connect(
        &mut self,
        key: Key,
        address: SocketAddr,
        timeout: Duration,
        settings: Option<&[Setting]>,
    ) {
        let index = key.index();
        let options = settings.unwrap_or_default();
        let dial = self.ops.dial_box(opcode::dial(address, timeout, options));
        let Some(dial) = self.ops.set_dial(key, dial) else {
            return;
        };
        let mut kinds = [Kind::Socket; Kind::OPTIONS.len() + 3];
        self.entries.clear();
        if settings.is_some() {
            let socket = opcode::socket(index, address, Transport::Tcp);
            self.entries.push(socket);
        }
        for ((setting, kind), value) in options.iter().zip(Kind::OPTIONS).zip(&dial.options) {
            kinds[self.entries.len()] = kind;
            self.entries.push(opcode::option(index, *setting, value));
        }
        let steps = self.entries.len();
        kinds[steps..steps + 2].copy_from_slice(&[Kind::Connect, Kind::ConnectTimeout]);
        self.entries.push(opcode::connect(index, dial));
        self.entries.push(opcode::connect_timeout(dial));
        // SAFETY: address, time limit and option values are in the dial that the table owns until
        // the last of these steps is final (rules 1 and 3 of `op`).
        unsafe { self.issue_chain(&kinds[..steps + 2], key, Class::Work) };
        self.at(key).installed = true;
    }

    /// Makes a socket with its options by system calls and moves it into the slot.
    fn install(&mut self, index: u32, to: SocketAddr, settings: &[Setting]) -> io::Result<()> {
        let socket = plain_socket(to)?;
        for setting in settings {
            match set_option(&socket, *setting) {
                // Linux 6.1 and 6.2 do not know it; what it keeps from happening is rare.
                Err(error)
                    if setting.1 == IP_LOCAL_PORT_RANGE
                        && error.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
                done => done?,
            }
        }
        let fds = [socket.as_raw_fd()];
        let submitter = self.queue.submitter();
        let submitter = submitter.ok_or(io::ErrorKind::Unsupported)?;
        submitter.register_files_update(index, &fds)?;
        Ok(())
    }

    /// A step of a connect completed.
    pub(super) fn on_connect_step(&mut self, key: Key, step: Kind, res: i32) {
        if self.is_query(key) {
            self.on_query_step(key, step, res);
            return;
        }
        let conn = self.at(key);
        if step == Kind::ConnectTimeout {
            conn.timed_out |= res == -libc::ETIME;
            let usual = [
                -libc::ETIME,
                -libc::ECANCELED,
                -libc::ENOENT,
                -libc::EALREADY,
            ];
            if res < 0 && !usual.contains(&res) {
                self.on_no_limit(key, -res);
            }
            return;
        }
        if conn.phase != Phase::Connecting {
            return;
        }
        if res < 0 {
            conn.failure = -res;
            conn.installed = step != Kind::Socket;
            self.start_close(key);
        } else if step == Kind::Connect {
            conn.phase = Phase::Open;
            self.events.push(Event::Connected { key });
            self.arm(key);
        }
    }

    /// The limit was refused. Either that is why the other steps were cancelled; or the kernel cut
    /// the chain before it, for want of memory, and the connect would wait as long as TCP does.
    fn on_no_limit(&mut self, key: Key, errno: i32) {
        let conn = self.at(key);
        if conn.phase == Phase::Connecting {
            conn.failure = errno;
            self.start_close(key);
        } else if conn.failure == libc::ECANCELED {
            conn.failure = errno;
        }
    }

    /// Why the connect of `key` failed.
    pub(super) fn connect_error(&mut self, key: Key) -> Error {
        let conn = self.at(key);
        let cancelled = matches!(conn.failure, libc::ECANCELED | libc::EINTR | libc::EALREADY);
        if cancelled && conn.timed_out {
            return Error::from_errno(ErrorKind::ConnectTimeout, libc::ETIMEDOUT);
        }
        Error::from_errno(ErrorKind::Connect, conn.failure)
    }
}

/// A blocking socket, as the ring wants it (D27).
fn plain_socket(to: SocketAddr) -> io::Result<OwnedFd> {
    let domain = match to {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    // SAFETY: no pointer is involved.
    let fd = unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(socket: &OwnedFd, (level, name, value): Setting) -> io::Result<()> {
    // SAFETY: `value` is an `i32` of the length given, and lives until the call returns.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
