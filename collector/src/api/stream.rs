//! `GET /api/v1/stream`: what is concluded, as it changes, by server-sent events.
//!
//! An event's name is its topic, its data `{"kind","number","as_of","items","gone"}`: first a `snapshot` of each topic, then, at
//! most once a second, a `change` with the items that differ and the keys of those that are gone. A second without a change
//! sends a `mark`, so that a reader sees the age of what it shows. Events are numbered from 1; who misses a number
//! reconnects, and gets snapshots. Ages and times of rendering alone make no change.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use telemetry::{RegionName, ServiceName, Wall};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use utoipa::openapi::schema::{AnyOf, AnyOfBuilder};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use xxhash_rust::xxh3::xxh3_64;

use super::alerts::AlertItem;
use super::matrix::{self, Figures};
use super::{openapi, regions};
use crate::cells::CellKey;
use crate::core::Snapshots;
use crate::problem::Problem;
use crate::state::State as Concluded;

const PACE: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How far back the figures of a cell look.
const WINDOW: Duration = Duration::from_secs(30);
/// What says when something was rendered, not what it says.
const TIMES: [&str; 5] = ["age_s", "as_of", "generated_at", "stale_after", "valid_until"];

#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// Of `regions`, `matrix`, `hints` and `alerts`, between commas; all of them by default.
    #[param(example = "regions,hints")]
    topics: Option<String>,
    /// All of them, by default.
    service: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Regions,
    Matrix,
    Hints,
    Alerts,
}

/// Where one reader stands.
struct Follower {
    snapshots: Snapshots,
    news: watch::Receiver<()>,
    topics: Vec<Topic>,
    service: Option<ServiceName>,
    /// The fingerprint of every item that was sent.
    known: BTreeMap<Topic, BTreeMap<String, u64>>,
    waiting: VecDeque<Event>,
    number: u64,
    next: Instant,
}

/// The data of an event.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct Document<T> {
    kind: Kind,
    /// From 1 on, over all topics. Who misses one reconnects, and gets snapshots.
    number: u64,
    #[schema(format = DateTime)]
    as_of: String,
    /// All there are, or those that differ.
    #[schema(schema_with = openapi::array_of::<T>)]
    items: Vec<T>,
    /// The keys of those that are gone: `service/region`, of the matrix `service/source/region`, of hints `service/source`, of
    /// alerts their id.
    gone: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EventKind)]
enum Kind {
    Snapshot,
    Change,
    /// Nothing changed.
    Mark,
}

/// The data of an event of any topic, for the document alone: what is sent is of one. A mark has no items.
struct StreamEvent;

impl ToSchema for StreamEvent {}

impl PartialSchema for StreamEvent {
    fn schema() -> RefOr<Schema> {
        let documents = ["Event_Region", "Event_Cell", "Event_Hint", "Event_Alert"].map(Ref::from_schema_name);
        documents.into_iter().fold(AnyOf::builder(), AnyOfBuilder::item).into()
    }
}

