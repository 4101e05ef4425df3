//! Named tasks and threads, and their end.
//!
//! Every task is spawned here, has a name, and is told to stop by the same [`Shutdown`]. A task that fails takes the process
//! down; one that outlives the drain is named in the last log line.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// How long a process may take to end after it was told to: the promise is ten seconds, a margin is kept.
const DRAIN: Duration = Duration::from_secs(9);

/// Told to stop: cloned into every task, cancelled once.
pub type Shutdown = CancellationToken;

#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
    book: Arc<Mutex<Book>>,
}

/// Who still runs, and who failed first.
#[derive(Debug, Default)]
struct Book {
    running: BTreeMap<&'static str, usize>,
    failed: Option<(&'static str, String)>,
}

/// Builds the program, waits for a signal or a failure, drains. The exit code is a success only if nothing failed and
/// everything stopped in time.
pub fn run<F, Fut>(program: &'static str, build: F) -> ExitCode
where
    F: FnOnce(Tasks) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let tokio = match tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime") {
        Ok(tokio) => tokio,
        Err(error) => {
            error!(program, error = format!("{error:#}"), "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let code = tokio.block_on(async {
        let tasks = Tasks::default();
        match live(&tasks, build(tasks.clone())).await {
            Ok(()) => info!(program, "draining"),
            Err(error) => {
                error!(program, error = format!("{error:#}"), "cannot go on");
                tasks.drain().await;
                return ExitCode::FAILURE;
            }
        }
        let unfinished = tasks.drain().await;
        let failed = tasks.book().failed.clone();
        match &failed {
            // The last line is the one that is read: it says why.
            Some((task, error)) => error!(program, task, error, "stopped after a failure"),
            None if !unfinished.is_empty() => warn!(program, ?unfinished, "stopped before these had finished"),
            None => info!(program, "stopped"),
        }
        if failed.is_none() && unfinished.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    });
    tokio.shutdown_background();
    code
}

async fn live(tasks: &Tasks, build: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    build.await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tasks.shutdown.cancelled() => {}
    }
    Ok(())
}

impl Tasks {
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Spawns a task. If it fails, the process drains and ends with a failure. An `anyhow::Error` is told with what it came from.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let tasks = self.clone();
        tasks.began(name);
        let task = self.tracker.spawn(async move { task.await.map_err(|error| format!("{error:#}")) });
        self.tracker.spawn(async move {
            let result = task.await.unwrap_or_else(|panic| Err(panic.to_string()));
            tasks.ended(name, result);
        });
    }

    /// Spawns a thread of that name, tracked as a task is. For work that owns a clock or blocks.
    pub fn thread<F, E>(&self, name: &'static str, body: F) -> std::io::Result<()>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Display + Send + 'static,
    {
        let (done, end) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || drop(done.send(body())))?;
        self.spawn(name, async move {
            match end.await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("panicked".to_owned()),
            }
        });
        Ok(())
    }

    /// Tells every task to stop, waits, and names those that did not.
    async fn drain(&self) -> Vec<&'static str> {
        self.shutdown.cancel();
        self.tracker.close();
        match tokio::time::timeout(DRAIN, self.tracker.wait()).await {
            Ok(()) => Vec::new(),
            Err(_) => self.book().running.keys().copied().collect(),
        }
    }

    fn began(&self, name: &'static str) {
        *self.book().running.entry(name).or_default() += 1;
    }

    fn ended(&self, name: &'static str, result: Result<(), String>) {
        let mut book = self.book();
        if let Some(count) = book.running.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                book.running.remove(name);
            }
        }
        if let Err(error) = result {
            error!(task = name, error, "task failed");
            book.failed.get_or_insert((name, error));
            self.shutdown.cancel();
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_named() {
        let tasks = Tasks::default();
        let shutdown = tasks.shutdown();
        tasks.spawn("polite", async move {
            shutdown.cancelled().await;
            Ok::<_, String>(())
        });
        tasks.spawn("stubborn", std::future::pending::<Result<(), String>>());
        assert_eq!(tasks.drain().await, ["stubborn"]);
    }

    #[tokio::test]
    async fn a_failed_task_ends_the_others() {
        let tasks = Tasks::default();
        tasks.spawn("broken", async { Err("no disk") });
        tasks.shutdown().cancelled().await;
        assert_eq!(tasks.book().failed, Some(("broken", "no disk".to_owned())));
        assert!(tasks.drain().await.is_empty());
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_a_failure() {
        let tasks = Tasks::default();
        tasks.thread("shaky", || -> Result<(), String> { panic!("as the test wants") }).unwrap();
        tasks.shutdown().cancelled().await;
        assert_eq!(tasks.book().failed, Some(("shaky", "panicked".to_owned())));
    }
}
