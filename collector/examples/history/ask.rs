//! Questions, as a browser asks them: how long each answer takes.

use std::time::Duration;

use anyhow::Context as _;
use collector::history::Tier;
use runtime::Clock;
use serde_json::{Value, json};
use telemetry::Wall;

use crate::world::World;

const TIMES: usize = 100;
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Asked {
    what: String,
    ms: Vec<f64>,
}

impl Asked {
    pub(crate) fn told(&self) -> Value {
        let mut ms = self.ms.clone();
        ms.sort_by(f64::total_cmp);
        let quantile = |q: f64| ms[((ms.len() as f64 * q).ceil() as usize).max(1) - 1];
        json!({ "what": self.what, "p50_ms": quantile(0.5), "p99_ms": quantile(0.99) })
    }
}

impl World {
    /// The end of one path after the other.
    pub(crate) fn ask(
        &self,
        what: &str,
        view: &str,
        (length, step): (Duration, &str),
        tier: Tier,
    ) -> anyhow::Result<Asked> {
        let range = format!("from={}&to={}&step={step}", self.end - length, self.end - Duration::from_nanos(1));
        let mut questions = (0..TIMES).map(|time| {
            let path = self.paths[time * 7 % self.paths.len()].path();
            format!("/api/v1/paths/{path}/{view}?{range}")
        });
        let looks = |answer: &Value| {
            let steps = answer["points"].as_array().or(answer["columns"].as_array());
            let span = humantime::parse_duration(step).ok()?;
            let full = steps?.len() as u64 == length.as_secs() / span.as_secs();
            Some(full && answer["tier"] == tier.as_str())
        };
        self.timed(what, &mut questions, &looks)
    }

    /// Minutes of a range, one after the other.
    pub(crate) fn matrix(&self, what: &str, (from, to): (Wall, Wall)) -> anyhow::Result<Asked> {
        let minutes = to.since(from).as_secs() / 60;
        let mut questions = (0..TIMES as u64).map(|time| {
            let at = from + Duration::from_mins(time * 7 % minutes);
            format!("/api/v1/matrix?service=voice&at={at}")
        });
        let looks = |answer: &Value| {
            let samples = answer["samples"].as_array()?;
            let seen: u64 = samples.iter().filter_map(Value::as_u64).sum();
            Some(seen == 60 * self.paths.len() as u64)
        };
        self.timed(what, &mut questions, &looks)
    }

    fn timed(
        &self,
        what: &str,
        questions: &mut dyn Iterator<Item = String>,
        looks: &dyn Fn(&Value) -> Option<bool>,
    ) -> anyhow::Result<Asked> {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        let (client, clock): (ureq::Agent, _) = (config.build().into(), Clock::start());
        let mut ms = Vec::new();
        for question in questions {
            let begin = clock.mono();
            let mut answer = client.get(format!("{}{question}", self.url)).call().context("ask")?;
            let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().context("read an answer")?;
            ms.push(telemetry::time::millis(clock.mono().since(begin)));
            let answer = serde_json::from_str(&text).with_context(|| format!("{question}: {text}"))?;
            let told = || text.chars().take(500).collect::<String>();
            anyhow::ensure!(looks(&answer) == Some(true), "{question} does not tell all: {}", told());
        }
        Ok(Asked { what: what.to_owned(), ms })
    }
}
