//! A CDN edge: one object under every path, over HTTP/1.1 or 2. The response's first byte comes a round trip after the request;
//! what the edge does not keep it asks the origin for, which takes longer.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use runtime::Mono;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::counts::Event;
use crate::model::Service;
use crate::visit::Visit;

pub const ALPN: [&[u8]; 2] = [TWO, b"http/1.1"];
const TWO: &[u8] = b"h2";

/// What an edge keeps: its one object.
#[derive(Debug, Default)]
pub struct Cache {
    kept_since: Option<Mono>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    Hit,
    Miss,
}

/// How long the object may be kept.
const FRESH: Duration = Duration::from_mins(1);
const FRESHNESS: &str = "public, max-age=60";
static OBJECT: [u8; 1024] = [b'.'; 1024];

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Where the edge stands, in the header that the most common edge of this kind uses.
const POP: HeaderName = HeaderName::from_static("x-amz-cf-pop");

/// Runs the streams of one HTTP/2 connection, and ends them with it.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

pub async fn serve<S>(visit: Arc<Visit>, stream: TlsStream<S>, cache: Arc<Mutex<Cache>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let two = stream.get_ref().1.alpn_protocol() == Some(TWO);
    let service = service_fn(move |_: Request<Incoming>| {
        let (visit, cache) = (Arc::clone(&visit), Arc::clone(&cache));
        async move { Ok::<_, Infallible>(respond(&visit, &cache).await) }
    });
    let io = TokioIo::new(stream);
    // However it ends, it is the client's to tell.
    if two {
        http2::Builder::new(Streams::default()).serve_connection(io, service).await.ok();
    } else {
        http1::Builder::new().serve_connection(io, service).await.ok();
    }
}

async fn respond(visit: &Visit, cache: &Mutex<Cache>) -> Response<Full<Bytes>> {
    if visit.is_first() {
        visit.count(Event::Secured(Service::Cdn));
    }
    let cached = cache.lock().unwrap_or_else(PoisonError::into_inner).ask(visit.now(), visit.is_cold());
    let (status, work) = match cached {
        Cached::Hit => ("hit", Duration::ZERO),
        Cached::Miss => ("fwd=miss", visit.origin()),
    };
    visit.round_trip_and(work).await;
    visit.count(Event::Responded);
    let response = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CACHE_CONTROL, FRESHNESS)
        .header(CACHE_STATUS, format!("{}; {status}", visit.path().target.id))
        .header(POP, visit.region_name());
    response.body(Full::new(Bytes::from_static(&OBJECT))).expect("names are valid in headers")
}

impl Cache {
    /// Who finds nothing fetches it for everyone after him; a cold cache keeps nothing.
    fn ask(&mut self, now: Mono, cold: bool) -> Cached {
        self.kept_since = self.kept_since.filter(|since| !cold && now.since(*since) < FRESH);
        if self.kept_since.is_some() {
            return Cached::Hit;
        }
        self.kept_since = (!cold).then_some(now);
        Cached::Miss
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_asks_its_origin_once_a_minute_and_when_it_is_cold_each_time() {
        let mut cache = Cache::default();
        let mut ask = |second: u64, cold| cache.ask(Mono(second * 1_000_000_000), cold);
        let warm = [0, 1, 59, 60, 61].map(|second| ask(second, false));
        assert_eq!(warm, [Cached::Miss, Cached::Hit, Cached::Hit, Cached::Miss, Cached::Hit]);
        assert_eq!([62, 63].map(|second| ask(second, true)), [Cached::Miss, Cached::Miss]);
        assert_eq!([64, 65].map(|second| ask(second, false)), [Cached::Miss, Cached::Hit]);
    }
}
