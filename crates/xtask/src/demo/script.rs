//! A script of faults: what to inject when, and when to heal it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use e2e::Planet;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    #[serde(rename = "step")]
    steps: Vec<Step>,
    #[serde(skip)]
    played: usize,
    #[serde(skip)]
    faults: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Since the demo began.
    at: String,
    /// A fault, as the planet's control takes it.
    inject: Option<Value>,
    /// What to call it, or which of them to heal.
    name: Option<String>,
    heal: Option<String>,
}

impl Script {
    pub(super) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let script: Self = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        let times: Vec<_> = script.steps.iter().map(Step::time).collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(times.is_sorted(), "{}: the steps are not in the order of their times", path.display());
        Ok(script)
    }

    /// Plays what is due and says what was done.
    pub(super) fn play(&mut self, elapsed: Duration, planet: &Planet) -> anyhow::Result<Vec<String>> {
        let mut events = Vec::new();
        while let Some(step) = self.steps.get(self.played) {
            if step.time()? > elapsed {
                break;
            }
            if let Some(fault) = &step.inject {
                let id = planet.inject(fault)?;
                events.push(format!("fault {fault}"));
                self.faults.insert(step.name.clone().unwrap_or_default(), id);
            }
            if let Some(name) = &step.heal {
                let id = self.faults.remove(name).with_context(|| format!("no fault is called {name:?}"))?;
                planet.heal(&id)?;
                events.push(format!("healed {name}"));
            }
            self.played += 1;
        }
        Ok(events)
    }
}

impl Step {
    fn time(&self) -> anyhow::Result<Duration> {
        humantime::parse_duration(&self.at).with_context(|| format!("at = {:?}", self.at))
    }
}
