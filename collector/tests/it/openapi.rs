//! The `OpenAPI` document: it is what the web application's types are made from, and what the server really answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use telemetry::{FailureKind, Label, Outcome, Series};
use tempfile::TempDir;

use crate::door::{Door, Events, batch, replies, series};
use crate::schema::Schema;

const COMMITTED: &str = "../dashboards/web/openapi.json";

#[tokio::test]
async fn the_committed_document_is_the_one_that_is_served() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let served = serde_json::to_string_pretty(&door.json("/openapi.json").await).unwrap() + "\n";
    if fs::read_to_string(COMMITTED).unwrap_or_default() != served {
        fs::write(COMMITTED, served).unwrap();
        panic!("{COMMITTED} was not what is served; it has been written anew: look at the difference and commit it");
    }
}

/// Every operation is asked, well and badly, and what comes is described for it.
#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let described = Described(door.json("/openapi.json").await);
    let post = |kind: &'static str, body: Vec<u8>| {
        Request::post("/v1/metrics").header("content-type", kind).body(Body::from(body)).unwrap()
    };
    let foreign =
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "x", "sum": {"dataPoints": [{}]}}]}]}]});
    let (now, labels) = (door.clock.wall(), [(Label::Cache, "hit".parse().unwrap())].into());
    let labelled = Series { labels, ..series("fra-1") };
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let past = |what: &str| get(&format!("/api/v1/paths/{}/{what}", series("fra-1").path()));
    let take = |kind: &'static str, body: &'static str| {
        Request::post("/api/v1/backups").header("content-type", kind).body(Body::from(body)).unwrap()
    };
    let questions = [
        ("exportMetrics", post("application/x-protobuf", batch(vec![(labelled, replies(&[10]))], now, now)), 200),
        ("exportMetrics", post("application/json", b"{}".to_vec()), 200),
        ("exportMetrics", post("application/json", foreign.to_string().into()), 200),
        ("exportMetrics", post("text/plain", Vec::new()), 415),
        ("listRegions", get("/api/v1/regions"), 200),
        ("readMatrix", get("/api/v1/matrix?window=15m"), 200),
        ("readMatrix", get("/api/v1/matrix?service=fax"), 404),
        ("listPaths", get("/api/v1/paths?window=15m"), 200),
        ("listPaths", get("/api/v1/paths?window=1y"), 400),
        ("readHistory", past("history"), 200),
        ("readHistory", past("history?step=1ms"), 400),
        ("readHistory", get("/api/v1/paths/0/history"), 404),
        ("readHeatmap", past("heatmap"), 200),
        ("readHeatmap", past("heatmap?step=7s"), 422),
        ("exportHistory", get("/api/v1/export?format=otlp"), 200),
        ("exportHistory", get("/api/v1/export?format=prometheus"), 200),
        ("exportHistory", get("/api/v1/export?format=csv"), 400),
        ("takeBackup", take("application/json", "{}"), 201),
        ("takeBackup", take("application/json", "{\"dir\":\"/\"}"), 422),
        ("takeBackup", take("text/plain", "{}"), 415),
        ("listBackups", get("/api/v1/backups"), 200),
        ("listAgents", get("/api/v1/agents"), 200),
        ("listAlerts", get("/api/v1/alerts?state=firing"), 200),
        ("listAlerts", get("/api/v1/alerts?state=loud"), 400),
        ("listDeliveries", get("/api/v1/deliveries"), 200),
        ("listDeliveries", get("/api/v1/deliveries?state=lost"), 400),
        ("listHints", get("/api/v1/hints"), 200),
        ("readHint", get("/api/v1/hints/fra/voice"), 200),
        (
            "readHint",
            Request::get("/api/v1/hints/fra/voice").header("if-none-match", "*").body(Body::empty()).unwrap(),
            304,
        ),
        ("readHint", get("/api/v1/hints/nowhere/voice"), 404),
        ("followStream", get("/api/v1/stream?topics=weather"), 400),
        ("livez", get("/livez"), 200),
        ("readyz", get("/readyz"), 200),
        ("metrics", get("/metrics"), 200),
        ("readOpenApi", get("/openapi.json"), 200),
    ];
    let asked: BTreeSet<_> = questions.iter().map(|(operation, ..)| *operation).collect();
    assert_eq!(asked, described.operations().into_keys().collect(), "every operation is asked");
    for (operation, question, status) in questions {
        let answer = door.ask(question).await;
        assert_eq!(answer.0, status, "{operation}");
        if let Err(fault) = described.check(operation, answer) {
            panic!("{operation}: {fault}");
        }
        door.mark().await;
    }
}

#[tokio::test]
async fn an_event_is_described_by_the_schema_of_its_topic() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall();
    for source in ["fra", "iad", "syd"] {
        let silent = Series { source: source.parse().unwrap(), ..series(&format!("{source}-1")) };
        let lost = replies(&[1000; 30]).into_values().map(|waits| (Outcome::Failure(FailureKind::Timeout), waits));
        let batch = batch(vec![(silent, lost.collect())], now, now);
        let request = Request::post("/v1/metrics").header("content-type", "application/x-protobuf");
        assert_eq!(door.ask(request.body(Body::from(batch)).unwrap()).await.0, StatusCode::OK);
    }
    door.mark().await;
    let described = Described(door.json("/openapi.json").await);
    let mut events = Events::follow(&door, "/api/v1/stream").await;
    for (topic, schema) in
        [("regions", "Event_Region"), ("matrix", "Event_Cell"), ("hints", "Event_Hint"), ("alerts", "Event_Alert")]
    {
        let (name, data) = events.next().await;
        assert_eq!(name, topic);
        assert!(!data["items"].as_array().unwrap().is_empty(), "{data}");
        for schema in [schema, "StreamEvent"] {
            let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
            Schema { document: &described.0, schema: &schema }.check(&data).unwrap();
        }
    }
}

struct Described(Value);

impl Described {
    /// By their ids.
    fn operations(&self) -> BTreeMap<&str, &Value> {
        let paths = self.0["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        operations.map(|operation| (operation["operationId"].as_str().unwrap(), operation)).collect()
    }

    /// Whether this is one of the answers described for the operation.
    fn check(&self, operation: &str, answer: (StatusCode, HeaderMap, Vec<u8>)) -> Result<(), String> {
        let (status, headers, body) = answer;
        let answers = &self.operations()[operation]["responses"];
        let answer = answers.get(status.as_str()).unwrap_or(&answers["default"]);
        for header in answer["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            assert!(headers.contains_key(header), "{header} is not sent");
        }
        let Some(contents) = answer["content"].as_object() else {
            return if body.is_empty() { Ok(()) } else { Err("a body that is not described".to_owned()) };
        };
        let kind = headers[header::CONTENT_TYPE].to_str().unwrap().split(';').next().unwrap();
        let content = contents.get(kind).ok_or(format!("{kind} is not described"))?;
        if kind.ends_with("json") {
            let (document, schema) = (&self.0, &content["schema"]);
            return Schema { document, schema }
                .check(&serde_json::from_slice(&body).map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}
