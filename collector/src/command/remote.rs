//! A collector that runs, asked over its API.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::{Url, redirect};
use serde_json::Value;

use crate::config::OtlpUrl;

#[derive(Debug, Clone)]
pub(super) struct Remote(Url);

impl Remote {
    pub(super) fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Response> {
        let mut url = self.at(path)?;
        url.query_pairs_mut().extend_pairs(query);
        self.ask(client()?.get(url))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Response> {
        self.ask(client()?.post(self.at(path)?).json(body))
    }

    fn at(&self, path: &str) -> anyhow::Result<Url> {
        self.0.join(path).with_context(|| format!("{} is no URL of a collector", self.0))
    }

    /// What went wrong is said in the words of the collector.
    fn ask(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().with_context(|| format!("ask the collector at {self}"))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem: Value = answer.json().unwrap_or_default();
        match problem["detail"].as_str() {
            Some(detail) => bail!("the collector at {self} says: {detail}"),
            None => bail!("the collector at {self} answers {status}: is it one, and of this version?"),
        }
    }
}

/// Without a limit of time: what is asked for may be a year.
fn client() -> anyhow::Result<Client> {
    // It fails only where a provider is installed already, and then there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = Client::builder().timeout(None).no_proxy().redirect(redirect::Policy::none());
    client.build().context("build the HTTP client")
}

impl FromStr for Remote {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|OtlpUrl(url)| Self(url))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
