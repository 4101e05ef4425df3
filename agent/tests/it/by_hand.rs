//! `probe`: the real binary against servers that do not do what they should.

use std::process::Output;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use protocols::gateway::{self, Hello};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::commands::agent;
use crate::server::Server;

/// What `probe --json` says, and its exit code.
pub(crate) fn probe(arguments: &[&str]) -> (Value, Option<i32>) {
    let output: Output = agent().arg("probe").args(arguments).arg("--json").output().unwrap();
    let (said, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    let told = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{arguments:?}: {said}{log}"));
    (told, output.status.code())
}

/// A name server that gives each query to `answers`, which may answer it, hold it back, or both.
pub(crate) fn name_server(mut answers: impl FnMut(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> Server {
    Server::start(move |socket, query, from| {
        for answer in answers(query.to_vec()) {
            socket.send_to(&answer, from).unwrap();
        }
    })
}

/// The query as an answer with that code, and one A record where the code has nothing against it.
pub(crate) fn answer(mut query: Vec<u8>, code: u8) -> Vec<u8> {
    (query[2], query[3], query[7]) = (0x81, 0x80 | code, u8::from(code == 0));
    if code == 0 {
        query.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07");
    }
    query
}

#[test]
fn a_name_server_is_asked_as_often_as_was_said_and_every_answer_counts() {
    let server = name_server(|query| vec![answer(query, 0)]);
    let (told, code) = probe(&["dns", &server.address, "--name", "www.example.com", "--count", "20", "--every", "5ms"]);
    assert_eq!((&told["sent"], &told["received"], &told["lost"]), (&20.into(), &20.into(), &0.into()), "{told}");
    assert_eq!((&told["kind"], &told["address"]), (&"dns".into(), &server.address.clone().into()));
    assert_eq!(told["phases"]["rtt"]["count"], 20);
    assert!(told["phases"]["rtt"]["p50_ms"].as_f64().unwrap() > 0.0, "{told}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_name_that_is_not_there_is_told_from_a_server_that_fails() {
    for (code, reason) in [(3, "dns"), (2, "status"), (5, "status")] {
        let server = name_server(move |query| vec![answer(query, code)]);
        let (told, exit) = probe(&["dns", &server.address, "--name", "nobody.example.com", "--count", "2"]);
        assert_eq!((&told["errors"][reason], &told["received"]), (&2.into(), &0.into()), "{told}");
        assert_eq!(exit, Some(1));
    }
}

#[test]
fn an_answer_after_its_timeout_is_late_and_one_to_nothing_that_was_asked_is_none() {
    let mut held = None;
    let server = name_server(move |query| {
        let good = answer(query, 0);
        let mut other_id = good.clone();
        other_id[0] ^= 1;
        let cut_short = good[..14].to_vec();
        // Each answer goes out with the next query, which is sent when the one before it has timed out.
        [Some(other_id), Some(cut_short), held.replace(good)].into_iter().flatten().collect()
    });
    let paces = ["--count", "3", "--every", "300ms", "--timeout", "100ms"];
    let (told, code) = probe(&[&["dns", &server.address, "--name", "www.example.com"], &paces[..]].concat());
    assert_eq!((&told["received"], &told["lost"], &told["late"]), (&0.into(), &3.into(), &2.into()), "{told}");
    assert_eq!(told["errors"]["timeout"], 3);
    assert_eq!(code, Some(1));
}

#[test]
fn an_address_without_the_port_that_its_kind_needs_is_refused() {
    let output = agent().args(["probe", "tcp", "192.0.2.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("ADDRESS") && said.contains("host:port"), "{said}");
}

/// A gateway that says HELLO and answers each heartbeat.
async fn gateway(tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = tokio_tungstenite::accept_async(stream).await else { continue };
            let interval = Duration::from_secs(41);
            let hello = Hello { heartbeat_interval: interval, trace: vec!["gateway-1.iad".to_owned()] };
            stream.send(Message::text(hello.text())).await.unwrap();
            while let Some(Ok(Message::Text(said))) = stream.next().await {
                assert_eq!(gateway::answer(&said, gateway::Kind::Answering), gateway::Answer::Ack);
                stream.send(Message::text(gateway::ack())).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_gateway_is_greeted_once_and_beaten_on_that_connection() {
    let mut tasks = JoinSet::new();
    let address = gateway(&mut tasks).await;
    let paces = ["--count", "10", "--every", "20ms", "--timeout", "10s"];
    let (told, code) = probe(&[&["websocket", &address, "--no-tls"], &paces[..]].concat());
    assert_eq!((&told["sent"], &told["received"], &told["lost"]), (&10.into(), &10.into(), &0.into()), "{told}");
    let counts = ["connect", "upgrade", "hello", "heartbeat"].map(|phase| told["phases"][phase]["count"].clone());
    assert_eq!(counts.map(|count| count.as_u64()), [Some(1), Some(1), Some(1), Some(9)], "{told}");
    assert_eq!((&told["labels"]["node"], code), (&"gateway-1.iad".into(), Some(0)), "{told}");
}
