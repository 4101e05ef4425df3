use std::time::Duration;

use agent::meters::Instruments;
use agent::push::{self, Collector as _, Http, Trouble, Verdict};
use agent::spool::{Batch, Limits, Memory, Name, Shared};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message as _;
use runtime::Shutdown;
use runtime::meters::Meters;
use telemetry::{Boot, Sequence, Wall};
use tokio::task::JoinSet;

use crate::collector::{Answer, Collector};

async fn http(collector: &Collector, tasks: &mut JoinSet<()>) -> Http {
    let url = format!("{}/v1/metrics", collector.listen(tasks).await);
    Http::new(url.parse().unwrap(), "fra-1".parse().unwrap()).unwrap()
}

fn batch() -> Batch {
    Batch { name: Name { boot: Boot(7), sequence: Sequence(41) }, body: "windows".into() }
}

async fn verdict_on(answer: Answer) -> Verdict {
    let (collector, mut tasks) = (Collector::default(), JoinSet::new());
    collector.will_answer([answer]);
    http(&collector, &mut tasks).await.post(&batch()).await
}

#[tokio::test]
async fn a_batch_that_fails_twice_is_sent_again_as_the_same_bytes_under_the_same_sequence() {
    let (collector, mut tasks) = (Collector::default(), JoinSet::new());
    collector.will_answer([500, 503].map(Answer::status));
    let (http, meters) = (http(&collector, &mut tasks).await, Meters::new("test"));
    let spool = Shared::new(Memory::new(Boot(7), Limits::default()));
    spool.offer(vec!["first".into(), "second".into()], Vec::new(), Wall(0));
    spool.close();
    push::run(&spool, &[http], &Instruments::new(&meters), Shutdown::new()).await.unwrap();

    let requests = collector.requests();
    let header = |name: &str| requests.iter().map(|r| r.headers[name].to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(header("isochrone-seq"), ["2", "2", "2", "1"]);
    assert_eq!(header("isochrone-agent"), ["fra-1"; 4]);
    assert_eq!(header("isochrone-boot"), ["00000000-0000-0000-0000-000000000007"; 4]);
    assert_eq!(header("content-type"), ["application/x-protobuf"; 4]);
    assert_eq!(header("content-encoding"), ["zstd"; 4]);
    let bodies: Vec<_> = requests.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies, [&b"second"[..], b"second", b"second", b"first"]);
    assert!(meters.render().contains("isochrone_agent_push_batches_total{fate=\"taken\"} 2"), "{}", meters.render());
}

#[tokio::test]
async fn every_client_error_but_timeout_and_overload_is_a_refusal_with_its_detail() {
    for status in [400, 401, 409, 413] {
        let mut answer = Answer::status(status);
        answer.body = br#"{"detail":"the body is no OTLP"}"#.to_vec();
        let Verdict::Refused { status: told, why } = verdict_on(answer).await else { panic!("{status} is final") };
        assert_eq!(told, status);
        assert!(why.contains("the body is no OTLP"), "{why}");
    }
    for status in [302, 408, 429, 500, 502, 503, 504] {
        let verdict = verdict_on(Answer::status(status)).await;
        let busy = matches!(status, 408 | 429);
        let trouble = if busy { Trouble::Busy } else { Trouble::Failing };
        let Verdict::Later { trouble: told, after: None, .. } = verdict else { panic!("{status}: {verdict:?}") };
        assert_eq!(told, trouble, "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_read_in_seconds() {
    let answer = Answer { headers: &[("retry-after", "7")], ..Answer::status(429) };
    let verdict = verdict_on(answer).await;
    assert!(
        matches!(verdict, Verdict::Later { after: Some(after), .. } if after == Duration::from_secs(7)),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn points_refused_in_a_batch_that_was_taken_are_told() {
    let partial_success =
        Some(ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "a scale of 21".to_owned() });
    let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    let verdict = verdict_on(Answer { body, ..Answer::status(200) }).await;
    assert_eq!(verdict, Verdict::Taken { refused: 2, why: "a scale of 21".to_owned() });
}

#[tokio::test]
async fn a_collector_that_is_not_there_may_be_there_later_and_the_log_will_say_why() {
    let agent = "fra-1".parse().unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let http = Http::new(format!("http://{closed}/v1/metrics").parse().unwrap(), agent).unwrap();
    let Verdict::Later { trouble: Trouble::Failing, after: None, why } = http.post(&batch()).await else {
        panic!("not refused for good")
    };
    assert!(why.contains("refused"), "{why}");
}
