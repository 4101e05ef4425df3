//! TCP: how long a connection takes to be established. It is reset at once: a connection that is closed in order would lie in
//! `TIME_WAIT` for a minute, and its source port with it, of which there are sixteen. Should the reset get lost, the server answers
//! the next attempt from that port by what it still believes; Linux then asks again within milliseconds (since 5.8).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nix::errno::Errno;
use runtime::Clock;
use socket2::{Domain, Protocol, Socket, Type};
use telemetry::{FailureKind, Family, Outcome};
use tokio::net::TcpSocket;
use tracing::warn;

use super::inbox::Reporter;
use super::sockets::source_of;
use super::{Heard, Order, Report, SendFault, WAYS, Way, errno, unreachable};
use crate::endpoint::family;
use crate::plan::Errand;

/// A source port for each way and family, for as long as we run. Sockets that do nothing else keep them from others.
#[derive(Debug)]
pub struct Sources {
    source: Option<IpAddr>,
    held: Vec<(SocketAddr, Socket)>,
}

impl Sources {
    /// Where no port can be held, which is logged, the kernel chooses.
    pub fn open(families: &[Family], source: Option<IpAddr>) -> Self {
        let mut held = Vec::new();
        for family in families {
            let all: io::Result<Vec<_>> = (0..WAYS).map(|_| hold(source_of(*family, source))).collect();
            match all {
                Ok(all) => held.extend(all),
                Err(error) => warn!(family = family.as_str(), %error, "no TCP ports of our own"),
            }
        }
        Self { source, held }
    }

    fn of(&self, Way(way): Way, family: Family) -> Option<SocketAddr> {
        let is_ipv4 = family == Family::Ipv4;
        let ours = || self.held.iter().filter(|(address, _)| address.is_ipv4() == is_ipv4);
        ours().nth(usize::from(way) % ours().count().max(1)).map(|(address, _)| *address)
    }
}

fn hold(address: SocketAddr) -> io::Result<(SocketAddr, Socket)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok((address, socket))
}

/// From the port whose turn it is. Where that has a connection to there already it is one of the kernel's, which is reported.
pub async fn probe(order: Order, sources: Arc<Sources>, clock: Clock, reporter: Reporter) -> Report {
    let token = order.token;
    let Errand::Tcp(to) = order.errand else { return Report::NotSent { token, fault: SendFault::NoSocket } };
    let not_sent = |errno| Report::NotSent { token, fault: SendFault::Kernel(errno) };
    if let Some(from) = sources.of(order.way, family(to.ip())) {
        match connect(order, to, bound(from), clock).await {
            Err(Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) => reporter.report(Report::OtherPort { token }),
            told => return told.unwrap_or_else(not_sent),
        }
    }
    connect(order, to, socket(to, sources.source), clock).await.unwrap_or_else(not_sent)
}

/// An error is one of ours.
async fn connect(order: Order, to: SocketAddr, socket: io::Result<TcpSocket>, clock: Clock) -> Result<Report, Errno> {
    let Order { token, errand, timeout, .. } = order;
    let socket = socket.and_then(|socket| socket.set_zero_linger().map(|()| socket)).map_err(|error| errno(&error))?;
    let sent = clock.mono();
    let connected = tokio::time::timeout(timeout, socket.connect(to)).await;
    let rtt = clock.mono().since(sent);
    match connected {
        Ok(Ok(stream)) => {
            drop(stream);
            Ok(Report::Answer { token, errand, outcome: Outcome::Reply, heard: Heard::ByTask { rtt } })
        }
        Ok(Err(error)) => match failure(errno(&error)) {
            Ok(kind) => Ok(Report::Failed { token, kind, after: rtt }),
            Err(_) => Err(errno(&error)),
        },
        Err(_) => Ok(Report::Failed { token, kind: FailureKind::Timeout, after: rtt.max(timeout) }),
    }
}

fn bound(from: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(from)?;
    Ok(socket)
}

pub(super) fn socket(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if source.is_some_and(|source| source.is_ipv4() == to.is_ipv4()) {
        socket.bind(source_of(family(to.ip()), source))?;
    }
    Ok(socket)
}

