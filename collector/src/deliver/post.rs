//! One HTTP request: signed, to a public address unless its receiver may be elsewhere, without proxies and without redirects.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, redirect};
use telemetry::Wall;

use super::flights::Letter;
use crate::addresses::is_public;
use crate::entry::{Answer, Fault};
use crate::receiver::Receiver;

/// From the first packet to the head of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client")]
pub struct BuildError(#[from] reqwest::Error);

#[derive(Debug)]
pub struct Post {
    receiver: Receiver,
    client: Client,
}

impl Post {
    pub fn new(receiver: Receiver) -> Result<Self, BuildError> {
        // Whoever installed one before us has installed the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .user_agent(concat!("isochrone-collector/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Resolver { allow_private: receiver.allow_private }))
            .build()?;
        Ok(Self { receiver, client })
    }

    pub(super) async fn send(&self, letter: &Letter, now: Wall) -> Answer {
        let timestamp = now.0 / 1_000_000_000;
        let request = self
            .client
            .post(self.receiver.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &letter.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.receiver.keys.sign(&letter.id, timestamp, &letter.body))
            .body(letter.body.clone());
        match request.send().await {
            Ok(answer) => {
                Answer::Status { code: answer.status().as_u16(), retry_after: retry_after(answer.headers(), now) }
            }
            Err(error) if error.is_timeout() => Answer::Timeout,
            Err(error) => Answer::Connection(fault(&error)),
        }
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Wall) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let date = || httpdate::parse_http_date(text).ok().map(|date: SystemTime| Wall::from(date).since(now));
    text.parse().ok().map(Duration::from_secs).or_else(date)
}

fn fault(error: &reqwest::Error) -> Fault {
    let mut causes = std::iter::successors(error.source(), |cause| beneath(*cause));
    let named = causes.find_map(|cause| match cause.downcast_ref() {
        Some(Unresolved::Nowhere) => Some(Fault::Unresolved),
        Some(Unresolved::Private) => Some(Fault::Forbidden),
        None => cause.is::<rustls::Error>().then_some(Fault::Tls),
    });
    named.unwrap_or(if error.is_connect() { Fault::Connect } else { Fault::Broken })
}

/// An I/O error does not name what it wraps as its source.
fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// Looks at each address of a name right before it is connected to: what a name meant before binds nobody.
struct Resolver {
    allow_private: bool,
}

#[derive(Debug, thiserror::Error)]
enum Unresolved {
    #[error("the name has no address")]
    Nowhere,
    #[error("the name has only private addresses")]
    Private,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| Unresolved::Nowhere)?;
            Ok(allowed(found.collect(), allow_private)?)
        })
    }
}

fn allowed(found: Vec<SocketAddr>, allow_private: bool) -> Result<Addrs, Unresolved> {
    if found.is_empty() {
        return Err(Unresolved::Nowhere);
    }
    let allowed: Vec<_> = found.into_iter().filter(|address| allow_private || is_public(address.ip())).collect();
    if allowed.is_empty() { Err(Unresolved::Private) } else { Ok(Box::new(allowed.into_iter())) }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn post(url: &str, allow_private: bool) -> Post {
        let keys = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        Post::new(Receiver { url: url.parse().unwrap(), keys, allow_private }).unwrap()
    }

    fn letter() -> Letter {
        Letter { row: crate::entry::RowId(1), attempt: 1, id: "msg_1".to_owned(), body: b"{}".to_vec() }
    }

    #[tokio::test]
    async fn a_name_that_turns_out_to_be_private_gets_no_packet() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let answer = post(&url, false).send(&letter(), Wall::default()).await;
        assert_eq!(answer, Answer::Connection(Fault::Forbidden));
        tokio::select! {
            answer = async { post(&url, true).send(&letter(), Wall::default()).await } => panic!("{answer}"),
            accepted = listener.accept() => drop(accepted.unwrap()),
        }
    }

    #[tokio::test]
    async fn a_port_that_is_closed_and_a_name_that_is_none_are_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        assert_eq!(post(&url, true).send(&letter(), Wall::default()).await, Answer::Connection(Fault::Connect));
        let nowhere = post("http://nowhere.invalid/", true).send(&letter(), Wall::default()).await;
        assert_eq!(nowhere, Answer::Connection(Fault::Unresolved));
    }

    #[tokio::test]
    async fn what_does_not_speak_tls_is_told_apart_from_what_is_not_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let post = post(&format!("https://{}/", listener.local_addr().unwrap()), true);
        let plain = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream
        };
        let letter = letter();
        let (answer, _stream) = tokio::join!(post.send(&letter, Wall::default()), plain);
        assert_eq!(answer, Answer::Connection(Fault::Tls));
    }

    #[test]
    fn one_public_address_among_private_ones_is_the_one_that_is_used() {
        let found = vec!["10.0.0.1:0".parse().unwrap(), "1.1.1.1:0".parse().unwrap()];
        let used: Vec<_> = allowed(found, false).unwrap().collect();
        assert_eq!(used, ["1.1.1.1:0".parse::<SocketAddr>().unwrap()]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |text: &'static str| HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        let now = Wall::from_secs(784_111_777);
        assert_eq!(retry_after(&headers("120"), now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after(&headers("Sun, 06 Nov 1994 08:50:37 GMT"), now), Some(Duration::from_mins(1)));
        assert_eq!(retry_after(&headers("soon"), now), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
