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
mod tests {
    use protocols::stun::{Binding, TransactionId};
    use protocols::voice::{parse_ping, ping_request};

    use super::*;

    /// Asks a reflector on loopback one after the other; `None` where a question was not answered before the next one was.
    async fn asked(per_second: u32, questions: &[&[u8]]) -> (SocketAddr, Vec<Vec<u8>>) {
        let reflector = Reflector::bind("127.0.0.1:0".parse().unwrap(), per_second).await.unwrap();
        let (address, shutdown) = (reflector.address().unwrap(), Shutdown::new());
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let from = client.local_addr().unwrap();
        let asking = async {
            for question in questions {
                client.send_to(question, address).await.unwrap();
            }
            // Another neighbourhood's question is answered after all before it.
            let last = UdpSocket::bind("127.0.1.1:0").await.unwrap();
            last.send_to(&ping_request(0), address).await.unwrap();
            last.recv(&mut [0; 8]).await.unwrap();
            shutdown.cancel();
        };
        let (stopped, ()) = tokio::join!(reflector.run(shutdown.clone()), asking);
        stopped.unwrap();
        let mut answers = Vec::new();
        let mut bytes = [0; 128];
        while let Ok(length) = client.try_recv(&mut bytes) {
            answers.push(bytes[..length].to_vec());
        }
        (from, answers)
    }

    #[tokio::test]
    async fn a_reflector_answers_what_it_knows_ignores_the_rest_and_stops() {
        let (id, test) = (TransactionId([7; 12]), stamp::Test { sequence: 9, sent: Ntp(1 << 63), session: 3 });
        let questions: [&[u8]; 4] = [b"not a question", &ping_request(7), &stun::request(id), &stamp::request(test)];
        let (from, answers) = asked(1000, &questions).await;
        let [ping, binding, reflection] = answers.try_into().unwrap();
        assert_eq!(parse_ping(&ping), Ok(7));
        assert_eq!(stun::parse_success(&binding), Ok(Binding { transaction: id, seen: from }));
        let reflection = stamp::parse_reflection(&reflection).unwrap();
        assert_eq!((reflection.test, reflection.sequence), (test, 9));
        assert!(reflection.dwell < Duration::from_secs(5), "{:?}", reflection.dwell);
    }

    #[tokio::test]
    async fn a_neighbourhood_over_its_limit_is_not_answered() {
        let ping = ping_request(7);
        let (_, answers) = asked(2, &[&ping, &ping, &ping, &ping]).await;
        assert_eq!(answers.len(), 2);
    }

    #[test]
    fn the_address_file_holds_the_address_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reflector.address");
        tell_address(&file, "127.0.0.1:4711".parse().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "127.0.0.1:4711\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
