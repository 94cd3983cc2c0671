//! How pools of tokio connections open theirs; they check nothing on the way out, which is the
//! least work that they can have.

use std::io;
use std::net::SocketAddr;

use deadpool::managed::{Manager, Metrics, RecycleResult};
use tokio::net::TcpStream;

#[derive(Debug, Clone, Copy)]
pub struct Dial(pub SocketAddr);

impl Dial {
    pub async fn open(self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Manager for Dial {
    type Type = TcpStream;
    type Error = io::Error;

    async fn create(&self) -> io::Result<TcpStream> {
        self.open().await
    }

    async fn recycle(&self, _: &mut TcpStream, _: &Metrics) -> RecycleResult<io::Error> {
        Ok(())
    }
}
