//! The way back from tasks to the pacer: reports in a queue, and a bell that ends the pacer's wait.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc as orders;
use tokio::task::JoinSet;

use super::{Order, Report};

#[derive(Debug)]
pub struct Inbox {
    reports: Receiver<Report>,
    bell: Bell,
}

#[derive(Debug, Clone)]
pub struct Reporter {
    reports: Sender<Report>,
    bell: Bell,
}

/// Wakes the pacer. One that has rung and is not silenced does not ring again: that spares system calls.
#[derive(Debug, Clone)]
pub struct Bell {
    event: Arc<EventFd>,
    rung: Arc<AtomicBool>,
}

pub fn open() -> nix::Result<(Inbox, Reporter)> {
    let event = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let bell = Bell { event, rung: Arc::default() };
    let (sender, reports) = mpsc::channel();
    let reporter = Reporter { reports: sender, bell: bell.clone() };
    Ok((Inbox { reports, bell }, reporter))
}

impl Inbox {
    pub fn take(&self, reports: &mut Vec<Report>) {
        reports.extend(self.reports.try_iter());
    }

    /// After it ended a wait, and before the queue is read: what comes in between rings again.
    pub fn silence(&self) {
        // An error means that somebody else's ring is yet to come.
        self.bell.event.read().ok();
        self.bell.rung.swap(false, Ordering::AcqRel);
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.event.as_fd()
    }
}

impl Reporter {
    pub fn report(&self, report: Report) {
        // The pacer is gone only when nobody counts any more.
        self.reports.send(report).ok();
        self.bell.ring();
    }

    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

impl Bell {
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It fails only when it has rung 2^64 times unheard.
            self.event.write(1).ok();
        }
    }
}

/// Carries out orders, each as a task of its own, until the pacer is gone; what is under way then would report to nobody. A
/// task that dies leaves its probe unreported, and the pacer counts it as missed.
pub async fn carry_out<F, Fut>(mut orders: orders::Receiver<Order>, reporter: Reporter, probe: F)
where
    F: Fn(Order) -> Fut,
    Fut: Future<Output = Report> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { break };
                let (report, reporter) = (probe(order), reporter.clone());
                under_way.spawn(async move { reporter.report(report.await) });
            }
            Some(_) = under_way.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::timer::Poller;

    use super::super::{SendFault, Token};
    use super::*;
    use crate::plan::Errand;

    fn order(token: u32) -> Order {
        Order {
            token: Token(token),
            errand: Errand::Nowhere,
            timeout: Duration::from_mins(1),
            way: super::super::Way::default(),
        }
    }

    async fn busy(order: Order) -> Report {
        Report::NotSent { token: order.token, fault: SendFault::Busy }
    }

    #[tokio::test]
    async fn a_report_ends_the_wait_once() {
        let (inbox, reporter) = open().unwrap();
        let (desk, orders) = orders::channel(1);
        let rung = || Poller::new([inbox.fd()]).wait(Some(Duration::ZERO)).unwrap().count();
        assert_eq!(rung(), 0);
        let giving = async {
            desk.send(order(7)).await.unwrap();
            while rung() == 0 {
                tokio::task::yield_now().await;
            }
            drop(desk);
        };
        let both = async { tokio::join!(carry_out(orders, reporter, busy), giving) };
        tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        let mut reports = Vec::new();
        inbox.take(&mut reports);
        assert_eq!(reports, [Report::NotSent { token: Token(7), fault: SendFault::Busy }]);
        assert_eq!(rung(), 1, "it is not silent yet");
        inbox.silence();
        assert_eq!(rung(), 0);
    }

    #[test]
    fn a_bell_that_was_silenced_rings_again() {
        let (inbox, reporter) = open().unwrap();
        let report = || reporter.report(Report::Malformed);
        let rung = || Poller::new([inbox.fd()]).wait(Some(Duration::ZERO)).unwrap().count();
        for _ in 0..2 {
            report();
            report();
            assert_eq!(rung(), 1);
            inbox.silence();
            assert_eq!(rung(), 0);
        }
        let mut reports = Vec::new();
        inbox.take(&mut reports);
        assert_eq!(reports.len(), 4, "none is lost by it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_under_way_does_not_outlive_the_pacer() {
        let (_inbox, reporter) = open().unwrap();
        let (desk, orders) = orders::channel(1);
        desk.try_send(order(7)).unwrap();
        drop(desk);
        let never = |_| std::future::pending();
        tokio::time::timeout(Duration::from_secs(1), carry_out(orders, reporter, never)).await.unwrap();
    }
}
