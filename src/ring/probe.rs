//! io_uring may be absent, forbidden or too small, and the kernel says so with one number that
//! means many things. This module makes the ring and turns a refusal into a sentence that names
//! the likely reason and what to do (D31).
//!
//! Promise: a ring that is handed out has every feature and operation that this layer uses (Linux
//! 6.1 or later); whether options can be set on direct descriptors (6.7) was tried, not guessed.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};

use crate::error::{Error, ErrorKind, Result};
use crate::ring::opcode as sqe;
use crate::ring::opcode::Transport;

/// What every ring here needs. With each: its code and the name for the message.
const NEEDED: [(u8, &str); 8] = [
    (opcode::Socket::CODE, "SOCKET"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Shutdown::CODE, "SHUTDOWN"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
];

/// How long after a ring was dropped its memory may still be counted.
const MEMORY_RETURNS: Duration = Duration::from_millis(5);

/// Makes a ring with at least `completions` places for completions.
pub(super) fn build(entries: u32, completions: u32) -> Result<IoUring> {
    let ring = match build_once(entries, completions) {
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            // Memory of a ring just dropped comes back late; and half as much may do.
            thread::sleep(MEMORY_RETURNS);
            build_once((entries / 2).max(8), (completions / 2).max(16))
        }
        result => result,
    }
    .map_err(|error| unavailable(&error, "io_uring_setup"))?;
    check(&ring)?;
    Ok(ring)
}

fn build_once(entries: u32, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp();
    if completions > entries {
        builder.setup_cqsize(completions);
    }
    builder.build(entries)
}

fn check(ring: &IoUring) -> Result<()> {
    let lacks = |what: &str| {
        let version = read("/proc/sys/kernel/osrelease");
        Error::new(
            ErrorKind::Unavailable,
            format!("the kernel ({version}) lacks io_uring's {what}: Linux 6.1 or later is needed"),
        )
    };
    if !ring.params().is_feature_nodrop() {
        return Err(lacks("NODROP feature"));
    }
    if !ring.params().is_feature_ext_arg() {
        return Err(lacks("EXT_ARG feature"));
    }
    let probe = operations(ring)?;
    match NEEDED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(lacks(&format!("{name} operation"))),
        None => Ok(()),
    }
}

fn operations(ring: &IoUring) -> Result<Probe> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| unavailable(&error, "asking which operations io_uring has"))?;
    Ok(probe)
}

/// Whether direct descriptors can be bound to a port (6.11).
pub(super) fn binds(ring: &IoUring) -> Result<bool> {
    Ok(operations(ring)?.is_supported(opcode::Bind::CODE))
}

/// Whether descriptors can be sent to another ring. `IORING_MSG_SEND_FD` came with the flag
/// SINGLE_ISSUER (6.0), without which no ring is made here, so that the operation is all to ask for.
pub(super) fn gives(ring: &IoUring) -> Result<bool> {
    Ok(operations(ring)?.is_supported(opcode::MsgRingSendFd::CODE))
}

/// Registers a table of `slots` direct descriptors, all empty.
pub(super) fn register_slots(ring: &IoUring, slots: u32) -> Result<()> {
    ring.submitter()
        .register_files_sparse(slots)
        .map_err(|error| unavailable(&error, &format!("registering {slots} descriptor slots")))
}

/// Whether an option can be set on a direct descriptor: tried on a socket in slot 0, which is
/// closed again.
///
/// # Errors
///
/// `Unavailable` if the attempt did not end: its entries are still queued or in flight (D12) and
/// would hit slot 0's first tenant, so the ring must not be used.
pub(super) fn sets_options(ring: &mut IoUring) -> Result<bool> {
    try_option(ring, |ring| ring.submit_and_wait(1))
        .map_err(|error| unavailable(&error, "trying an option on a direct descriptor"))
}

