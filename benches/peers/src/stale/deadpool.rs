//! deadpool, whose manager looks at the socket before it is handed out.

use std::io;

use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult};
use tokio::net::TcpStream;

use super::{client, echo, in_tokio, is_alive, tally};
use crate::Outcome;
use crate::dial::Dial;
use crate::harness::{Figures, Settings};

struct Checked(Dial);

impl Manager for Checked {
    type Type = TcpStream;
    type Error = io::Error;

    async fn create(&self) -> io::Result<TcpStream> {
        self.0.open().await
    }

    async fn recycle(&self, stream: &mut TcpStream, _: &Metrics) -> RecycleResult<io::Error> {
        match is_alive(stream) {
            true => Ok(()),
            false => Err(RecycleError::message("it has ended")),
        }
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    in_tokio(&settings, || async move {
        let manager = Checked(Dial(settings.server()?));
        let builder = Pool::builder(manager).max_size(settings.connections);
        let pool: Pool<Checked> = builder.build()?;
        let start = |n| {
            let pool = pool.clone();
            tokio::task::spawn_local(client(n, settings, async move || {
                let mut stream = pool.get().await.map_err(|error| error.to_string())?;
                let went_well = echo(&mut stream, settings.bytes).await.is_ok();
                if !went_well {
                    drop(Object::take(stream));
                }
                Ok::<_, String>(went_well)
            }))
        };
        tally((0..settings.connections).map(start).collect()).await
    })
}
