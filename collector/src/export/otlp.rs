//! OTLP over HTTP, as the protocol asks of a client: protobuf, plain or in gzip, which every receiver must take, and again after
//! 429, 502, 503 and 504 alone.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};
use telemetry::otlp::{HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE};

use super::Verdict;
use crate::config::OtlpUrl;
use crate::decode::{DecodeError, inflate};
use crate::entry::{Encoding, Envelope};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Of what a receiver says about a batch.
const LONGEST_WHY: usize = 300;

#[derive(Debug)]
pub struct Otlp {
    client: Client,
    url: reqwest::Url,
}

#[derive(Debug, thiserror::Error)]
#[error("build the HTTP client: {0}")]
pub struct ClientError(#[from] reqwest::Error);

impl Otlp {
    pub fn new(OtlpUrl(url): OtlpUrl) -> Result<Self, ClientError> {
        // It fails only where a provider is installed already, and then there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("isochrone-collector/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url })
    }

    pub(super) async fn post(&self, envelope: &Envelope, body: &[u8]) -> Verdict {
        let (encoding, body) = match for_anyone(envelope.encoding, body) {
            Ok(message) => message,
            Err(error) => return Verdict::Refused { why: error.to_string() },
        };
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        if let Some(encoding) = encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        if let Some(origin) = &envelope.origin {
            request = request
                .header(HEADER_AGENT, origin.agent.as_str())
                .header(HEADER_BOOT, origin.boot.to_string())
                .header(HEADER_SEQUENCE, origin.sequence.0);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Verdict::Later { after: None, why: causes(&error) },
        };
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if status.is_success() {
            return Verdict::Taken;
        }
        let said: String = answer.text().await.unwrap_or_default().chars().take(LONGEST_WHY).collect();
        let why = format!("{status}: {said}");
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Verdict::Later { after: after.map(Duration::from_secs), why },
            _ => Verdict::Refused { why },
        }
    }
}

/// zstd is ours: others need not know it.
fn for_anyone(encoding: Encoding, body: &[u8]) -> Result<(Option<&'static str>, Bytes), DecodeError> {
    match encoding {
        Encoding::Identity => Ok((None, Bytes::copy_from_slice(body))),
        Encoding::Gzip => Ok((Some("gzip"), Bytes::copy_from_slice(body))),
        Encoding::Zstd => {
            // What is in the log was within the limits of its day.
            let message = inflate(body, encoding, usize::MAX - 1)?;
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let written = gzip.write_all(&message).and_then(|()| gzip.finish());
            Ok((Some("gzip"), written.map_err(DecodeError::Inflate)?.into()))
        }
    }
}

/// The error and what it came from: `error sending request` alone helps nobody.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
