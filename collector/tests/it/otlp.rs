//! OTLP from anyone: through someone else's collector, in every encoding, over HTTP and gRPC.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use bytes::{Buf as _, BufMut as _};
use collector::server;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::{Histogram, HistogramDataPoint, ResourceMetrics, metric};
use prost::Message as _;
use runtime::Shutdown;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

use crate::door::{Door, body, body_of, gzip};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A gRPC client on a connection of its own, as an exporter has one.
pub(crate) struct Exporter {
    connection: http2::SendRequest<tonic::body::Body>,
    origin: hyper::Uri,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
}

impl Exporter {
    pub(crate) async fn connect(door: &Door) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, mut tasks) = (Shutdown::new(), JoinSet::new());
        let served = server::serve(listener, door.router.clone(), shutdown.clone());
        tasks.spawn(async { served.await.unwrap() });
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (connection, driver) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tasks.spawn(async { driver.await.unwrap() });
        Self { connection, origin: format!("http://{address}").parse().unwrap(), shutdown, tasks }
    }

    pub(crate) async fn export(
        &self,
        compression: Option<CompressionEncoding>,
        names: &[(&'static str, &'static str)],
        body: Vec<u8>,
    ) -> Result<(i64, String), Status> {
        let connection = self.connection.clone();
        let service = tower::service_fn(move |request| connection.clone().send_request(request));
        let mut client = tonic::client::Grpc::with_origin(service, self.origin.clone());
        if let Some(compression) = compression {
            client = client.send_compressed(compression);
        }
        let mut request = tonic::Request::new(Bytes::from(body));
        for (name, value) in names {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        client.ready().await.unwrap();
        let answer = client.unary(request, EXPORT.parse().unwrap(), Raw).await?;
        Ok(partial(&answer.into_inner()))
    }

    pub(crate) async fn close(mut self) {
        self.shutdown.cancel();
        drop(self.connection);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// A codec of messages as they stand on the wire.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

fn named(sequence: &'static str) -> [(&'static str, &'static str); 3] {
    let boot = "00000000-0000-0000-0000-000000000001";
    [("isochrone-agent", "fra-1"), ("isochrone-boot", boot), ("isochrone-seq", sequence)]
}

async fn post_json(door: &Door, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/v1/metrics").header("content-type", "application/json").body(body.into());
    let (status, headers, answer) = door.ask(request.unwrap()).await;
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().ends_with("json"));
    (status, serde_json::from_slice(&answer).unwrap())
}

/// What a partial success says.
fn partial(answer: &[u8]) -> (i64, String) {
    let answer = ExportMetricsServiceResponse::decode(answer).unwrap().partial_success.unwrap_or_default();
    (answer.rejected_data_points, answer.error_message)
}

/// The first metric of the first resource is the probe's.
fn changed(body: &[u8], change: impl Fn(&mut ResourceMetrics)) -> Vec<u8> {
    let mut request = ExportMetricsServiceRequest::decode(body).unwrap();
    change(&mut request.resource_metrics[0]);
    request.encode_to_vec()
}

#[tokio::test]
async fn a_batch_in_gzip_is_a_batch() {
    let door = Door::open(TempDir::new().unwrap()).await;
    assert_eq!(door.post("1", Some("gzip"), gzip(&body(door.clock))).await.0, StatusCode::OK);
    let door = door.reopen().await;
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn a_point_that_comes_again_through_someone_elses_collector_is_counted_once() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let (second, now) = (Duration::from_secs(1), door.clock.wall());
    let (first, other) = (body_of("fra-1", now - second, now), body_of("fra-2", now - second, now));
    assert_eq!(door.post_unnamed(first.clone()).await, (StatusCode::OK, Vec::new()));
    assert_eq!(door.samples().await, 3);
    // Batched anew on its way: two resources in one body, each with its own sender.
    assert_eq!(door.post_unnamed([first.clone(), other].concat()).await, (StatusCode::OK, Vec::new()));
    assert_eq!(door.samples().await, 6);
    let agents = door.json("/api/v1/agents").await;
    assert_eq!(agents["items"].as_array().unwrap().len(), 2, "{agents}");
    let door = door.reopen().await;
    assert_eq!(door.post_unnamed(first).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 6);
    let next = body_of("fra-1", now, now + second);
    assert_eq!(door.post_unnamed(next).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 9);
}

#[tokio::test]
async fn a_point_wider_than_a_slot_is_news_of_when_it_ends() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let now = door.clock.wall();
    // Its begin alone would make it older than anything that is kept.
    assert_eq!(door.post_unnamed(body_of("fra-1", now - Duration::from_hours(1), now)).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn a_batch_has_all_three_names_or_none() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let request = Request::post("/v1/metrics")
        .header("content-type", "application/x-protobuf")
        .header("isochrone-agent", "fra-1")
        .body(Body::from(body(door.clock)));
    let (status, _, problem) = door.ask(request.unwrap()).await;
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!((status.as_u16(), problem["code"].as_str()), (400, Some("header")));
    let said = "headers isochrone-agent, isochrone-boot, isochrone-seq: all of them or none";
    assert_eq!(problem["detail"], said);
}

#[tokio::test]
async fn what_is_refused_is_refused_by_name_and_the_rest_is_kept() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let good = body(door.clock);
    let nameless = changed(&good, |resource| {
        resource.resource.as_mut().unwrap().attributes.retain(|attribute| attribute.key != "cloud.region");
    });
    let cumulative = changed(&good, |resource| {
        let metric = &mut resource.scope_metrics[0].metrics[0];
        let Some(metric::Data::ExponentialHistogram(data)) = &mut metric.data else { panic!("a histogram") };
        data.aggregation_temporality = 2;
    });
    let explicit = changed(&good, |resource| {
        let data_points = vec![HistogramDataPoint::default(); 3];
        let data = metric::Data::Histogram(Histogram { data_points, aggregation_temporality: 1 });
        resource.scope_metrics[0].metrics[0].data = Some(data);
    });
    let foreign = changed(&good, |resource| {
        resource.scope_metrics[0].metrics.truncate(1);
        "http.server.request.duration".clone_into(&mut resource.scope_metrics[0].metrics[0].name);
    });
    let cases = [
        (nameless, 5, "isochrone.probe.duration: the resource does not say who sends: cloud.region is missing"),
        (cumulative, 1, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta"),
        (explicit, 3, "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram"),
        (foreign, 1, "http.server.request.duration: nothing here reads this metric"),
    ];
    for (bad, points, why) in cases {
        let (status, answer) = door.post_unnamed([bad, good.clone()].concat()).await;
        let (rejected, said) = partial(&answer);
        assert_eq!((status, rejected), (StatusCode::OK, points), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(door.samples().await, 3);
}

#[tokio::test]
async fn the_same_points_count_once_in_whatever_form_and_by_whatever_way_they_come() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let (good, second) = (body(door.clock), Duration::from_secs(1));
    let json = serde_json::to_vec(&ExportMetricsServiceRequest::decode(good.as_slice()).unwrap()).unwrap();
    let exporter = Exporter::connect(&door).await;
    let forms = [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)];

    assert_eq!(post_json(&door, json).await, (StatusCode::OK, json!({})));
    assert_eq!(door.samples().await, 3);
    for form in forms {
        assert_eq!(exporter.export(form, &[], good.clone()).await.unwrap(), (0, String::new()));
    }
    assert_eq!(door.post_unnamed(good).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);

    for (number, form) in (1..).zip(forms) {
        let now = door.clock.wall();
        let news = body_of(&format!("fra-{}", number + 1), now - second, now);
        assert_eq!(exporter.export(form, &[], news).await.unwrap(), (0, String::new()));
        assert_eq!(door.samples().await, 3 + 3 * number);
    }
    exporter.close().await;
    let door = door.reopen().await;
    assert_eq!(door.samples().await, 12);
}

#[tokio::test]
async fn an_agents_batch_over_grpc_is_the_one_it_sent_over_http() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let exporter = Exporter::connect(&door).await;
    let good = body(door.clock);
    assert_eq!(exporter.export(None, &named("1"), good.clone()).await.unwrap().0, 0);
    assert_eq!(door.post("1", None, good.clone()).await.0, StatusCode::OK);
    assert_eq!(door.samples().await, 3);
    let conflict = exporter.export(None, &named("1"), body(door.clock)).await.unwrap_err();
    assert_eq!(conflict.code(), Code::AlreadyExists);
    assert_eq!(exporter.export(None, &named("2"), good).await.unwrap().0, 0);
    assert_eq!(door.samples().await, 6);
    exporter.close().await;
}

