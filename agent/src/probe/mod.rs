//! What a probe is, how it is sent, and what is told of it. One file for each kind, its packets beside its sender.

#[cfg(test)]
mod bench;
pub mod certificate;
pub mod dial;
pub mod dns;
pub mod floor;
pub mod http;
pub mod icmp;
pub mod inbox;
pub mod phases;
pub mod sockets;
pub mod stamp;
pub mod stun;
pub mod surge;
pub mod tcp;
pub mod tls;
pub mod voice;
pub mod websocket;
pub mod why;
pub mod wire;

use std::time::Duration;

use runtime::Mono;
use telemetry::{FailureKind, Outcome, Series, UnixSeconds};

use crate::plan::{Aspect, Errand};

/// What takes probes and tells what became of them. Its twin in the pacer's tests is a network made of data.
pub trait Prober: Send {
    /// `Ok`: the probe is out, and ends by a report or by its timeout.
    fn send(&mut self, order: Order) -> Result<Launch, SendFault>;

    /// What was heard since this was last asked.
    fn heard(&mut self, heard: &mut Vec<Report>);
}

/// Names a probe in flight. On the wire it is a sequence, an SSRC, a part of an id, or an id stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u32);

#[derive(Debug, Clone, Copy)]
pub struct Order {
    pub token: Token,
    pub errand: Errand,
    pub timeout: Duration,
    pub way: Way,
}

/// A source port, where a probe has several. Of parallel paths a router takes one by the addresses and ports of a packet, so
/// that each way of a probe may lead over another of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Way(pub u8);

/// From so many ports, probes see most of the parallel paths.
pub const WAYS: u8 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch {
    /// Its time runs from here.
    OnTheWire(Mono),
    /// Given to a task, which stamps it, times it out and reports.
    Handed,
}

impl Launch {
    pub fn sent(self) -> Option<Mono> {
        match self {
            Self::OnTheWire(sent) => Some(sent),
            Self::Handed => None,
        }
    }
}

/// Why a probe was not sent: a fault of ours, so it is missed, never lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    #[error("no socket for this kind and family could be opened")]
    NoSocket,
    #[error("the task that sends these is behind")]
    Busy,
    #[error("there is no connection to send it on")]
    NotConnected,
    #[error("the kernel would not send: {0}")]
    Kernel(nix::errno::Errno),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// An answer to the probe of that token, if it came from where that errand went; and whether it is the one that was
    /// hoped for.
    Answer { token: Token, errand: Errand, outcome: Outcome, heard: Heard },
    /// It failed, and that was known after so long.
    Failed { token: Token, kind: FailureKind, after: Duration },
    /// It had several phases, and each of them ended like this. A handshake among them was shown certificates.
    Phased { token: Token, samples: Vec<Sample>, not_after: Option<UnixSeconds> },
    /// It is on its way from a port of the kernel's choice, since its own was in use. Its end is yet to be told.
    OtherPort { token: Token },
    /// A task could not send it.
    NotSent { token: Token, fault: SendFault },
    /// A packet that answers nothing we could have asked.
    Malformed,
}

/// What one phase of a probe measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub aspect: Aspect,
    pub outcome: Outcome,
    /// Of a reply how long the phase took; of a failure how long after the probe's begin it was known.
    pub duration: Duration,
}

/// When an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Read from a socket of the pacer's at `at`; the kernel says that it came at `kernel`.
    ByPacer { at: Mono, kernel: Option<Mono> },
    /// A task measured it from its own send on.
    ByTask { rtt: Duration },
}

/// The time between a send and its answer, and how it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    pub time: Duration,
    /// The kernel's stamp lay before the send or after the read. It is of the wall clock, which somebody may have set in between:
    /// then the time until the read stands.
    pub stamp_refused: bool,
}

impl Heard {
    /// `None`: it was read before it was sent, so that whoever said when it came was wrong.
    pub fn round_trip(self, sent: Mono) -> Option<RoundTrip> {
        match self {
            Self::ByTask { rtt } => Some(RoundTrip { time: rtt, stamp_refused: false }),
            Self::ByPacer { at, .. } if at < sent => None,
            Self::ByPacer { at, kernel } => {
                let believed = kernel.filter(|kernel| (sent..=at).contains(kernel));
                let stamp_refused = kernel.is_some() && believed.is_none();
                Some(RoundTrip { time: believed.unwrap_or(at).since(sent), stamp_refused })
            }
        }
    }

    /// As if it had come sooner: so long it lay at the target.
    fn earlier_by(self, dwell: Duration) -> Self {
        match self {
            Self::ByPacer { at, kernel } => {
                Self::ByPacer { at: at - dwell, kernel: kernel.map(|kernel| kernel - dwell) }
            }
            Self::ByTask { rtt } => Self::ByTask { rtt: rtt.saturating_sub(dwell) },
        }
    }
}

/// Says who asks, to whoever reads a server's log.
pub(crate) fn user_agent(series: &Series) -> String {
    let Series { agent, source, .. } = series;
    format!("isochrone-agent/{} ({agent} in {source})", env!("CARGO_PKG_VERSION"))
}

/// Errors by which the kernel says that there is no way to the target: an outcome, not a fault of ours.
pub(crate) fn unreachable(errno: nix::errno::Errno) -> bool {
    use nix::errno::Errno;
    matches!(errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN)
}

pub(crate) fn errno(error: &std::io::Error) -> nix::errno::Errno {
    nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or_default())
}
