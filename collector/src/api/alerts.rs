//! `GET /api/v1/alerts`, `GET /api/v1/deliveries`: what is wrong, and who was told.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use telemetry::ReceiverName;
use utoipa::{IntoParams, ToSchema};

use super::List;
use crate::alerts::{Alert, AlertState, Row, RowState, Severity, alertmanager};
use crate::core::Snapshots;
use crate::entry::Answer;
use crate::problem::Problem;
use crate::state::State as Concluded;

#[derive(Deserialize, IntoParams)]
pub(super) struct AlertsWanted {
    /// `pending`, `firing` or `resolved`; left out: all.
    state: Option<String>,
}

#[derive(Deserialize, IntoParams)]
pub(super) struct DeliveriesWanted {
    receiver: Option<String>,
    /// `waiting`, `delivered` or `dead`; left out: all.
    state: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Alert)]
pub(super) struct AlertItem {
    pub(super) id: String,
    rule: &'static str,
    state: AlertState,
    severity: Severity,
    labels: BTreeMap<&'static str, String>,
    #[schema(format = DateTime)]
    since: String,
    #[schema(format = DateTime)]
    ended: Option<String>,
    /// Nothing explains it yet.
    incident: Option<String>,
    /// The share of the sources that see the region badly.
    value: Option<f64>,
    reason: String,
    acked_by: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Delivery {
    id: String,
    receiver: ReceiverName,
    alert: String,
    attempts: u32,
    last_status: Option<u16>,
    #[schema(format = DateTime)]
    next_try: Option<String>,
    /// `waiting`, `delivered` or `dead`.
    state: &'static str,
    /// What the last attempt was answered, or why there will be none.
    reason: Option<String>,
}

/// What is wrong, and what was until lately.
#[utoipa::path(get, path = "/api/v1/alerts", operation_id = "listAlerts", params(AlertsWanted), responses((status = 200, body = List<AlertItem>)))]
pub(super) async fn alerts(
    State(snapshots): State<Snapshots>,
    Query(asked): Query<AlertsWanted>,
) -> Result<Json<List<AlertItem>>, Problem> {
    one_of("state", asked.state.as_deref(), &AlertState::ALL.map(AlertState::as_str))?;
    let state = snapshots.state();
    let wanted = |alert: &&Alert| asked.state.as_deref().is_none_or(|state| state == alert.state.as_str());
    let items = state.alerts.iter().filter(wanted).map(|alert| AlertItem::of(&state, alert));
    Ok(Json(List::new(items.collect(), state.now)))
}

/// Who is told, and how that goes.
#[utoipa::path(get, path = "/api/v1/deliveries", operation_id = "listDeliveries", params(DeliveriesWanted), responses((status = 200, body = List<Delivery>)))]
pub(super) async fn deliveries(
    State(snapshots): State<Snapshots>,
    Query(asked): Query<DeliveriesWanted>,
) -> Result<Json<List<Delivery>>, Problem> {
    one_of("state", asked.state.as_deref(), &RowState::ALL)?;
    let state = snapshots.state();
    let wanted = |row: &&Row| {
        asked.state.as_deref().is_none_or(|state| state == row.state.as_str())
            && asked.receiver.as_deref().is_none_or(|receiver| receiver == row.receiver.as_str())
    };
    let items = state.alerts.outbox.iter().filter(wanted).map(|row| Delivery::of(&state, row));
    Ok(Json(List::new(items.collect(), state.now)))
}

fn one_of(key: &str, found: Option<&str>, allowed: &[&str]) -> Result<(), Problem> {
    match found {
        Some(found) if !allowed.contains(&found) => {
            Err(Problem::bad_query(format!("{key}: found \"{found}\", allowed: {}", allowed.join(", "))))
        }
        _ => Ok(()),
    }
}

impl AlertItem {
    pub(super) fn of(state: &Concluded, Alert { id, state: stands, notice, .. }: &Alert) -> Self {
        let labels = alertmanager::named(notice).into_iter().map(|(name, value)| (name, value.to_owned()));
        Self {
            id: id.name(state.epoch),
            rule: alertmanager::NAME,
            state: *stands,
            severity: notice.severity,
            labels: labels.collect(),
            since: notice.since.to_string(),
            ended: notice.ended.map(|ended| ended.to_string()),
            incident: None,
            value: notice.finding.bad_share(),
            reason: notice.finding.to_string(),
            acked_by: None,
        }
    }
}

impl Delivery {
    fn of(state: &Concluded, row: &Row) -> Self {
        let last_status = match row.last {
            Some(Answer::Status { code, .. }) => Some(code),
            _ => None,
        };
        let (next_try, given_up) = match row.state {
            RowState::Waiting { until } => (Some(until.to_string()), None),
            RowState::Delivered => (None, None),
            RowState::Dead(why) => (None, Some(why.to_string())),
        };
        Self {
            id: row.id.name(state.epoch),
            receiver: row.receiver.clone(),
            alert: row.alert.name(state.epoch),
            attempts: row.attempts,
            last_status,
            next_try,
            state: row.state.as_str(),
            reason: given_up.or(row.last.map(|answer| answer.to_string())),
        }
    }
}