#[tokio::test]
async fn a_refusal_over_grpc_has_its_own_code_and_says_why() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let exporter = Exporter::connect(&door).await;
    let malformed = exporter.export(None, &[], b"garbage".to_vec()).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    assert_eq!(malformed.message(), "malformed: the body is not an OTLP ExportMetricsServiceRequest");
    let partly = exporter.export(None, &named("1")[..1], body(door.clock)).await.unwrap_err();
    assert_eq!(partly.code(), Code::InvalidArgument);
    for form in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let bomb = exporter.export(form, &[], vec![0; 1_000_000]).await.unwrap_err();
        assert_eq!(bomb.code(), Code::ResourceExhausted, "{form:?}: {bomb}");
    }
    let nameless = changed(&body(door.clock), |resource| resource.resource = None);
    let (points, why) = exporter.export(None, &[], nameless).await.unwrap();
    assert_eq!(points, 5);
    assert!(why.contains("service.instance.id is missing"), "{why}");
    assert_eq!(door.samples().await, 0);
    exporter.close().await;
}

/// As SDKs write it: 64-bit numbers as strings or not, attributes that we do not read beside those that we do.
fn written_by_hand(begin: u64, end: u64, number: impl Fn(u64) -> Value) -> Value {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    json!({ "resourceMetrics": [{
        "resource": { "attributes": [
            text("service.instance.id", "fra-7"),
            text("cloud.region", "fra"),
            { "key": "process.pid", "value": { "intValue": "4711" } },
            { "key": "host.cpus", "value": { "intValue": 8 } },
            { "key": "process.command_args", "value": { "arrayValue": { "values": [{ "stringValue": "run" }] } } },
        ], "droppedAttributesCount": 0 },
        "schemaUrl": "https://opentelemetry.io/schemas/1.37.0",
        "scopeMetrics": [{
            "scope": { "name": "meter", "version": "1" },
            "metrics": [{
                "name": "isochrone.probe.duration",
                "description": "",
                "unit": "s",
                "exponentialHistogram": { "aggregationTemporality": 1, "dataPoints": [{
                    "attributes": [
                        text("isochrone.target.id", "iad-voice-1"),
                        text("isochrone.target.region", "iad"),
                        text("isochrone.service", "voice"),
                        text("isochrone.probe", "voice"),
                    ],
                    "startTimeUnixNano": begin.to_string(),
                    "timeUnixNano": end.to_string(),
                    "count": number(4),
                    "sum": 0.4,
                    "min": 0.09,
                    "max": 0.11,
                    "scale": 3,
                    "zeroCount": number(1),
                    "positive": { "offset": -28, "bucketCounts": [number(2), number(0), number(1)] },
                    "negative": { "offset": 0, "bucketCounts": [] },
                    "flags": 0,
                }] },
            }],
        }],
    }] })
}

