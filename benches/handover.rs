//! How long a connection takes from one core's ring into the other's, and what it costs who gives
//! it, by the two ways in which the other core can hear of it: by a completion that the message
//! itself posts to its ring, or by its runtime's waker after the message.
//!
//! Both rings live in one program, on two threads, and the ways take turns in random order. The
//! receiver sleeps when it begins, and has armed its own operation on the connection when it ends.
//!
//! ```sh
//! cargo bench --bench handover -- 5000
//! ```

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, opcode};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where the giver has the connection, and where the receiver wants it.
const HERE: u32 = 0;
const THERE: u32 = 1;
const SLOTS: u32 = 4;
/// `IORING_MSG_RING_CQE_SKIP` (io_uring.h).
const CQE_SKIP: u32 = 1 << 0;
/// What the message's completion in the receiver's ring is called, and other operations.
const MESSAGE: u64 = 1;
const OTHER: u64 = 2;
/// Until the receiver sleeps again.
const REST: Duration = Duration::from_micros(400);

/// How the receiver hears of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the message's completion; the parcel was put down before.
    Completion,
    /// By its waker, after the message.
    Waker,
    /// By its waker, and no connection: what waking alone takes.
    Nothing,
}

const WAYS: [Way; 3] = [Way::Completion, Way::Waker, Way::Nothing];

struct Parcel {
    way: Way,
    begun: Instant,
}

/// What both threads know.
#[derive(Default)]
struct Shared {
    mailbox: Mutex<VecDeque<Parcel>>,
    waker: Mutex<Option<Waker>>,
    taken: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn put(&self, parcel: Parcel) {
        lock(&self.mailbox).push_back(parcel);
    }

    fn wake(&self) {
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn ring() -> io::Result<IoUring> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_submit_all()
        .build(64)?;
    ring.submitter().register_files_sparse(SLOTS)?;
    Ok(ring)
}

/// Submits `entries` and waits until each has completed; the results.
fn run(ring: &mut IoUring, entries: &[Entry]) -> io::Result<Vec<i32>> {
    // SAFETY: none of the entries of this program points at memory.
    unsafe { ring.submission().push_multiple(entries) }.map_err(io::Error::other)?;
    let mut results = Vec::new();
    while results.len() < entries.len() {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        results.extend(ring.completion().map(|cqe| cqe.result()));
    }
    Ok(results)
}

fn pin(core: usize) {
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    if rustix::thread::sched_setaffinity(None, &only).is_err() {
        eprintln!("not pinned to core {core}");
    }
}

// -- the receiver --------------------------------------------------------------------------------

/// The next parcel whose connection is there.
fn poll_parcel(
    cx: &mut Context<'_>,
    ring: &mut IoUring,
    watch: &AsyncFd<OwnedFd>,
    shared: &Shared,
    heard: &mut u64,
) -> Poll<Parcel> {
    {
        let mut waker = lock(&shared.waker);
        if !waker
            .as_ref()
            .is_some_and(|kept| kept.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }
    while let Poll::Ready(Ok(mut ready)) = watch.poll_read_ready(cx) {
        ready.clear_ready();
    }
    let messages = ring.completion().filter(|it| it.user_data() == MESSAGE);
    *heard += messages.count() as u64;
    let mut mailbox = lock(&shared.mailbox);
    match mailbox.front() {
        Some(parcel) if parcel.way != Way::Completion => {}
        Some(_) if *heard > 0 => *heard -= 1,
        _ => return Poll::Pending,
    }
    mailbox.pop_front().map_or(Poll::Pending, Poll::Ready)
}

/// Takes `rounds` connections; how long each took, by its way.
fn receive(
    rounds: usize,
    shared: &Shared,
    ready: &mpsc::Sender<OwnedFd>,
) -> io::Result<Vec<(Way, Duration)>> {
    let mut ring = ring()?;
    // SAFETY: the ring is open.
    let own = unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.as_raw_fd()) };
    let (watch, door) = (own.try_clone_to_owned()?, own.try_clone_to_owned()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _inside = runtime.enter();
    #[allow(deprecated)] // as in src/ring/watch.rs
    let watch = AsyncFd::with_interest(watch, Interest::READABLE)?;
    ready.send(door).map_err(io::Error::other)?;
    let (mut times, mut heard) = (Vec::with_capacity(rounds), 0);
    while times.len() < rounds {
        let parcel = runtime.block_on(poll_fn(|cx| {
            poll_parcel(cx, &mut ring, &watch, shared, &mut heard)
        }));
        // As a shard would: its own operation on the connection, with one system call.
        let poll = opcode::PollAdd::new(Fixed(THERE), libc::POLLIN as u32).build();
        // SAFETY: the entry points at no memory.
        unsafe { ring.submission().push(&poll.user_data(OTHER)) }.map_err(io::Error::other)?;
        ring.submit()?;
        times.push((parcel.way, parcel.begun.elapsed()));
        // It goes, and the next may come.
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(OTHER)).build();
        let close = opcode::Close::new(Fixed(THERE)).build();
        let end = [cancel.user_data(OTHER + 1), close.user_data(OTHER + 1)];
        let mut left = 3;
        // SAFETY: the entries point at no memory.
        unsafe { ring.submission().push_multiple(&end) }.map_err(io::Error::other)?;
        while left > 0 {
            ring.submit_and_wait(1)?;
            left -= ring.completion().count();
        }
        shared.taken.fetch_add(1, Ordering::Release);
    }
    Ok(times)
}

