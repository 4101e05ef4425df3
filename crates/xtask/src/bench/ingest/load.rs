//! Sends what was encoded before, over a few connections, each always for the same agents and in the order of their windows;
//! and asks for something meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ureq::Agent as Client;

use super::super::probes::quantile;

const LANES: usize = 4;
const ASK_EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_mins(1);

/// One request.
#[derive(Debug)]
pub(in super::super) struct Batch {
    pub(in super::super) headers: Vec<(&'static str, String)>,
    pub(in super::super) body: Vec<u8>,
}

/// What came of it: how long each batch waited for its ack, and each question for its answer where one was asked.
#[derive(Debug)]
pub(in super::super) struct Acks {
    pub(in super::super) acks: Latencies,
    pub(in super::super) asked: Option<Latencies>,
}

#[derive(Debug, Default)]
pub(in super::super) struct Latencies(Vec<f64>);

impl Latencies {
    pub(in super::super) fn quantile_ms(&self, q: f64) -> anyhow::Result<f64> {
        quantile(&mut self.0.clone(), q).context("nothing was asked")
    }
}

/// `load` is by window, then by agent.
pub(in super::super) fn send(url: &str, load: &[Vec<Batch>], ask: Option<&str>) -> anyhow::Result<Acks> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = ask.map(|ask| scope.spawn(|| questions(ask, &over)));
        let lanes: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || batches(url, load, lane))).collect();
        let acks: anyhow::Result<Vec<_>> = lanes.into_iter().map(joined).collect();
        over.store(true, Ordering::Relaxed);
        let asked = asking.map(joined).transpose()?;
        Ok(Acks { acks: Latencies(acks?.concat()), asked: asked.map(Latencies) })
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
}

fn batches(url: &str, load: &[Vec<Batch>], lane: usize) -> anyhow::Result<Vec<f64>> {
    let client = client();
    let mut acks = Vec::new();
    for batch in load.iter().flat_map(|agents| agents.iter().skip(lane).step_by(LANES)) {
        let request = batch.headers.iter().fold(client.post(url), |it, (name, value)| it.header(*name, value));
        let begin = Instant::now();
        let mut answer = request.send(&batch.body[..]).with_context(|| format!("post {url}"))?;
        let text = answer.body_mut().read_to_string().with_context(|| format!("read {url}"))?;
        acks.push(millis(begin));
        // An answer of ours that is not empty names points that were refused.
        anyhow::ensure!(answer.status().is_success() && text.is_empty(), "post {url}: {} {text}", answer.status());
    }
    Ok(acks)
}

fn questions(url: &str, over: &AtomicBool) -> anyhow::Result<Vec<f64>> {
    let client = client();
    let (start, mut answers) = (Instant::now(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        // From when it was due: a slow answer delays no question.
        let due = start + ASK_EVERY * answers.len() as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut answer = client.get(url).call().with_context(|| format!("get {url}"))?;
        anyhow::ensure!(answer.status().is_success(), "get {url}: {}", answer.status());
        answer.body_mut().read_to_string().with_context(|| format!("read {url}"))?;
        answers.push(millis(due));
    }
    Ok(answers)
}

fn client() -> Client {
    Client::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build().into()
}

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
