//! `/api/v1/backups`: copies of all that is here, taken while it goes on. Where they go is in the configuration, and in no request.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{Leaving, List};
use crate::backup::{self, Backup, BackupError, Source};
use crate::config;
use crate::problem::Problem;

#[derive(Debug, Clone)]
pub(super) struct Backups {
    leaving: Leaving,
    room: Arc<Semaphore>,
}

/// Nothing is asked for but that there be one. (JSON, so that no page elsewhere can have a browser ask.)
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {}

#[derive(Serialize, ToSchema)]
#[schema(as = Backup)]
pub(super) struct Item {
    name: String,
    /// On the collector's machine.
    dir: String,
    #[schema(format = DateTime)]
    taken: String,
    /// Everything before this position of the log is in it.
    end: u64,
    bytes: u64,
}

impl Backups {
    pub(super) fn new(leaving: Leaving) -> Self {
        Self { leaving, room: Arc::new(Semaphore::new(1)) }
    }

    fn place(&self) -> Result<config::Backups, Problem> {
        let none = || {
            let detail = "no [backup] dir is configured: without one nobody may ask for backups";
            Problem::new(StatusCode::FORBIDDEN, "backup", detail)
        };
        self.leaving.backup.clone().ok_or_else(none)
    }
}

/// Every backup that is whole, the oldest first.
#[utoipa::path(get, path = "/api/v1/backups", operation_id = "listBackups", responses((status = 200, body = List<Item>)))]
pub(super) async fn list(State(backups): State<Backups>) -> Result<Json<List<Item>>, Problem> {
    let place = backups.place()?;
    let all = blocking(move || backup::list(&place.dir)).await?;
    Ok(Json(List::new(all.into_iter().map(Item::of).collect(), backups.leaving.clock.wall())))
}

/// Takes one, and answers when it is whole. Beyond those that are to be kept the oldest go.
#[utoipa::path(
    post, path = "/api/v1/backups", operation_id = "takeBackup", request_body = Wanted,
    responses((status = 201, body = Item)),
)]
pub(super) async fn take(
    State(backups): State<Backups>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<Item>), Problem> {
    let Json(Wanted {}) = wanted.map_err(|fault| Problem::new(fault.status(), "body", fault.body_text()))?;
    let place = backups.place()?;
    let busy = || Problem::new(StatusCode::CONFLICT, "busy", "a backup is being taken").retry_after(10);
    let room = backups.room.clone().try_acquire_owned().map_err(|_| busy())?;
    let Leaving { settle, data_dir, clock, .. } = backups.leaving;
    // A history that cannot be written is a reason for a backup, and the log has what it lacks.
    if let Err(error) = settle.settle().await {
        tracing::warn!(%error, "backup of what is stored");
    }
    let source = Source { data_dir, history: settle.history, log: settle.log.reading() };
    let taken = blocking(move || {
        let _room = room;
        let taken = source.back_up(&place.dir, clock.wall())?;
        backup::keep(&place.dir, place.keep)?;
        tracing::info!(dir = %taken.dir.display(), end = taken.manifest.end, bytes = taken.manifest.bytes(), "backup taken");
        Ok(taken)
    });
    Ok((StatusCode::CREATED, Json(Item::of(taken.await?))))
}

impl Item {
    fn of(Backup { name, dir, manifest }: Backup) -> Self {
        let (end, bytes) = (manifest.end, manifest.bytes());
        Self { name, dir: dir.display().to_string(), taken: manifest.taken, end, bytes }
    }
}

/// Goes on to its end, whether or not anyone waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "backup", "the backup was not taken"))??)
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::History(closed) => return closed.into(),
            BackupError::Held(_) => return Self::new(StatusCode::CONFLICT, "busy", error).retry_after(10),
            _ => {}
        }
        tracing::error!(error = &error as &dyn std::error::Error, "no backup");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "backup", "the backup was not taken; the collector's log says why")
    }
}
