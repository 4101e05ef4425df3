//! JSON over HTTP, for tests and the demo.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use ureq::Agent;

fn agent() -> Agent {
    let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).http_status_as_error(false);
    config.build().into()
}

pub fn get(url: &str) -> anyhow::Result<Value> {
    serde_json::from_str(&get_text(url)?).with_context(|| format!("read {url}"))
}

/// The body as it came, byte for byte.
pub fn get_text(url: &str) -> anyhow::Result<String> {
    let mut answer = agent().get(url).call().with_context(|| format!("get {url}"))?;
    anyhow::ensure!(answer.status().is_success(), "get {url}: {}", answer.status());
    answer.body_mut().read_to_string().with_context(|| format!("read {url}"))
}

pub fn post(url: &str, body: &Value) -> anyhow::Result<Value> {
    let mut answer = agent().post(url).send_json(body).with_context(|| format!("post {url}"))?;
    let status = answer.status();
    let text = answer.body_mut().read_to_string().with_context(|| format!("read {url}"))?;
    anyhow::ensure!(status.is_success(), "post {url}: {status} {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

pub fn delete(url: &str) -> anyhow::Result<()> {
    let answer = agent().delete(url).call().with_context(|| format!("delete {url}"))?;
    anyhow::ensure!(answer.status().is_success(), "delete {url}: {}", answer.status());
    Ok(())
}

/// Posts bytes with headers; the status, whatever it is.
pub fn post_bytes(url: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<u16> {
    let request = headers.iter().fold(agent().post(url), |request, (name, value)| request.header(*name, *value));
    Ok(request.send(body).with_context(|| format!("post {url}"))?.status().as_u16())
}
