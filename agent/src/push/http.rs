//! OTLP over HTTP, protobuf and zstd, with the three headers by which a batch is counted once.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use telemetry::AgentId;
use telemetry::otlp::{HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE};

use super::{Collector, Trouble, Verdict};
use crate::spool::Batch;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Of it, to connect: another collector may be waiting to be asked.
const CONNECT: Duration = Duration::from_secs(3);
/// Of what a collector says about a batch.
const LONGEST_WHY: usize = 300;

#[derive(Debug)]
pub struct Http {
    client: Client,
    url: Url,
    agent: AgentId,
}

#[derive(Debug, thiserror::Error)]
#[error("build the HTTP client: {0}")]
pub struct ClientError(#[from] reqwest::Error);

impl Http {
    pub fn new(url: Url, agent: AgentId) -> Result<Self, ClientError> {
        // It fails only where a provider is installed already, and then there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("isochrone-agent/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url, agent })
    }
}

impl Collector for Http {
    fn name(&self) -> &str {
        self.url.as_str()
    }

    async fn post(&self, batch: &Batch) -> Verdict {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(CONTENT_ENCODING, "zstd")
            .header(HEADER_AGENT, self.agent.as_str())
            .header(HEADER_BOOT, batch.name.boot.to_string())
            .header(HEADER_SEQUENCE, batch.name.sequence.0)
            .body(batch.body.clone());
        match request.send().await {
            Ok(response) => verdict(response).await,
            Err(error) => Verdict::Later { trouble: Trouble::Failing, after: None, why: causes(&error) },
        }
    }
}

async fn verdict(response: Response) -> Verdict {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let body = response.bytes().await.unwrap_or_default();
    if status == StatusCode::OK {
        // An answer that is no OTLP says that it took the batch, and nothing more.
        let partial =
            ExportMetricsServiceResponse::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
        let refused = u64::try_from(partial.rejected_data_points).unwrap_or_default();
        return Verdict::Taken { refused, why: shortened(&partial.error_message) };
    }
    let why = format!("{status}: {}", shortened(&String::from_utf8_lossy(&body)));
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Later { trouble: Trouble::Busy, after, why }
        }
        _ if status.is_client_error() => Verdict::Refused { status: status.as_u16(), why },
        _ => Verdict::Later { trouble: Trouble::Failing, after, why },
    }
}

/// Seconds. The form with a date is left to our own backoff: it asks for clocks that agree.
fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_WHY).collect()
}

/// The error and what it came from: `error sending request` alone helps nobody.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