#[tokio::test]
async fn json_is_read_as_sdks_write_it_and_answered_in_json() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let end = door.clock.wall();
    let begin = end - Duration::from_secs(1);
    let strings = written_by_hand(begin.0, end.0, |number| json!(number.to_string()));
    let numbers = written_by_hand(begin.0, end.0, |number| json!(number));
    assert_eq!(post_json(&door, strings.to_string()).await, (StatusCode::OK, json!({})));
    assert_eq!(post_json(&door, numbers.to_string()).await, (StatusCode::OK, json!({})));
    assert_eq!(door.samples().await, 4);
    let path = &door.json("/api/v1/paths?window=15m").await["items"][0];
    assert!((85.0..95.0).contains(&path["p75_ms"].as_f64().unwrap()), "{path}");

    let mut nameless = numbers.clone();
    nameless["resourceMetrics"][0]["resource"]["attributes"] = json!([]);
    let (status, answer) = post_json(&door, nameless.to_string()).await;
    assert_eq!((status, &answer["partialSuccess"]["rejectedDataPoints"]), (StatusCode::OK, &json!("1")));
    let why = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(why.contains("service.instance.id is missing"), "{why}");
}

#[tokio::test]
async fn json_that_cannot_be_read_is_refused_and_never_passed_over() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let end = door.clock.wall().0;
    let spoiled = written_by_hand(end, end, |_| json!("many"));
    for body in ["{".to_owned(), "null".to_owned(), spoiled.to_string()] {
        let (status, problem) = post_json(&door, body.clone()).await;
        assert_eq!((status.as_u16(), problem["code"].as_str()), (400, Some("malformed")), "{body}: {problem}");
    }
    assert_eq!(door.samples().await, 0);
}
