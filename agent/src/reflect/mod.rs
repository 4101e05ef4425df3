//! A reflector for a host of one's own: answers IP discovery, the voice ping, STUN bindings and STAMP, and nothing else. It
//! never says more bytes than it was asked, and no neighbourhood can ask more than its share.

mod limit;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use protocols::stamp::Ntp;
use protocols::{stamp, stun, voice};
use runtime::datagram::{self, Datagram, Inbox};
use runtime::{Clock, Mono, Shutdown, Wall};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::warn;

use limit::Limit;

/// How often the log tells of questions over the limit.
const TELL_EVERY: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Reflector {
    socket: UdpSocket,
    clock: Clock,
    limit: Limit,
    /// Questions over the limit since the log told of them, and when it did.
    refused: u64,
    told: Option<Mono>,
}

impl Reflector {
    /// `per_second`: the questions that each neighbourhood may ask.
    pub async fn bind(listen: SocketAddr, per_second: u32) -> io::Result<Self> {
        let socket = UdpSocket::bind(listen).await?;
        datagram::stamp(&socket)?;
        datagram::tell_ttl(&socket, listen)?;
        Ok(Self { socket, clock: Clock::start(), limit: Limit::new(per_second), refused: 0, told: None })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers until the shutdown. A packet that cannot be answered now is not answered later: the one who asked counts it.
    pub async fn run(mut self, shutdown: Shutdown) -> io::Result<()> {
        let mut inbox = Inbox::default();
        loop {
            tokio::select! {
                readable = self.socket.readable() => readable?,
                () = shutdown.cancelled() => return Ok(()),
            }
            let datagram = match self.socket.try_io(Interest::READABLE, || inbox.receive(&self.socket)) {
                Ok(datagram) => datagram,
                // Nothing came after all; or an earlier answer bounced, and the socket is as good as before.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !self.limit.allows(datagram.from.ip(), self.clock.mono()) {
                self.refuse();
                continue;
            }
            if let Some(said) = answer(&datagram, self.clock.wall()) {
                self.socket.try_send_to(&said, datagram.from).ok();
            }
        }
    }

    fn refuse(&mut self) {
        self.refused += 1;
        let now = self.clock.mono();
        if self.told.is_none_or(|told| now.since(told) >= TELL_EVERY) {
            warn!(count = self.refused, "questions over the limit were not answered");
            (self.refused, self.told) = (0, Some(now));
        }
    }
}

/// What is said at `now` to a datagram, or nothing.
fn answer(Datagram { bytes, from, stamped, ttl }: &Datagram<'_>, now: Wall) -> Option<Vec<u8>> {
    if let Some(said) = voice::answer(bytes, *from) {
        return Some(said.to_vec());
    }
    // What another reflector told somebody of a short address ends in zeros, as a test does, and is longer, as a test may be.
    if voice::parse_discovery(bytes).is_ok() {
        return None;
    }
    stun::answer(bytes, *from).or_else(|| {
        // A clock that was set back in between would make the time that it lay here negative.
        let received = stamped.unwrap_or(now).min(now);
        let [received, sent] = [received, now].map(|at| Ntp::from_unix_nanos(at.0));
        stamp::answer(bytes, ttl.unwrap_or_default(), received, sent).map(Vec::from)
    })
}

/// Writes the address for a script that waits for it: it appears whole or not at all.
pub fn tell_address(file: &Path, address: SocketAddr) -> io::Result<()> {
    let draft = file.with_extension("new");
    fs::write(&draft, format!("{address}\n"))?;
    fs::rename(&draft, file)
}

#[cfg(test)]
mod tests;
