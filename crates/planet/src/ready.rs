//! Whether every endpoint answers, found by asking each. The asking is counted under the source `unknown`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use protocols::voice;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ask {address}")]
    Ask { address: SocketAddr, source: io::Error },
    #[error("no answer from {address} in {} s", PATIENCE.as_secs())]
    Silent { address: SocketAddr },
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Returns when all of them have answered, over UDP and over TCP.
pub async fn wait(addresses: &[SocketAddr]) -> Result<(), Error> {
    for &address in addresses {
        let asked = timeout(PATIENCE, ask(address)).await.map_err(|_| Error::Silent { address })?;
        asked.map_err(|source| Error::Ask { address, source })?;
    }
    Ok(())
}

async fn ask(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    socket.send(&voice::ping_request(0)).await?;
    let mut packet = [0; voice::PING_BYTES];
    let length = socket.recv(&mut packet).await?;
    voice::parse_ping(&packet[..length]).map_err(io::Error::other)?;
    // The doors open a moment after the reflectors listen.
    while let Err(error) = TcpStream::connect(address).await {
        if error.kind() != io::ErrorKind::ConnectionRefused {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
