//! glommio.

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::net::TcpStream;
use glommio::{LocalExecutorBuilder, Placement};

use super::line::{Line, Shelf, client, shelf};
use super::{Meter, phases};
use crate::Outcome;
use crate::harness::{Figures, Settings};

impl Line for TcpStream {
    async fn echo(&mut self, mut message: Vec<u8>) -> Outcome<Vec<u8>> {
        self.write_all(&message).await?;
        self.read_exact(&mut message).await?;
        Ok(message)
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    // The process is pinned already.
    let builder = LocalExecutorBuilder::new(Placement::Unbound);
    let executor = builder.make().map_err(|error| error.to_string())?;
    executor.run(async {
        let mut meter = Meter::new();
        let mut lines = Vec::new();
        for _ in 0..settings.connections {
            let stream = TcpStream::connect(settings.server()?).await;
            let stream = stream.map_err(|error| error.to_string())?;
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            lines.push(stream);
        }
        let lines = shelf(lines);
        for times in phases(settings) {
            meter.start();
            phase(&lines, settings, times).await?;
        }
        Outcome::Ok(meter.figures(settings))
    })
}

async fn phase(lines: &Shelf<TcpStream>, settings: &Settings, times: usize) -> Outcome<()> {
    let start = |_| glommio::spawn_local(client(lines.clone(), settings.bytes, times));
    let clients: Vec<_> = (0..settings.connections).map(start).collect();
    for client in clients {
        client.await?;
    }
    Ok(())
}
