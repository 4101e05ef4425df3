//! Coarse jobs, by cron, UTC. Never for anything that a probe or a decision waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runtime::Shutdown;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// Every five minutes.
const SNAPSHOT: &str = "0 */5 * * * *";

/// Raised when a snapshot is due; lowered by who takes it.
pub type SnapshotDue = Arc<AtomicBool>;

pub async fn run(due: SnapshotDue, shutdown: Shutdown) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    scheduler.add(Job::new(SNAPSHOT, move |_, _| due.store(true, Ordering::Relaxed))?).await?;
    scheduler.start().await?;
    shutdown.cancelled().await;
    scheduler.shutdown().await
}
