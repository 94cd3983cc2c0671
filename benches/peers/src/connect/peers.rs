//! Runtimes that connect a socket; each sets the options where its interface lets it.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{AT_ONCE, Meter, set_options, share};
use crate::Outcome;
use crate::harness::{Figures, Settings};

pub fn tokio(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    let address = settings.server()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let meter = Meter::start();
        let start = |n| {
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for _ in 0..share(&settings, n) {
                    let socket = tokio::net::TcpSocket::new_v4()?;
                    set_options(&socket)?;
                    kept.push(socket.connect(address).await?);
                }
                Outcome::Ok(kept)
            })
        };
        let running: Vec<_> = (0..AT_ONCE).map(start).collect();
        let mut kept = Vec::new();
        for one in running {
            kept.push(one.await??);
        }
        let figures = meter.figures(&settings);
        drop(kept);
        Outcome::Ok(figures)
    })
}

pub fn monoio(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    let address = settings.server()?;
    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new();
    let mut runtime = builder.with_entries(4096).build()?;
    runtime.block_on(async {
        let meter = Meter::start();
        let start = |n| {
            monoio::spawn(keep(settings, n, async move || {
                Outcome::Ok(monoio::net::TcpStream::connect_addr(address).await?)
            }))
        };
        let running: Vec<_> = (0..AT_ONCE).map(start).collect();
        let mut kept = Vec::new();
        for one in running {
            kept.push(one.await?);
        }
        let figures = meter.figures(&settings);
        drop(kept);
        Outcome::Ok(figures)
    })
}

pub fn glommio(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    let address: SocketAddr = settings.server()?;
    let builder = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound);
    let executor = builder.make().map_err(|error| error.to_string())?;
    executor.run(async {
        let meter = Meter::start();
        let start = |n| {
            glommio::spawn_local(keep(settings, n, async move || {
                let stream = glommio::net::TcpStream::connect(address).await;
                Outcome::Ok(stream.map_err(|error| error.to_string())?)
            }))
        };
        let running: Vec<_> = (0..AT_ONCE).map(start).collect();
        let mut kept = Vec::new();
        for one in running {
            kept.push(one.await?);
        }
        let figures = meter.figures(&settings);
        drop(kept);
        Outcome::Ok(figures)
    })
}

/// Connects, sets the options afterwards, and keeps what it got.
async fn keep<S: AsRawFd>(
    settings: Settings,
    n: usize,
    connect: impl AsyncFn() -> Outcome<S>,
) -> Outcome<Vec<S>> {
    let mut kept = Vec::new();
    for _ in 0..share(&settings, n) {
        let stream = connect().await?;
        set_options_of(&stream)?;
        kept.push(stream);
    }
    Ok(kept)
}

/// For streams that only tell their descriptor's number.
#[allow(unsafe_code)] // a number may be anything
fn set_options_of(stream: &impl AsRawFd) -> Outcome<()> {
    // SAFETY: the stream owns the descriptor and is borrowed until the end of this call.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    set_options(socket)
}
