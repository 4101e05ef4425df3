use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use runtime::{Clock, Mono};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Running, start};

/// One request over a connection of its own, from Frankfurt to the edge in Singapore.
async fn get(planet: &Running, alpn: &'static [u8]) -> Response<Incoming> {
    let io = TokioIo::new(planet.dial("fra", "sin-cdn", &[alpn]).await);
    let request = Request::get(format!("https://{}/x", planet.target("sin-cdn"))).body(Empty::<Bytes>::new()).unwrap();
    let mut driver = JoinSet::new();
    let response = if alpn == b"h2" {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        driver.spawn(async move { connection.await.unwrap_or_default() });
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        driver.spawn(async move { connection.await.unwrap_or_default() });
        sender.send_request(request).await
    };
    // The object comes in the same breath as the head.
    let response = response.unwrap();
    driver.detach_all();
    response
}

fn header<'a>(response: &'a Response<Incoming>, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

#[test]
fn an_edge_answers_in_both_versions_after_a_round_trip_and_says_what_its_cache_had() {
    let planet = start();
    let least = planet.least("fra", "sin-cdn");
    planet.tokio.block_on(async {
        for (alpn, version, cache) in [
            (&b"http/1.1"[..], Version::HTTP_11, "sin-cdn; fwd=miss"),
            (b"h2", Version::HTTP_2, "sin-cdn; hit"),
            (b"http/1.1", Version::HTTP_11, "sin-cdn; hit"),
        ] {
            let clock = Clock::start();
            let response = get(&planet, alpn).await;
            assert!(clock.mono().since(Mono(0)) >= 2 * least, "the handshake and the first byte");
            assert_eq!((response.status().as_u16(), response.version()), (200, version));
            assert_eq!([header(&response, "cache-status"), header(&response, "x-amz-cf-pop")], [cache, "sin"]);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 1024);
        }
    });
    for phase in ["tls", "first_byte"] {
        let row = json!({"source": "fra", "target": "sin-cdn", "probe": "http", "phase": phase});
        planet.wait_for_count("items", &row, 3);
    }
}

#[test]
fn a_cold_cache_misses_each_time_and_costs_the_way_to_the_origin() {
    let planet = start();
    let warm = planet.least("fra", "sin-cdn");
    planet.post("/faults", r#"{"kind":"cold_cache","region":"sin"}"#);
    let cold = planet.least("fra", "sin-cdn");
    assert!(cold > warm + Duration::from_millis(100), "{cold:?} against {warm:?}");
    planet.tokio.block_on(async {
        for _ in 0..2 {
            let clock = Clock::start();
            let response = get(&planet, b"h2").await;
            assert!(clock.mono().since(Mono(0)) >= warm + cold);
            assert_eq!(header(&response, "cache-status"), "sin-cdn; fwd=miss");
        }
    });
}
