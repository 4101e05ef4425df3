//! Whether every endpoint answers, found by asking each. The asking is counted under the source `unknown`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use protocols::voice;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::authority::{self, Authority};
use crate::model::{Planet, Service};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ask {address}")]
    Ask { address: SocketAddr, source: io::Error },
    #[error("no answer from {address} in {} s", PATIENCE.as_secs())]
    Silent { address: SocketAddr },
    #[error(transparent)]
    Authority(#[from] authority::Error),
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Returns when all of them have answered: a voice server over UDP and TCP, the others over HTTPS.
pub async fn wait(planet: &Planet, addresses: &[SocketAddr], authority: &Authority) -> Result<(), Error> {
    let connector = TlsConnector::from(authority.client()?);
    for (target, &address) in planet.targets().iter().zip(addresses) {
        let asked = async {
            match target.service {
                Service::Voice => ask_voice(address).await,
                Service::Gateway | Service::Cdn => ask_https(address, &connector).await,
            }
        };
        let asked = timeout(PATIENCE, asked).await.map_err(|_| Error::Silent { address })?;
        asked.map_err(|source| Error::Ask { address, source })?;
    }
    Ok(())
}

async fn ask_voice(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    socket.send(&voice::ping_request(0)).await?;
    let mut packet = [0; voice::PING_BYTES];
    let length = socket.recv(&mut packet).await?;
    voice::parse_ping(&packet[..length]).map_err(io::Error::other)?;
    connect(address).await.map(drop)
}

/// A gateway answers it as well, if only to say that it wants an upgrade.
async fn ask_https(address: SocketAddr, connector: &TlsConnector) -> io::Result<()> {
    let name = ServerName::IpAddress(address.ip().into());
    let mut stream = connector.connect(name, connect(address).await?).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: planet\r\n\r\n").await?;
    stream.read_u8().await.map(drop)
}

/// The doors open a moment after the threads start.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    loop {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            connected => return connected,
        }
    }
}
