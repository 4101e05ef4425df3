//! How tasks wait as long as a path takes. A task asks for a crossing and awaits its end; the thread of the reflectors draws it
//! from the same chances as a packet's, and ends it on time, which a sleep of tokio's would not.
//!
//! On a stream nothing is lost for good: what is lost is sent again, after [`retransmission`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use runtime::Mono;
use tokio::sync::oneshot;

use crate::model::{Source, TargetNo};

/// One round trip of a stream's, under way.
#[derive(Debug)]
pub struct Crossing {
    pub source: Source,
    pub target: TargetNo,
    /// When it began; after a loss, when it began anew.
    pub at: Mono,
    /// What the far end takes for its answer.
    pub work: Duration,
    losses: u32,
    arrived: oneshot::Sender<()>,
}

/// Where tasks ask.
#[derive(Debug, Clone)]
pub struct Crossings {
    asked: mpsc::Sender<Crossing>,
    bell: Arc<EventFd>,
}

/// Where the thread that draws them finds those that were asked for. It can be read when there are any.
#[derive(Debug)]
pub struct Asked {
    asked: mpsc::Receiver<Crossing>,
    bell: Arc<EventFd>,
}

const FIRST_RETRANSMISSION: Duration = Duration::from_millis(200);
/// Linux's `TCP_RTO_MAX`.
const LAST_RETRANSMISSION: Duration = Duration::from_mins(2);

pub fn channel() -> io::Result<(Crossings, Asked)> {
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let (sender, asked) = mpsc::channel();
    Ok((Crossings { asked: sender, bell: Arc::clone(&bell) }, Asked { asked, bell }))
}

impl Crossings {
    /// Ends when what was said to the target at `at` has its answer. When nobody draws any more it never ends.
    pub fn make(&self, source: Source, target: TargetNo, at: Mono, work: Duration) -> impl Future<Output = ()> + use<> {
        let (arrived, end) = oneshot::channel();
        let sent = self.asked.send(Crossing { source, target, at, work, losses: 0, arrived });
        // The bell is full only when it rings already.
        sent.is_ok().then(|| self.bell.write(1).ok());
        async move {
            if end.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Asked {
    /// Those that came since this was last asked.
    pub fn take(&self) -> io::Result<impl Iterator<Item = Crossing>> {
        match self.bell.read() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(self.asked.try_iter()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Asked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Crossing {
    /// Whether somebody still waits for its end.
    pub fn is_awaited(&self) -> bool {
        !self.arrived.is_closed()
    }

    pub fn arrive(self) {
        // Who asked may have gone in the meantime.
        self.arrived.send(()).ok();
    }

    /// It was lost, and begins again.
    #[must_use]
    pub fn lost(self) -> Self {
        Self { at: self.at + retransmission(self.losses), losses: self.losses.saturating_add(1), ..self }
    }
}

/// How long after a segment was lost for the first, second … time it is sent again.
fn retransmission(losses: u32) -> Duration {
    FIRST_RETRANSMISSION.saturating_mul(2_u32.saturating_pow(losses)).min(LAST_RETRANSMISSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_sent_again_after_twice_as_long_each_time() {
        let millis: Vec<_> = [0, 1, 2, 9, 10, 99].map(|losses| retransmission(losses).as_millis()).into();
        assert_eq!(millis, [200, 400, 800, 102_400, 120_000, 120_000]);
    }

    #[tokio::test]
    async fn a_crossing_rings_ends_when_it_arrives_and_is_given_up_with_its_task() {
        let (crossings, asked) = channel().unwrap();
        let crossing = |at| crossings.make(Source::Unknown, TargetNo(3), Mono(at), Duration::ZERO);
        let (first, second) = (crossing(1), crossing(2));
        let mut taken: Vec<_> = asked.take().unwrap().collect();
        assert_eq!(taken.iter().map(|crossing| crossing.at).collect::<Vec<_>>(), [Mono(1), Mono(2)]);
        assert_eq!(asked.take().unwrap().count(), 0);

        drop(second);
        assert!(!taken.pop().unwrap().is_awaited());
        let first_again = taken.pop().unwrap().lost();
        assert_eq!((first_again.at, first_again.is_awaited()), (Mono(200_000_001), true));
        first_again.arrive();
        first.await;
    }
}
