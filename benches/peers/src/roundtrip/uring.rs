//! tokio-uring's own connections.

use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use super::line::{Line, Shelf, client, shelf};
use super::{Meter, phases};
use crate::Outcome;
use crate::harness::{Figures, Settings};

impl Line for TcpStream {
    async fn echo(&mut self, message: Vec<u8>) -> Outcome<Vec<u8>> {
        let (written, mut message) = self.write_all(message).await;
        written?;
        let mut read = 0;
        while read < message.len() {
            let (n, slice) = self.read(message.slice(read..)).await;
            message = slice.into_inner();
            match n? {
                0 => return Err("the server closed the connection".into()),
                n => read += n,
            }
        }
        Ok(message)
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let mut builder = tokio_uring::builder();
    builder.entries(4096);
    let runtime = tokio_uring::Runtime::new(&builder)?;
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
    let start = |_| tokio_uring::spawn(client(lines.clone(), settings.bytes, times));
    let clients: Vec<_> = (0..settings.connections).map(start).collect();
    for client in clients {
        client.await??;
    }
    Ok(())
}