/// What the target or the way to it did, or a fault of ours.
pub(super) fn failure(errno: Errno) -> Result<FailureKind, SendFault> {
    match errno {
        Errno::ECONNREFUSED => Ok(FailureKind::Refused),
        Errno::ETIMEDOUT => Ok(FailureKind::Timeout),
        Errno::ECONNRESET | Errno::ECONNABORTED => Ok(FailureKind::Other),
        errno if unreachable(errno) => Ok(FailureKind::Unreachable),
        errno => Err(SendFault::Kernel(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::super::{Token, inbox};
    use super::*;

    fn order(to: SocketAddr, way: u8) -> Order {
        Order { token: Token(1), errand: Errand::Tcp(to), timeout: Duration::from_secs(5), way: Way(way) }
    }

    fn sources(source: Option<IpAddr>) -> Arc<Sources> {
        Arc::new(Sources::open(&[Family::Ipv4], source))
    }

    /// What is reported, the probe's end last.
    async fn probed(order: Order, sources: &Arc<Sources>) -> Vec<Report> {
        let (inbox, reporter) = inbox::open().unwrap();
        let end = probe(order, sources.clone(), Clock::start(), reporter).await;
        let mut reports = Vec::new();
        inbox.take(&mut reports);
        reports.push(end);
        reports
    }

    fn is_reply(reports: &[Report]) -> bool {
        matches!(reports, [Report::Answer { heard: Heard::ByTask { rtt }, .. }] if !rtt.is_zero())
    }

    #[tokio::test]
    async fn each_way_has_a_port_of_its_own_that_it_can_take_again_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let source = "127.0.0.5".parse().unwrap();
        let sources = sources(Some(source));
        let mut ports = Vec::new();
        for way in (0..WAYS).chain(0..WAYS) {
            let (reports, accepted) = tokio::join!(probed(order(to, way), &sources), listener.accept());
            assert!(is_reply(&reports), "{reports:?}");
            let (_, from) = accepted.unwrap();
            assert_eq!(from.ip(), source);
            ports.push(from.port());
        }
        let (first, again) = ports.split_at(usize::from(WAYS));
        assert_eq!(first, again);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), usize::from(WAYS));
    }

    #[tokio::test]
    async fn where_its_port_has_a_connection_the_probe_goes_out_from_another_and_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let sources = sources(Some("127.0.0.1".parse().unwrap()));
        let other = bound(sources.of(Way(3), Family::Ipv4).unwrap()).unwrap().connect(to).await.unwrap();
        let mut reports = probed(order(to, 3), &sources).await;
        assert_eq!(reports.remove(0), Report::OtherPort { token: Token(1) });
        assert!(is_reply(&reports), "{reports:?}");
        assert!(is_reply(&probed(order(to, 4), &sources).await));
        drop(other);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = order(listener.local_addr().unwrap(), 0);
        drop(listener);
        let reports = probed(order, &sources(None)).await;
        assert!(matches!(reports[..], [Report::Failed { kind: FailureKind::Refused, .. }]), "{reports:?}");
    }

    #[tokio::test]
    async fn a_source_that_is_not_ours_is_our_fault() {
        let order = order("127.0.0.1:9".parse().unwrap(), 0);
        let reports = probed(order, &sources(Some("192.0.2.1".parse().unwrap()))).await;
        let fault = SendFault::Kernel(Errno::EADDRNOTAVAIL);
        assert_eq!(reports, [Report::NotSent { token: Token(1), fault }]);
    }

    #[test]
    fn refused_unreachable_and_timeout_are_told_apart_and_our_own_faults_are_no_outcome() {
        assert_eq!(failure(Errno::ECONNREFUSED), Ok(FailureKind::Refused));
        assert_eq!(failure(Errno::EHOSTUNREACH), Ok(FailureKind::Unreachable));
        assert_eq!(failure(Errno::ENETUNREACH), Ok(FailureKind::Unreachable));
        assert_eq!(failure(Errno::ETIMEDOUT), Ok(FailureKind::Timeout));
        assert_eq!(failure(Errno::EMFILE), Err(SendFault::Kernel(Errno::EMFILE)));
        assert_eq!(failure(Errno::EPERM), Err(SendFault::Kernel(Errno::EPERM)));
    }
}
