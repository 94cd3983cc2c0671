//! compio over io_uring.

use compio::BufResult;
use compio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use compio::net::TcpStream;
use compio::runtime::Runtime;

use super::line::{Line, Shelf, client, shelf};
use super::{Meter, phases};
use crate::Outcome;
use crate::harness::{Figures, Settings};

impl Line for TcpStream {
    async fn echo(&mut self, message: Vec<u8>) -> Outcome<Vec<u8>> {
        let BufResult(written, message) = self.write_all(message).await;
        written?;
        let BufResult(read, message) = self.read_exact(message).await;
        read?;
        Ok(message)
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let mut meter = Meter::new();
        let mut lines = Vec::new();
        for _ in 0..settings.connections {
            let stream = TcpStream::connect(settings.server()?).await?;
            stream.set_nodelay(true)?;
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
    let start = |_| compio::runtime::spawn(client(lines.clone(), settings.bytes, times));
    let clients: Vec<_> = (0..settings.connections).map(start).collect();
    for client in clients {
        client.await.map_err(|_| "a client panicked")??;
    }
    Ok(())
}
