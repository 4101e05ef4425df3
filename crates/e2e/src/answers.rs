//! What the planet's endpoints answered against what the collector counts: they know nothing of each other.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::World;
use crate::json::{items, items_of, text, whole};

/// What drives each service.
pub const PRIMARIES: [(&str, &str); 3] = [("websocket", "heartbeat"), ("voice", "rtt"), ("http", "first_byte")];

/// A path by source, target, probe and phase.
pub type Path = [String; 4];

/// One path, as both sides have it.
#[derive(Debug, Clone)]
pub struct Compared {
    pub path: Path,
    pub answers: u64,
    pub counted: Counted,
    /// Failures whose answer may have come all the same, after the probe had given up.
    late: u64,
}

/// What the collector has of a path, whatever its standing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub replies: u64,
    pub failures: u64,
}

/// Where the two are not equal. On a stream, or to a confirming probe, an answer may come after the probe has given up, and where
/// packets are routed any answer may be lost on its way back, which counts as a failure; where nothing failed the two are equal.
pub fn differences(world: &World) -> anyhow::Result<Vec<String>> {
    let compared = compare(world)?;
    Ok(compared.iter().filter(|path| !path.is_exact()).map(ToString::to_string).collect())
}

/// Every path of a primary measurement, and of voice discovery.
pub fn compare(world: &World) -> anyhow::Result<Vec<Compared>> {
    let asked = |row: &Value| PRIMARIES.iter().any(|primary| is_of(row, *primary)) || row["phase"] == "discovery";
    let counts = world.planet.counts()?;
    let routed = world.planet.truth()?["mode"] == "router";
    let mut answered: BTreeMap<Path, u64> = items(&counts)
        // The planet asks itself once before it says that it is ready.
        .filter(|row| asked(row) && row["source"] != "unknown")
        .map(|row| (path(row), whole(&row["count"])))
        .collect();
    let paths = world.get("/api/v1/paths?window=15m")?;
    let mut compared = Vec::new();
    for shown in items(&paths).filter(|path| asked(path) && path["source"] != "lab") {
        let (mut counted, mut late) = (Counted::default(), 0);
        for (standing, one) in by_standing(shown) {
            counted.add(one);
            let impatient = routed || shown["probe"] != "voice" || standing == "confirming";
            late += if impatient { one.failures } else { 0 };
        }
        let path = path(shown);
        compared.push(Compared { answers: answered.remove(&path).unwrap_or_default(), path, counted, late });
    }
    let nowhere = |(path, answers)| Compared { path, answers, counted: Counted::default(), late: 0 };
    compared.extend(answered.into_iter().map(nowhere));
    Ok(compared)
}

/// What a path of `/api/v1/paths` counts. Confirming and suspect ones stand in the variants alone; where there are none, the path
/// is its own only variant.
pub fn by_standing(path: &Value) -> BTreeMap<&str, Counted> {
    let mut variants: Vec<_> = items_of(&path["variants"]).collect();
    if variants.is_empty() {
        variants.push(path);
    }
    let mut counted: BTreeMap<_, Counted> = BTreeMap::new();
    for variant in variants {
        let (samples, loss) = (whole(&variant["samples"]), variant["loss"].as_f64().unwrap_or(0.0));
        let failures = (samples as f64 * loss).round() as u64;
        let standing = variant["standing"].as_str().unwrap_or("regular");
        counted.entry(standing).or_default().add(Counted { replies: samples - failures, failures });
    }
    counted
}

/// Of a row that has source, target, probe and phase.
pub fn path(row: &Value) -> Path {
    ["source", "target", "probe", "phase"].map(|name| text(&row[name]))
}

pub fn is_of(row: &Value, (probe, phase): (&str, &str)) -> bool {
    row["probe"] == probe && row["phase"] == phase
}

impl Compared {
    pub fn is_exact(&self) -> bool {
        let Counted { replies, .. } = self.counted;
        (replies..=replies + self.late).contains(&self.answers)
    }

    /// As where an agent was killed, and with it what it had not made durable yet.
    pub fn is_possible(&self) -> bool {
        self.counted.replies <= self.answers
    }
}

impl Counted {
    pub fn add(&mut self, more: Self) {
        self.replies += more.replies;
        self.failures += more.failures;
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, answers, counted: Counted { replies, failures }, .. } = self;
        write!(f, "{path:?}: {answers} answers, {replies} replies, {failures} failures")
    }
}