/// What is concluded, as it changes: a snapshot of each topic, then, at most once a second, what differs.
#[utoipa::path(
    get,
    path = "/api/v1/stream",
    operation_id = "followStream",
    params(Wanted),
    responses((status = 200, body = StreamEvent, content_type = "text/event-stream", description = "Server-sent events. \
        An event's name is its topic or `mark`, its id the number, its data a `StreamEvent` as JSON.")),
)]
pub(super) async fn follow(
    State(snapshots): State<Snapshots>,
    Query(wanted): Query<Wanted>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let topics = wanted.topics.as_deref().map_or(Ok(Topic::ALL.to_vec()), topics)?;
    let service = match wanted.service.as_deref() {
        Some(service) => Some(matrix::service_of(&snapshots.state(), Some(service))?),
        None => None,
    };
    let news = snapshots.news();
    let (known, waiting, number, next) = (BTreeMap::new(), VecDeque::new(), 0, Instant::now());
    let mut follower = Follower { snapshots, news, topics, service, known, waiting, number, next };
    follower.look();
    let events = unfold(follower, async |mut follower| follower.event().await.map(|event| (Ok(event), follower)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Names between commas.
fn topics(text: &str) -> Result<Vec<Topic>, Problem> {
    let named = |name: &str| {
        let topic = Topic::ALL.into_iter().find(|topic| topic.as_str() == name);
        let known = Topic::ALL.map(Topic::as_str).join(", ");
        topic.ok_or_else(|| Problem::bad_query(format!("topics: found \"{name}\", allowed: {known}")))
    };
    text.split(',').map(named).collect()
}

impl Topic {
    const ALL: [Self; 4] = [Self::Regions, Self::Matrix, Self::Hints, Self::Alerts];

    fn as_str(self) -> &'static str {
        match self {
            Self::Regions => "regions",
            Self::Matrix => "matrix",
            Self::Hints => "hints",
            Self::Alerts => "alerts",
        }
    }

    /// Every item by its key.
    fn items(self, snapshots: &Snapshots, of: Option<&ServiceName>) -> BTreeMap<String, Value> {
        let asked = |service: &ServiceName| of.is_none_or(|of| of == service);
        match self {
            Self::Regions => {
                let state = snapshots.state();
                let items = regions::items(&state).filter(|item| asked(&item.service));
                items.map(|item| (format!("{}/{}", item.service, item.region), value(&item))).collect()
            }
            Self::Matrix => cells(&snapshots.state(), asked),
            Self::Hints => {
                let board = snapshots.board();
                let items = board.iter().filter(|((_, service), _)| asked(service));
                items.map(|((source, service), it)| (format!("{service}/{source}"), value(&*it.document))).collect()
            }
            Self::Alerts => {
                let state = snapshots.state();
                let asked = state.alerts.iter().filter(|alert| asked(&alert.notice.service));
                let items = asked.map(|alert| AlertItem::of(&state, alert));
                items.map(|item| (item.id.clone(), value(&item))).collect()
            }
        }
    }
}

impl Follower {
    /// The next event; `None` when the collector stops.
    async fn event(&mut self) -> Option<Event> {
        while self.waiting.is_empty() {
            sleep_until(self.next).await;
            self.news.changed().await.ok()?;
            self.look();
        }
        self.waiting.pop_front()
    }

    /// Compares what is concluded now with what was sent.
    fn look(&mut self) {
        self.next = Instant::now() + PACE;
        let as_of = self.snapshots.state().now;
        for topic in self.topics.clone() {
            let items = topic.items(&self.snapshots, self.service.as_ref());
            let prints: BTreeMap<_, _> = items.iter().map(|(key, item)| (key.clone(), fingerprint(item))).collect();
            let before = self.known.insert(topic, prints);
            let prints = &self.known[&topic];
            let Some(before) = before else {
                self.send(topic.as_str(), Kind::Snapshot, as_of, items.into_values().collect(), Vec::new());
                continue;
            };
            let gone: Vec<_> = before.keys().filter(|key| !prints.contains_key(*key)).cloned().collect();
            let changed = items.into_iter().filter(|(key, _)| before.get(key) != prints.get(key));
            let changed: Vec<_> = changed.map(|(_, item)| item).collect();
            if !changed.is_empty() || !gone.is_empty() {
                self.send(topic.as_str(), Kind::Change, as_of, changed, gone);
            }
        }
        if self.waiting.is_empty() {
            self.send("mark", Kind::Mark, as_of, Vec::new(), Vec::new());
        }
    }

    fn send(&mut self, name: &str, kind: Kind, as_of: Wall, items: Vec<Value>, gone: Vec<String>) {
        self.number += 1;
        let document = Document { kind, number: self.number, as_of: as_of.to_string(), items, gone };
        let event = Event::default().event(name).id(self.number.to_string());
        match event.json_data(document) {
            Ok(event) => self.waiting.push_back(event),
            Err(error) => tracing::error!(%error, "event not rendered"),
        }
    }
}

/// A cell as an item: whose it is, and its figures.
#[derive(Serialize, ToSchema)]
pub(super) struct Cell {
    service: ServiceName,
    source: RegionName,
    region: RegionName,
    #[serde(flatten)]
    figures: Figures,
}

fn cells(state: &Concluded, asked: impl Fn(&ServiceName) -> bool) -> BTreeMap<String, Value> {
    let Some(policy) = &state.policy else { return BTreeMap::new() };
    let (from, sources) = ((state.now - WINDOW).slot(policy.window), state.sources());
    let mut items = BTreeMap::new();
    for service in policy.services.keys().filter(|service| asked(service)) {
        let regions = matrix::regions(state, service);
        for (source, region) in sources.iter().flat_map(|source| regions.iter().map(move |region| (source, region))) {
            let key = CellKey { service: service.clone(), source: source.clone(), region: region.clone() };
            let figures = Figures::of(state, &key, from);
            let CellKey { service, source, region } = key;
            let name = format!("{service}/{source}/{region}");
            items.insert(name, value(&Cell { service, source, region, figures }));
        }
    }
    items
}

/// Every item here has text keys and finite numbers, which is all that JSON asks.
fn value(item: &impl Serialize) -> Value {
    serde_json::to_value(item).unwrap_or_default()
}

fn fingerprint(item: &Value) -> u64 {
    let mut lasting = item.clone();
    forget_times(&mut lasting);
    xxh3_64(lasting.to_string().as_bytes())
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !TIMES.contains(&key.as_str()));
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}
