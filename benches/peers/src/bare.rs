//! As little as io_uring allows: a loop of our own over the kernel's ring, without tasks, wakers or
//! a pool. The servers are this, and so is the limit beside which contenders are shown.
//!
//! Promise: one submission sends a message and waits for the next; what the kernel reads and
//! writes is never freed, since a process like this ends with its work.
#![allow(unsafe_code)] // the kernel gets addresses

use std::io;
use std::net::TcpStream;
use std::os::fd::{IntoRawFd as _, RawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use crate::Outcome;

const ENTRIES: u32 = 4096;
/// Different ones that a receive can be given.
const LIMITS: u32 = 100;

/// What a completion is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A new connection.
    Accepted(RawFd),
    /// What came on the lane: bytes, or nothing, or an error's number below zero.
    Received(usize, i32),
    /// Something that succeeds silently has failed.
    Failed(i32),
}

const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SILENT: u64 = 3 << 32;

/// A connection and its buffer.
struct Lane {
    fd: RawFd,
    buffer: &'static mut [u8],
}

pub struct Bare {
    ring: IoUring,
    lanes: Vec<Option<Lane>>,
    limits: &'static [Timespec],
    listener: Option<RawFd>,
}

impl Bare {
    pub fn new() -> Outcome<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(4 * ENTRIES)
            .build(ENTRIES)?;
        let limits: Vec<_> = (0..LIMITS)
            .map(|n| Timespec::new().nsec((n + 1) * 100_000))
            .collect();
        Ok(Self {
            ring,
            lanes: Vec::new(),
            limits: Vec::leak(limits),
            listener: None,
        })
    }

    /// Takes connections from now on; each is an [`Done::Accepted`].
    pub fn accept(&mut self, listener: RawFd) -> Outcome<()> {
        self.listener = Some(listener);
        self.push(
            opcode::AcceptMulti::new(Fd(listener))
                .build()
                .user_data(ACCEPT),
        )
    }

    /// Makes a lane of a connection, with the number that it has from now on.
    pub fn add(&mut self, fd: RawFd, bytes: usize) -> usize {
        let lane = fd as usize;
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, || None);
        }
        let buffer = match self.lanes[lane].take() {
            // The last connection of this number left it.
            Some(old) => old.buffer,
            None => Vec::leak(vec![0; bytes]),
        };
        self.lanes[lane] = Some(Lane { fd, buffer });
        lane
    }

    pub fn connect(&mut self, stream: TcpStream, bytes: usize) -> usize {
        self.add(stream.into_raw_fd(), bytes)
    }

    /// Receives: all of `whole` bytes if that is given, else what comes first; within a time if
    /// one is given, in tenths of a millisecond.
    pub fn receive(
        &mut self,
        lane: usize,
        whole: Option<usize>,
        limit: Option<u32>,
    ) -> Outcome<()> {
        self.make_room(2)?;
        let Some(Lane { fd, buffer }) = self.lanes.get_mut(lane).and_then(Option::as_mut) else {
            return Err("there is no such lane".into());
        };
        let len = whole.unwrap_or(buffer.len()).min(buffer.len());
        let flags = if whole.is_some() {
            libc::MSG_WAITALL
        } else {
            0
        };
        let entry = opcode::Recv::new(Fd(*fd), buffer.as_mut_ptr(), len as u32)
            .flags(flags)
            .build()
            .user_data(RECEIVE | lane as u64);
        let Some(limit) = limit else {
            return self.push(entry);
        };
        let limit = &self.limits[limit.min(LIMITS - 1) as usize];
        self.push(entry.flags(Flags::IO_LINK))?;
        // It ends whenever the receive does; that says all.
        let timeout = opcode::LinkTimeout::new(limit).build().user_data(SILENT);
        self.push(timeout.flags(Flags::SKIP_SUCCESS))
    }

    /// Sends the first bytes of the lane's buffer, and then receives.
    pub fn send(
        &mut self,
        lane: usize,
        bytes: usize,
        whole: Option<usize>,
        limit: Option<u32>,
    ) -> Outcome<()> {
        let Some(Lane { fd, buffer }) = self.lanes.get(lane).and_then(Option::as_ref) else {
            return Err("there is no such lane".into());
        };
        let entry = opcode::Send::new(Fd(*fd), buffer.as_ptr(), bytes.min(buffer.len()) as u32)
            // All of it, or none.
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SILENT)
            .flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        // A chain must not be torn apart by a submission between its links.
        self.make_room(3)?;
        self.push(entry)?;
        self.receive(lane, whole, limit)
    }

    /// Ends the lane's connection: its receive completes with nothing.
    pub fn end(&mut self, lane: usize) -> Outcome<()> {
        let Some(Lane { fd, .. }) = self.lanes.get(lane).and_then(Option::as_ref) else {
            return Err("there is no such lane".into());
        };
        let entry = opcode::Shutdown::new(Fd(*fd), libc::SHUT_RDWR).build();
        self.push(entry.user_data(SILENT).flags(Flags::SKIP_SUCCESS))
    }

    /// Closes the lane's connection; nothing of it may be under way.
    pub fn close(&mut self, lane: usize) -> Outcome<()> {
        let Some(Lane { fd, .. }) = self.lanes.get(lane).and_then(Option::as_ref) else {
            return Err("there is no such lane".into());
        };
        let entry = opcode::Close::new(Fd(*fd)).build().user_data(SILENT);
        self.push(entry.flags(Flags::SKIP_SUCCESS))
    }

    pub fn buffer(&mut self, lane: usize) -> Option<&mut [u8]> {
        let lane = self.lanes.get_mut(lane)?.as_mut()?;
        Some(lane.buffer)
    }

    /// Submits, waits for at least one completion and takes all.
    pub fn turn(&mut self, done: &mut Vec<Done>) -> Outcome<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        done.clear();
        let mut accepts = true;
        for entry in self.ring.completion() {
            accepts &= entry.user_data() != ACCEPT || cqueue::more(entry.flags());
            done.push(read(&entry));
        }
        match self.listener {
            // The kernel ends it when it runs short of something.
            Some(listener) if !accepts => self.accept(listener),
            _ => Ok(()),
        }
    }

    fn make_room(&mut self, entries: usize) -> Outcome<()> {
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < entries {
            self.ring.submit()?;
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Outcome<()> {
        self.make_room(1)?;
        // SAFETY: what the entry points to, a lane's buffer or a time limit, was leaked: it stays
        // where it is until the process ends. Nobody else reads or writes a buffer while an
        // operation of its lane is under way: a lane has one receive at a time, linked behind its
        // send, and callers touch the buffer between a completion and the next operation.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        Ok(pushed?)
    }
}

fn read(entry: &cqueue::Entry) -> Done {
    let (data, result) = (entry.user_data(), entry.result());
    let lane = data as u32 as usize;
    match data >> 32 << 32 {
        RECEIVE => Done::Received(lane, result),
        ACCEPT if result >= 0 => Done::Accepted(result),
        _ => Done::Failed(result),
    }
}
