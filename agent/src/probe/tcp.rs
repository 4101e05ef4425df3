//! TCP: how long a connection takes to be established. It is closed at once.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use runtime::Clock;
use telemetry::{FailureKind, Outcome};
use tokio::net::TcpSocket;

use super::sockets::source_of;
use super::{Heard, Order, Report, SendFault, errno, unreachable};
use crate::endpoint::family;
use crate::plan::Errand;

pub async fn probe(order: Order, source: Option<IpAddr>, clock: Clock) -> Report {
    let Order { token, errand, timeout, .. } = order;
    let Errand::Tcp(to) = errand else { return Report::NotSent { token, fault: SendFault::NoSocket } };
    let socket = match socket(to, source) {
        Ok(socket) => socket,
        Err(error) => return Report::NotSent { token, fault: SendFault::Kernel(errno(&error)) },
    };
    let sent = clock.mono();
    let connected = tokio::time::timeout(timeout, socket.connect(to)).await;
    let rtt = clock.mono().since(sent);
    match connected {
        Ok(Ok(stream)) => {
            drop(stream);
            Report::Answer { token, errand, outcome: Outcome::Reply, heard: Heard::ByTask { rtt } }
        }
        Ok(Err(error)) => match failure(errno(&error)) {
            Ok(kind) => Report::Failed { token, kind, after: rtt },
            Err(fault) => Report::NotSent { token, fault },
        },
        Err(_) => Report::Failed { token, kind: FailureKind::Timeout, after: rtt.max(timeout) },
    }
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
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::super::Token;
    use super::*;

    fn order(to: SocketAddr) -> Order {
        Order {
            token: Token(1),
            errand: Errand::Tcp(to),
            timeout: Duration::from_secs(5),
            way: super::super::Way::default(),
        }
    }

    #[tokio::test]
    async fn a_connection_is_a_reply_from_the_source_that_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = order(listener.local_addr().unwrap());
        let source = "127.0.0.5".parse().unwrap();
        let (report, accepted) = tokio::join!(probe(order, Some(source), Clock::start()), listener.accept());
        assert!(matches!(report, Report::Answer { heard: Heard::ByTask { rtt }, .. } if !rtt.is_zero()), "{report:?}");
        assert_eq!(accepted.unwrap().1.ip(), source);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = order(listener.local_addr().unwrap());
        drop(listener);
        let report = probe(order, None, Clock::start()).await;
        assert!(matches!(report, Report::Failed { kind: FailureKind::Refused, .. }), "{report:?}");
    }

    #[tokio::test]
    async fn a_source_that_is_not_ours_is_our_fault() {
        let order = order("127.0.0.1:9".parse().unwrap());
        let report = probe(order, Some("192.0.2.1".parse().unwrap()), Clock::start()).await;
        let fault = SendFault::Kernel(Errno::EADDRNOTAVAIL);
        assert_eq!(report, Report::NotSent { token: Token(1), fault });
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