fn try_option(
    ring: &mut IoUring,
    mut enter: impl FnMut(&mut IoUring) -> io::Result<usize>,
) -> io::Result<bool> {
    static ON: i32 = 1;
    let target = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let setting = (libc::IPPROTO_TCP, libc::TCP_NODELAY, ON);
    let steps = [
        sqe::socket(0, target, Transport::Tcp).user_data(1),
        sqe::option(0, setting, &ON).user_data(2),
        sqe::close(0).user_data(3),
    ];
    // SAFETY: the only pointer is to a static (D1).
    if unsafe { ring.submission().push_multiple(&steps) }.is_err() {
        return Ok(false);
    }
    let mut seen = 0;
    let mut works = false;
    for _ in 0..100 {
        match enter(ring) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            Err(error) => return Err(error),
        }
        for cqe in ring.completion() {
            seen += 1;
            works |= cqe.user_data() == 2 && cqe.result() == 0;
        }
        if seen == steps.len() {
            return Ok(works);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINTR))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

/// The soft limit that `/proc/self/limits` gives for `name`.
fn limit(name: &str) -> String {
    read("/proc/self/limits")
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or_else(|| "unknown".into(), Into::into)
}

/// The refusal of `what` as an error that says why it may be and what to do.
pub(super) fn unavailable(error: &io::Error, what: &str) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    let reason = reason(errno);
    Error::from_errno(ErrorKind::Unavailable, errno)
        .context(what.to_owned())
        .context(reason)
}

fn reason(errno: i32) -> String {
    match errno {
        libc::EPERM | libc::EACCES => format!(
            "io_uring is forbidden here: kernel.io_uring_disabled is {} (0 allows it to all, 1 to \
             members of kernel.io_uring_group, 2 to nobody), and the seccomp profile of a \
             container may refuse it too; set the sysctl to 0 or run with a profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register",
            read("/proc/sys/kernel/io_uring_disabled")
        ),
        libc::ENOSYS => "the kernel has no io_uring, or a seccomp profile hides it (containers \
                         often do): use Linux 6.1 or later and a profile that allows the \
                         io_uring system calls"
            .into(),
        libc::ENOMEM => format!(
            "the ring's memory does not fit into RLIMIT_MEMLOCK (Max locked memory), which is {} \
             bytes: raise it (ulimit -l, LimitMEMLOCK=), or lower ring_entries, recv_buffers or \
             the number of shards",
            limit("Max locked memory")
        ),
        libc::EMFILE | libc::ENFILE => format!(
            "RLIMIT_NOFILE (Max open files) is {}, and it bounds the descriptor table: raise it \
             (ulimit -n, LimitNOFILE=) or lower max_connections_per_shard",
            limit("Max open files")
        ),
        libc::EINVAL => format!(
            "the kernel ({}) does not know a flag that is needed: use Linux 6.1 or later, or \
             check the sizes of rings and buffers",
            read("/proc/sys/kernel/osrelease")
        ),
        _ => "this is not one of the usual refusals; see io_uring_setup(2)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_r14_each_refusal_names_reason_and_remedy() {
        let cases = [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::EPERM, "seccomp"),
            (libc::ENOSYS, "seccomp"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EMFILE, "RLIMIT_NOFILE"),
            (libc::EINVAL, "6.1"),
        ];
        for (errno, word) in cases {
            let error = unavailable(&io::Error::from_raw_os_error(errno), "io_uring_setup");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(error.raw_os_error(), Some(errno));
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn limits_are_read() {
        assert_ne!(limit("Max open files"), "unknown");
        assert_eq!(limit("Max nonsense"), "unknown");
    }

    #[test]
    fn r14_a_probe_that_cannot_finish_is_an_error() {
        for errno in [libc::EAGAIN, libc::EBUSY, libc::ENOMEM, libc::EINTR] {
            let mut ring = build(8, 32).unwrap();
            register_slots(&ring, 4).unwrap();
            let refuse = |_: &mut IoUring| Err(io::Error::from_raw_os_error(errno));
            let error = try_option(&mut ring, refuse).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno));
            // This is why: the socket would still be made.
            assert_eq!(ring.submission().len(), 3);
        }
    }

    #[test]
    fn this_kernel_serves_and_the_probe_leaves_no_socket() {
        let mut ring = build(8, 32).unwrap();
        register_slots(&ring, 4).unwrap();
        sets_options(&mut ring).unwrap();
        assert!(ring.completion().is_empty());
        let too_many = register_slots(&build(8, 32).unwrap(), u32::MAX).unwrap_err();
        assert_eq!(too_many.kind(), ErrorKind::Unavailable);
    }
}
