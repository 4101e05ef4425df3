//! A body as it was received → a [`Batch`]. The same function serves ingest and replay, so both see the same points.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::Read as _;
use std::sync::Arc;

use telemetry::otlp::labels::{self, BadLabels, Resource};
use telemetry::otlp::walk::{self, BadPoint, Malformed, Value, Visitor};
use telemetry::otlp::{AGENT_LATENESS, AGENT_SPOOL_BATCHES, AGENT_SPOOL_BYTES, PROBE_DURATION};
use telemetry::{Outcome, Series};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::entry::{Batch, Encoding, Envelope, Point, Vitals};

/// Attribute sets that are remembered. Beyond them points are parsed each time, which is slower and still right.
const CATALOG: usize = 2_000_000;

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the body does not inflate: {0}")]
    Inflate(#[source] std::io::Error),
    #[error("the body inflates to more than {0} bytes")]
    TooLarge(usize),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the resource does not say who sends: {0}")]
    Resource(BadLabels),
}

/// Points that were not taken; the rest of their batch was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    pub points: u64,
    /// Of the first, by name.
    pub why: String,
}

/// Series by the raw bytes of their attributes, parsed once in a series' life.
#[derive(Debug)]
pub struct Catalog {
    /// Known to nobody outside, so that no sender can make keys collide.
    seed: u64,
    known: HashMap<u128, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    bytes: Box<[u8]>,
    series: Arc<Series>,
    outcome: Outcome,
}

pub fn inflate(body: &[u8], encoding: Encoding, limit: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    match encoding {
        Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::Zstd => {
            let mut inflated = Vec::with_capacity((body.len() * 4).min(limit));
            let decoder = zstd::Decoder::with_buffer(body).map_err(DecodeError::Inflate)?;
            decoder.take(limit as u64 + 1).read_to_end(&mut inflated).map_err(DecodeError::Inflate)?;
            if inflated.len() > limit { Err(DecodeError::TooLarge(limit)) } else { Ok(Cow::Owned(inflated)) }
        }
    }
}

/// Who sends, from the first resource of an inflated body.
pub fn sender(body: &[u8]) -> Result<Resource, DecodeError> {
    struct First<'a>(Option<&'a [u8]>);
    impl<'a> Visitor<'a> for First<'a> {
        fn resource(&mut self, attributes: &'a [u8]) {
            self.0.get_or_insert(attributes);
        }
        fn point(&mut self, _: walk::Point<'a>) {}
        fn bad_point(&mut self, _: &'a str, _: Cow<'a, [u8]>, _: BadPoint) {}
        fn other(&mut self, _: &'a str) {}
    }
    let mut first = First(None);
    walk::walk(body, &mut first)?;
    labels::resource(first.0.unwrap_or_default()).map_err(DecodeError::Resource)
}

impl Catalog {
    pub fn new(seed: u64) -> Self {
        Self { seed, known: HashMap::new() }
    }

    /// Walks an inflated body.
    pub fn read(&mut self, envelope: Envelope, body: &[u8]) -> Result<(Batch, Refused), DecodeError> {
        let mut reading = Reading {
            catalog: self,
            envelope: &envelope,
            points: Vec::new(),
            vitals: Vitals::default(),
            refused: Refused::default(),
            version: String::new(),
        };
        walk::walk(body, &mut reading)?;
        let Reading { points, vitals, refused, version, .. } = reading;
        let Envelope { origin, source, received, .. } = envelope;
        Ok((Batch { origin, source, received, version, points, vitals }, refused))
    }

    fn series(&mut self, attributes: &[u8], envelope: &Envelope) -> Result<(Arc<Series>, Outcome), BadLabels> {
        let (agent, source) = (&envelope.origin.agent, &envelope.source);
        let sender = xxh3_64_with_seed(agent.as_str().as_bytes(), self.seed);
        let key = xxh3_128_with_seed(attributes, sender);
        if let Some(known) = self.known.get(&key)
            && *known.bytes == *attributes
            && known.series.agent == *agent
            && known.series.source == *source
        {
            return Ok((Arc::clone(&known.series), known.outcome));
        }
        let (series, outcome) = labels::series(attributes, agent, source)?;
        let known = Known { bytes: attributes.into(), series: Arc::new(series), outcome };
        let series = Arc::clone(&known.series);
        if self.known.len() < CATALOG {
            self.known.insert(key, known);
        }
        Ok((series, outcome))
    }
}

struct Reading<'c> {
    catalog: &'c mut Catalog,
    envelope: &'c Envelope,
    points: Vec<Point>,
    vitals: Vitals,
    refused: Refused,
    version: String,
}

impl<'a> Visitor<'a> for Reading<'_> {
    fn resource(&mut self, attributes: &'a [u8]) {
        if let Ok(resource) = labels::resource(attributes) {
            self.version = resource.version;
        }
    }

    fn point(&mut self, point: walk::Point<'a>) {
        let walk::Point { metric, attributes, begin, end, value } = point;
        match (metric, value) {
            (PROBE_DURATION, Value::Histogram(histogram)) => match self.catalog.series(&attributes, self.envelope) {
                Ok((series, outcome)) => self.points.push(Point { series, outcome, begin, end, histogram }),
                Err(fault) => self.refused.add(metric, &fault),
            },
            (AGENT_LATENESS, Value::Histogram(lateness)) => self.vitals.lateness = lateness,
            (AGENT_SPOOL_BATCHES, Value::Number(batches)) => self.vitals.spool_batches = batches as u64,
            (AGENT_SPOOL_BYTES, Value::Number(bytes)) => self.vitals.spool_bytes = bytes as u64,
            _ => self.other(metric),
        }
    }

    fn bad_point(&mut self, metric: &'a str, _: Cow<'a, [u8]>, fault: BadPoint) {
        // An agent that sent nothing has no lateness: an empty histogram with no time is not a fault.
        if metric != AGENT_LATENESS {
            self.refused.add(metric, &fault);
        }
    }

    fn other(&mut self, metric: &'a str) {
        self.refused.add(metric, &"nothing here reads this metric");
    }
}

impl Refused {
    fn add(&mut self, metric: &str, why: &dyn Display) {
        self.points += 1;
        if self.points == 1 {
            let metric: String = metric.chars().take(64).collect();
            self.why = format!("{metric}: {why}");
        }
    }
}
