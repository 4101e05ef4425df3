//! ICMP echo through surge-ping, where the configuration asks for it: one client of each family.
//!
//! Its clock is read after the send returns, so that on a loopback, where the answer is back by then, it measures nothing:
//! there our own reading stands in. The kernel's stamps are for [`super::icmp`].

use std::net::IpAddr;

use runtime::Clock;
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};
use telemetry::{FailureKind, Family, Outcome};
use tracing::warn;

use super::sockets::source_of;
use super::{Heard, Order, Report, SendFault, errno, unreachable};
use crate::plan::Errand;

/// As much as other pingers send.
const PAYLOAD: [u8; 56] = [0; 56];

/// `None`: it could not be opened, and the log says why.
pub fn open(family: Family, source: Option<IpAddr>) -> Option<Client> {
    let kind = match family {
        Family::Ipv4 => ICMP::V4,
        Family::Ipv6 => ICMP::V6,
    };
    match Client::new(&Config::builder().kind(kind).bind(source_of(family, source)).build()) {
        Ok(client) => Some(client),
        Err(error) => {
            warn!(
                family = family.as_str(),
                error = error.to_string().lines().next().unwrap_or_default(),
                allow = "sysctl net.ipv4.ping_group_range, or the capability CAP_NET_RAW",
                "no ICMP socket; icmp probes are missed"
            );
            None
        }
    }
}

pub async fn probe(order: Order, client: Client, clock: Clock) -> Report {
    let Order { token, errand, timeout, .. } = order;
    let Errand::SurgePing(to) = errand else { return Report::NotSent { token, fault: SendFault::NoSocket } };
    // A raw socket sends both halves of the token; the kernel puts an identifier of its own into what others send.
    let [high, low] = [(token.0 >> 16) as u16, token.0 as u16];
    let mut pinger = client.pinger(to, PingIdentifier(high)).await;
    pinger.timeout(timeout);
    let sent = clock.mono();
    let answer = pinger.ping(PingSequence(low), &PAYLOAD).await;
    let elapsed = clock.mono().since(sent);
    match answer {
        Ok((packet, rtt)) if is_reply(&packet) => {
            let rtt = if rtt.is_zero() { elapsed } else { rtt };
            Report::Answer { token, errand, outcome: Outcome::Reply, heard: Heard::ByTask { rtt } }
        }
        Ok(_) => Report::Failed { token, kind: FailureKind::Unreachable, after: elapsed },
        Err(SurgeError::Timeout { .. }) => {
            Report::Failed { token, kind: FailureKind::Timeout, after: elapsed.max(timeout) }
        }
        Err(SurgeError::IOError(error)) if unreachable(errno(&error)) => {
            Report::Failed { token, kind: FailureKind::Unreachable, after: elapsed }
        }
        Err(SurgeError::IOError(error)) => Report::NotSent { token, fault: SendFault::Kernel(errno(&error)) },
        Err(_) => Report::NotSent { token, fault: SendFault::Busy },
    }
}

/// Anything else that comes back for our echo is a router's error about it.
fn is_reply(packet: &IcmpPacket) -> bool {
    match packet {
        IcmpPacket::V4(packet) => packet.get_icmp_type().0 == 0,
        IcmpPacket::V6(packet) => packet.get_icmpv6_type().0 == 129,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Token;
    use super::*;

    #[tokio::test]
    async fn an_echo_on_the_loopback_takes_some_time() {
        let Some(client) = open(Family::Ipv4, Some("127.0.0.1".parse().unwrap())) else {
            return; // this machine lets us send no ICMP
        };
        let errand = Errand::SurgePing("127.0.0.1".parse().unwrap());
        let order = Order {
            token: Token(0x0102_0304),
            errand,
            timeout: Duration::from_secs(5),
            way: super::super::Way::default(),
        };
        let report = probe(order, client, Clock::start()).await;
        assert!(matches!(report, Report::Answer { heard: Heard::ByTask { rtt }, .. } if !rtt.is_zero()), "{report:?}");
    }
}
