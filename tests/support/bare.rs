//! The least a lock-step round trip can cost: a loop over io_uring and nothing else.
#![allow(unsafe_code)] // the io-uring crate's submission is unsafe

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

/// Sends and receives 64 bytes, `rounds` + 1 times, on a thread named `bare`.
pub fn lockstep(server: SocketAddr, rounds: usize) {
    let run = move || {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        let fd = types::Fd(stream.as_raw_fd());
        let mut ring = IoUring::new(8).unwrap();
        let message = [7u8; 64];
        let mut echo = [0u8; 64];
        for _ in 0..=rounds {
            let send = opcode::Send::new(fd, message.as_ptr(), 64).build();
            let recv = opcode::Recv::new(fd, echo.as_mut_ptr(), 64)
                .flags(libc::MSG_WAITALL)
                .build();
            // SAFETY: both buffers live on this frame, and the wait below ends only when both
            // operations have completed.
            unsafe { ring.submission().push_multiple(&[send, recv]) }.unwrap();
            ring.submit_and_wait(2).unwrap();
            assert!(ring.completion().all(|entry| entry.result() == 64));
            assert_eq!(echo, message);
        }
    };
    std::thread::Builder::new()
        .name("bare".into())
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}
