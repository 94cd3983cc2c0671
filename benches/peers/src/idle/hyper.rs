//! hyper-util's cache: it knows nothing of its connections until it is told to look at them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::pool::cache;
use tokio::net::TcpStream;
use tower_service::Service;

use super::watch;
use crate::Outcome;
use crate::dial::Dial;
use crate::harness::{Figures, Settings, alloc};

#[derive(Clone)]
struct Open(Dial);

impl Service<()> for Open {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        Box::pin(self.0.open())
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let held = alloc::live();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut pool = cache::builder().build(Open(Dial(settings.server()?)));
        {
            let mut open = Vec::new();
            for _ in 0..settings.connections {
                poll_fn(|cx| pool.poll_ready(cx)).await?;
                open.push(pool.call(()).await?);
            }
        }
        watch(settings, held, || {
            let mut left = 0;
            pool.retain(|stream| {
                let read = stream.try_read(&mut [0]);
                let is_alive = read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
                left += usize::from(is_alive);
                is_alive
            });
            left
        })
        .await
    })
}
