use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::server::conn::{http1 as server1, http2 as server2};
use hyper::service::service_fn;
use tokio_rustls::TlsAcceptor;

use super::super::bench::{Authority, closed, dialer, labels, listener, order, plan, told};
use super::*;

const LONG: Duration = Duration::from_secs(30);

/// What the server was asked, and how many connections it was asked over.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    agents: Mutex<Vec<String>>,
}

/// `/204` answers with that status; `/long` is longer than what a probe reads.
fn answer(request: &Request<Incoming>, seen: &Seen) -> Response<Full<Bytes>> {
    let agent = request.headers()[USER_AGENT].to_str().unwrap().to_owned();
    seen.agents.lock().unwrap().push(agent);
    let path = request.uri().path().trim_start_matches('/');
    let body = if path == "long" { vec![0; BODY + 1] } else { b"well".to_vec() };
    let answer = Response::builder().status(path.parse::<u16>().unwrap_or(200));
    let answer = answer.header("cf-cache-status", "HIT").header("cf-ray", "8a1b2c3d4e5f-FRA");
    answer.body(Full::new(body.into())).unwrap()
}

async fn serve(tasks: &mut JoinSet<()>, acceptor: Option<TlsAcceptor>) -> (SocketAddr, Arc<Seen>) {
    let ((listener, address), seen) = (listener().await, Arc::new(Seen::default()));
    let all = seen.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            all.connections.fetch_add(1, Ordering::SeqCst);
            let seen = all.clone();
            let service = service_fn(move |request| {
                let answer = answer(&request, &seen);
                async move { Ok::<_, Infallible>(answer) }
            });
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Some(acceptor) = acceptor else {
                    server1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                    return;
                };
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let io = TokioIo::new(stream);
                if two {
                    server2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.ok();
                } else {
                    server1::Builder::new().serve_connection(io, service).await.ok();
                }
            });
        }
    });
    (address, seen)
}

fn prober(address: &str, keys: &str) -> Arc<Http> {
    let plan = plan(address, "http", keys);
    let planned = &plan.probes()[0];
    let crate::plan::Purpose::Http(config) = &planned.dial.as_ref().unwrap().purpose else { panic!("no http") };
    Arc::new(Http::new(dialer(planned), config, &planned.subject.series))
}

const NEW: [&str; 3] = ["connect reply", "first_byte reply", "transfer reply"];
const REUSED: [&str; 2] = ["first_byte reply", "transfer reply"];

#[tokio::test]
async fn the_first_request_opens_a_connection_and_the_next_ones_use_it() {
    let mut tasks = JoinSet::new();
    let (address, seen) = serve(&mut tasks, None).await;
    let http = prober(&address.to_string(), "tls = false");
    let first = http.clone().probe(order(LONG)).await;
    assert_eq!(told(&first), NEW);
    assert_eq!(labels(&first), ["connection=new", "cache=hit", "pop=fra", "version=1.1"]);
    for _ in 0..3 {
        let next = http.clone().probe(order(LONG)).await;
        assert_eq!(told(&next), REUSED);
        assert_eq!(labels(&next), ["connection=reused", "cache=hit", "pop=fra", "version=1.1"]);
    }
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    let agent = format!("isochrone-agent/{} (fra-1 in fra)", env!("CARGO_PKG_VERSION"));
    assert_eq!(*seen.agents.lock().unwrap(), vec![agent; 4]);
}

#[tokio::test]
async fn a_connection_is_renewed_when_its_time_is_over() {
    let mut tasks = JoinSet::new();
    let (address, seen) = serve(&mut tasks, None).await;
    let http = prober(&address.to_string(), "tls = false\nreconnect_every = \"10ms\"");
    http.clone().probe(order(LONG)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(told(&http.clone().probe(order(LONG)).await), NEW);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_version_is_what_both_ends_agree_on_unless_the_file_says_which() {
    let mut tasks = JoinSet::new();
    let authority = Authority::new();
    let (both, _) = serve(&mut tasks, Some(authority.acceptor(&[b"h2", b"http/1.1"]))).await;
    let (old, _) = serve(&mut tasks, Some(authority.acceptor(&[b"http/1.1"]))).await;
    for (address, key, version) in [(both, "", "2"), (old, "", "1.1"), (both, "version = \"1.1\"", "1.1")] {
        let http = prober(&address.to_string(), &format!("{}\n{key}", authority.trusted()));
        let new = http.clone().probe(order(LONG)).await;
        assert_eq!(told(&new), ["connect reply", "tls reply", "first_byte reply", "transfer reply"]);
        assert_eq!(labels(&new).last().unwrap(), &format!("version={version}"));
        assert_eq!(told(&http.clone().probe(order(LONG)).await), REUSED, "{version}");
    }
}

#[tokio::test]
async fn a_status_of_400_and_above_fails_at_the_first_byte_and_keeps_the_connection() {
    let mut tasks = JoinSet::new();
    let (address, seen) = serve(&mut tasks, None).await;
    let http = prober(&address.to_string(), "tls = false\npath = \"/503\"");
    let told_new = told(&http.clone().probe(order(LONG)).await);
    assert_eq!(told_new, ["connect reply", "first_byte status", "transfer status"]);
    assert_eq!(told(&http.clone().probe(order(LONG)).await), ["first_byte status", "transfer status"]);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_is_read_up_to_a_bound() {
    let mut tasks = JoinSet::new();
    let (address, seen) = serve(&mut tasks, None).await;
    let http = prober(&address.to_string(), "tls = false\npath = \"/long\"");
    for opened in 1..=2 {
        assert_eq!(told(&http.clone().probe(order(LONG)).await), NEW);
        assert_eq!(seen.connections.load(Ordering::SeqCst), opened);
    }
}

#[tokio::test]
async fn a_closed_port_is_refused_and_silence_is_a_timeout_at_the_first_byte() {
    let refused = prober(&closed().await.to_string(), "tls = false").probe(order(LONG)).await;
    assert_eq!(told(&refused), ["connect refused", "first_byte refused", "transfer refused"]);
    let (_silent, address) = listener().await;
    let timeout = prober(&address.to_string(), "tls = false").probe(order(Duration::from_millis(50))).await;
    assert_eq!(told(&timeout), ["connect reply", "first_byte timeout", "transfer timeout"]);
}

#[test]
fn a_cache_is_read_in_each_of_its_dialects_and_an_unknown_word_is_other() {
    let said = |name: &'static str, value: &str| {
        cache(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
    };
    for (name, value, expected) in [
        ("cf-cache-status", "EXPIRED", Some("expired")),
        ("cf-cache-status", "NONE/UNKNOWN", Some("other")),
        ("cache-status", "Origin; fwd=miss, Edge; hit; ttl=30", Some("hit")),
        ("cache-status", "Edge; fwd=uri-miss; stored", Some("miss")),
        ("cache-status", "Edge; fwd=request", Some("other")),
        ("x-cache", "Hit from cloudfront", Some("hit")),
        ("x-cache", "HIT, MISS", Some("miss")),
        ("x-cache", "TCP_HIT", Some("hit")),
        ("age", "3", None),
    ] {
        assert_eq!(said(name, value), expected, "{name}: {value}");
    }
}