// -- the giver -----------------------------------------------------------------------------------

fn message(door: RawFd, flags: u32) -> io::Result<Entry> {
    let slot = DestinationSlot::try_from_slot_target(THERE)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let message = opcode::MsgRingSendFd::new(Fd(door), Fixed(HERE), slot, MESSAGE);
    Ok(message.opcode_flags(flags).build())
}

/// Gives one connection; how long that took the giver.
fn give(ring: &mut IoUring, door: RawFd, shared: &Shared, way: Way) -> io::Result<Duration> {
    let begun = Instant::now();
    let parcel = Parcel { way, begun };
    let flags = match way {
        Way::Completion => {
            shared.put(parcel);
            let failed = run(ring, &[message(door, 0)?])?[0] < 0;
            return if failed {
                Err(io::Error::other("the message failed"))
            } else {
                Ok(begun.elapsed())
            };
        }
        Way::Waker => Some(CQE_SKIP),
        Way::Nothing => None,
    };
    if let Some(flags) = flags
        && run(ring, &[message(door, flags)?])?[0] < 0
    {
        return Err(io::Error::other("the message failed"));
    }
    shared.put(parcel);
    shared.wake();
    Ok(begun.elapsed())
}

/// A small generator: the order must have no pattern.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort();
    let micros = |part: usize| times[times.len() * part / 100].as_nanos() as f64 / 1000.0;
    println!(
        "{what:32} median {:6.1} µs, from {:6.1} (tenth) to {:6.1} (ninetieth)",
        micros(50),
        micros(10),
        micros(90)
    );
}

fn main() -> io::Result<()> {
    // cargo adds `--bench`.
    let count = std::env::args().skip(1).find_map(|it| it.parse().ok());
    let rounds = WAYS.len() * count.unwrap_or(2_000usize);
    let shared = Arc::new(Shared::default());
    let (tell, told) = mpsc::channel();
    let receiver = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            pin(1);
            receive(rounds, &shared, &tell)
        })
    };
    pin(0);
    let door = told.recv().map_err(io::Error::other)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let connection = TcpStream::connect(listener.local_addr()?)?;
    let mut ring = ring()?;
    let fds = [connection.as_fd().as_raw_fd()];
    ring.submitter().register_files_update(HERE, &fds)?;
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut costs = Vec::with_capacity(rounds);
    let mut order: Vec<Way> = WAYS.iter().cycle().take(rounds).copied().collect();
    for at in (1..order.len()).rev() {
        order.swap(at, (next(&mut state) % (at as u64 + 1)) as usize);
    }
    for (round, way) in order.into_iter().enumerate() {
        costs.push((way, give(&mut ring, door.as_raw_fd(), &shared, way)?));
        while shared.taken.load(Ordering::Acquire) <= round as u64 {
            thread::yield_now();
        }
        thread::sleep(REST); // bounded: so that the receiver sleeps, which is what is measured
    }
    let times = receiver
        .join()
        .map_err(|_| io::Error::other("panicked"))??;
    for (what, list) in [
        ("until the other core has it", &times),
        ("of the giver", &costs),
    ] {
        println!("{what}:");
        for way in WAYS {
            let of_way = list.iter().filter(|(it, _)| *it == way);
            let mut of_way: Vec<Duration> = of_way.map(|(_, time)| *time).collect();
            show(&format!("  {way:?}"), &mut of_way);
        }
    }
    Ok(())
}
