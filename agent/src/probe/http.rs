//! HTTP: one GET. Most go over a connection that is held (`first_byte`, `transfer`); every so often, and whenever none is
//! held, one opens a connection and times that too. The label `connection` tells them apart. A status of 400 and above is a
//! failure at the first byte. Nothing is asked twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, USER_AGENT};
use hyper::{HeaderMap, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use runtime::Mono;
use telemetry::{FailureKind, Label, Series};
use tokio::task::JoinSet;

use super::dial::{Dialer, Dialled};
use super::phases::{Fault, Phases, carry_through};
use super::{Order, Report, user_agent};
use crate::config::{self, HttpVersion};

/// What is read of a body. A longer one ends there, and its connection with it.
const BODY: usize = 1 << 20;
const ASKED: [&str; 2] = ["first_byte", "transfer"];

pub struct Http {
    dialer: Dialer,
    version: HttpVersion,
    reconnect_every: Duration,
    authority: String,
    scheme: &'static str,
    path: String,
    user_agent: String,
    held: Mutex<Option<Held>>,
}

/// An open connection, and the task that drives it and ends with it.
struct Held {
    opened: Mono,
    sender: Sender,
    _driver: JoinSet<()>,
}

enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Whole,
    Longer,
}

/// What a client offers by ALPN.
pub fn alpn(version: HttpVersion) -> &'static [&'static [u8]] {
    match version {
        HttpVersion::Agreed => &[b"h2", b"http/1.1"],
        HttpVersion::One => &[b"http/1.1"],
        HttpVersion::Two => &[b"h2"],
    }
}

impl Http {
    pub fn new(dialer: Dialer, config: &config::Http, series: &Series) -> Self {
        let config::Http { path, tls, version, reconnect_every } = config.clone();
        let server_name = tls.as_ref().and_then(|secure| secure.server_name.as_ref());
        let authority = dialer.authority(server_name);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let user_agent = user_agent(series);
        let held = Mutex::new(None);
        Self { dialer, version, reconnect_every, authority, scheme, path, user_agent, held }
    }

    pub async fn probe(self: Arc<Self>, order: Order) -> Report {
        let clock = self.dialer.clock;
        if let Some(held) = self.take(clock.mono()) {
            let ask = async move |phases: &mut Phases| {
                phases.learn(Label::Connection, "reused");
                self.ask(held, phases).await
            };
            return carry_through(order, ASKED, clock, ask).await;
        }
        let ahead: Vec<_> = self.dialer.phases().chain(ASKED).collect();
        let ask = async move |phases: &mut Phases| {
            phases.learn(Label::Connection, "new");
            let held = self.connect(phases).await?;
            self.ask(held, phases).await
        };
        carry_through(order, ahead, clock, ask).await
    }

    /// The connection that is held, if it is open and not to be renewed. While one probe has it, there is none for others.
    fn take(&self, now: Mono) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.filter(|held| !held.sender.is_closed() && now.since(held.opened) < self.reconnect_every)
    }

    async fn connect(&self, phases: &mut Phases) -> Result<Held, Fault> {
        let Dialled { stream, agreed } = self.dialer.dial(phases).await?;
        let opened = self.dialer.clock.mono();
        let two = match self.version {
            HttpVersion::Agreed => agreed.as_deref() == Some(b"h2"),
            HttpVersion::One => false,
            HttpVersion::Two => true,
        };
        let (io, mut driver) = (TokioIo::new(stream), JoinSet::new());
        let sender = if two {
            let shaken = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = shaken.map_err(|error| self.protocol(&error))?;
            driver.spawn(async move { connection.await.unwrap_or_default() });
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(|error| self.protocol(&error))?;
            driver.spawn(async move { connection.await.unwrap_or_default() });
            Sender::One(sender)
        };
        Ok(Held { opened, sender, _driver: driver })
    }

    async fn ask(&self, mut held: Held, phases: &mut Phases) -> Result<(), Fault> {
        phases.learn(Label::Version, held.sender.version());
        let response = held.sender.send(self.request(&held.sender)).await;
        let response = response.map_err(|error| self.protocol(&error))?;
        learn(response.headers(), phases);
        let status = response.status().as_u16();
        if status < 400 {
            phases.passed();
        }
        let status_line = response.status().to_string();
        if drain(response.into_body()).await.map_err(|error| self.protocol(&error))? == Body::Whole {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        }
        if status >= 400 {
            return Err(self.dialer.why.fault(FailureKind::Status, status_line));
        }
        phases.passed();
        Ok(())
    }

    fn protocol(&self, error: &hyper::Error) -> Fault {
        self.dialer.why.fault(FailureKind::Protocol, error)
    }

    fn request(&self, sender: &Sender) -> Request<Empty<Bytes>> {
        let Self { authority, scheme, path, user_agent, .. } = self;
        let request = Request::get(match sender {
            Sender::One(_) => path.clone(),
            Sender::Two(_) => format!("{scheme}://{authority}{path}"),
        });
        let request = match sender {
            Sender::One(_) => request.header(HOST, authority),
            Sender::Two(_) => request.version(Version::HTTP_2),
        };
        let request = request.header(USER_AGENT, user_agent).body(Empty::new());
        request.expect("the configuration was checked")
    }
}

impl Sender {
    fn version(&self) -> &'static str {
        match self {
            Self::One(_) => "1.1",
            Self::Two(_) => "2",
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Two(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

async fn drain(mut body: Incoming) -> hyper::Result<Body> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
        if read > BODY {
            return Ok(Body::Longer);
        }
    }
    Ok(Body::Whole)
}

/// What the headers say of the way the answer took.
fn learn(headers: &HeaderMap, phases: &mut Phases) {
    if let Some(cache) = cache(headers) {
        phases.learn(Label::Cache, cache);
    }
    if let Some(pop) = pop(headers) {
        phases.learn(Label::Pop, &pop);
    }
}

/// Cloudflare's word, RFC 9211's, or what many others say in `x-cache`.
fn cache(headers: &HeaderMap) -> Option<&'static str> {
    const WORDS: [&str; 8] = ["hit", "miss", "expired", "stale", "bypass", "revalidated", "updating", "dynamic"];
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase);
    // Of a list the last member is the cache that is nearest to us.
    let nearest = |list: String| list.rsplit(',').next().unwrap_or_default().trim().to_owned();
    let word = |text: &str| WORDS.into_iter().find(|word| *word == text).unwrap_or("other");
    if let Some(said) = header("cf-cache-status") {
        return Some(word(said.trim()));
    }
    if let Some(said) = header("cache-status").map(nearest) {
        let parameter = |wanted: &str| said.split(';').skip(1).any(|found| found.trim() == wanted);
        let forwarded = |reasons: &[&str]| reasons.iter().any(|reason| parameter(&format!("fwd={reason}")));
        return Some(match () {
            () if parameter("hit") => "hit",
            () if forwarded(&["miss", "uri-miss", "vary-miss"]) => "miss",
            () if forwarded(&["stale"]) => "stale",
            () if forwarded(&["bypass"]) => "bypass",
            () => "other",
        });
    }
    let said = header("x-cache").map(nearest)?;
    let first = said.split_whitespace().next().unwrap_or_default();
    Some(word(first.strip_prefix("tcp_").unwrap_or(first)))
}

fn pop(headers: &HeaderMap) -> Option<String> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase);
    let ray = || header("cf-ray")?.rsplit_once('-').map(|(_, colo)| colo.to_owned());
    header("x-amz-cf-pop").or_else(ray)
}

#[cfg(test)]
mod tests;
