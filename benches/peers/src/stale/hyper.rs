//! hyper-util's cache: a service says whether it is ready, and one that is not is thrown away.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::pool::cache;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{client, echo, in_tokio, is_alive, tally};
use crate::Outcome;
use crate::dial::Dial;
use crate::harness::{Figures, Settings};

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>>>>;

/// A connection as a service that takes it out for an exchange.
pub struct Line(Option<TcpStream>);

impl Service<()> for Line {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<TcpStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.0.as_ref().is_some_and(is_alive) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotConnected.into()),
        })
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let taken = self.0.take();
        std::future::ready(taken.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

#[derive(Clone)]
struct Open(Dial);

impl Service<()> for Open {
    type Response = Line;
    type Error = io::Error;
    type Future = Opening<Line>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let dial = self.0;
        Box::pin(async move { Ok(Line(Some(dial.open().await?))) })
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    in_tokio(&settings, || async move {
        let pool = cache::builder().build(Open(Dial(settings.server()?)));
        let start = |n| {
            let mut pool = pool.clone();
            tokio::task::spawn_local(client(n, settings, async move || {
                loop {
                    poll_fn(|cx| pool.poll_ready(cx)).await?;
                    let mut line = pool.call(()).await?;
                    // An error makes the cache throw it away.
                    if poll_fn(|cx| line.poll_ready(cx)).await.is_err() {
                        continue;
                    }
                    let mut stream = line.call(()).await?;
                    let went_well = echo(&mut stream, settings.bytes).await.is_ok();
                    // Empty it is not ready, and so it is thrown away by who takes it next.
                    line.inner_mut().0 = went_well.then_some(stream);
                    return Ok::<_, io::Error>(went_well);
                }
            }))
        };
        tally((0..settings.connections).map(start).collect()).await
    })
}
