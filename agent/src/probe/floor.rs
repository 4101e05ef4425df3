//! A reflector inside the agent, and the way to it: what a probe takes that leaves this process and comes back, and nothing else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use protocols::voice::{self, PING_BYTES};
use runtime::{Clock, Shutdown, Tasks};
use tracing::warn;

use super::sockets::{Packet, Sockets};
use super::{Launch, Order, Report, SendFault, Token};
use crate::plan::Errand;

/// How often the reflector looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Floor {
    sockets: Sockets,
    reflector: SocketAddr,
    /// Nothing comes unless we ask, and ten times a second need no look at each tick.
    asked: bool,
}

impl Floor {
    /// Starts the reflector as a thread. `None`: this machine has no loopback for us, and the floor stays unknown.
    pub fn open(tasks: &Tasks) -> Option<Self> {
        let open = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(LOOK))?;
            let (reflector, stopping) = (socket.local_addr()?, tasks.shutdown());
            tasks.thread("floor", move || {
                reflect(&socket, &stopping);
                Ok::<_, io::Error>(())
            })?;
            Ok::<_, io::Error>(Self { sockets: Sockets::inside("floor"), reflector, asked: false })
        };
        open().inspect_err(|error| warn!(%error, "no reflector inside; the noise floor stays unknown")).ok()
    }

    pub fn send(&mut self, order: &Order, clock: &Clock, reports: &mut Vec<Report>) -> Result<Launch, SendFault> {
        self.asked = true;
        self.sockets.send(order, &voice::ping_request(order.token.0), self.reflector, clock, reports)
    }

    pub fn receive(&mut self, clock: &Clock, reports: &mut Vec<Report>) {
        if !self.asked {
            return;
        }
        let (reflector, before) = (self.reflector, reports.len());
        self.sockets.receive(clock, reports, |packet| {
            let Packet { bytes, peer, heard, told } = *packet;
            let token = Token(voice::parse_ping(bytes).ok().filter(|_| peer == reflector)?);
            Some(Report::Answer { token, errand: Errand::Floor, outcome: told.outcome(), heard })
        });
        self.asked = reports.len() == before;
    }

    /// `None`: nothing is awaited, and what comes all the same ends no wait.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.fd().filter(|_| self.asked)
    }
}

fn reflect(socket: &UdpSocket, stopping: &Shutdown) {
    let mut bytes = [0; PING_BYTES];
    while !stopping.is_cancelled() {
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        if let Some(answer) = voice::answer(&bytes[..length], from) {
            // Nobody but ourselves waits for it.
            socket.send_to(&answer, from).ok();
        }
    }
}
