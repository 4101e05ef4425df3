//! The way back from tasks to the pacer: reports in a queue, and a bell that ends the pacer's wait.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc as orders;
use tokio::task::JoinSet;

use super::{Order, Report};

#[derive(Debug)]
pub struct Inbox {
    reports: Receiver<Report>,
    bell: Arc<EventFd>,
}

#[derive(Debug, Clone)]
pub struct Reporter {
    reports: Sender<Report>,
    bell: Bell,
}

/// Wakes the pacer.
#[derive(Debug, Clone)]
pub struct Bell(Arc<EventFd>);

pub fn open() -> nix::Result<(Inbox, Reporter)> {
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let (sender, reports) = mpsc::channel();
    let reporter = Reporter { reports: sender, bell: Bell(bell.clone()) };
    Ok((Inbox { reports, bell }, reporter))
}

impl Inbox {
    pub fn take(&self, reports: &mut Vec<Report>) {
        // Silenced before the queue is read: what comes in between rings again. An error means that it had not rung.
        self.bell.read().ok();
        reports.extend(self.reports.try_iter());
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
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
        // It fails only when it has rung 2^64 times unheard.
        self.0.write(1).ok();
    }
}

/// Carries out orders, each as a task of its own, until nobody can give any more and the last is done. One that dies leaves
/// its probe unreported, and the pacer counts it as missed.
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
    while under_way.join_next().await.is_some() {}
}
