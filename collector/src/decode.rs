//! A body as it was received → a [`Batch`]. The same function serves ingest and replay, so both see the same points.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, Read};
use std::sync::Arc;

use foldhash::fast::RandomState;
use telemetry::otlp::labels::{self, BadLabels, Resource};
use telemetry::otlp::walk::{self, BadPoint, Malformed, Value, Visitor};
use telemetry::otlp::{
    AGENT_LATENESS, AGENT_NOISE_FLOOR, AGENT_SPOOL_BATCHES, AGENT_SPOOL_BYTES, AGENT_SPOOL_GAP, PORTS_LOSING,
    PROBE_DURATION, PROBE_MISSED, TLS_NOT_AFTER,
};
use telemetry::{AgentId, Outcome, RegionName, Series, UnixSeconds, Wall};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::entry::{Batch, Certificate, Encoding, Envelope, LosingPorts, Point, Report, Vitals};

/// Attribute sets that are remembered. Beyond them points are parsed each time, which is slower and still right.
const CATALOG: usize = 2_000_000;

/// Of one point's attributes, as sent. Names and labels are bounded by their kinds; whatever else is there is not ours.
const ATTRIBUTES: usize = 8192;

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the body does not inflate: {0}")]
    Inflate(#[source] io::Error),
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
    known: HashMap<u128, Known, RandomState>,
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
            let decoder = zstd::Decoder::with_buffer(body).map_err(DecodeError::Inflate)?;
            read_within(limit, body.len(), decoder)
        }
        Encoding::Gzip => read_within(limit, body.len(), flate2::bufread::MultiGzDecoder::new(body)),
    }
}

fn read_within(limit: usize, length: usize, decoder: impl Read) -> Result<Cow<'static, [u8]>, DecodeError> {
    let mut inflated = Vec::with_capacity((length * 4).min(limit));
    decoder.take(limit as u64 + 1).read_to_end(&mut inflated).map_err(DecodeError::Inflate)?;
    if inflated.len() > limit { Err(DecodeError::TooLarge(limit)) } else { Ok(Cow::Owned(inflated)) }
}

/// Who sends, from the first resource of an inflated body.
pub fn sender(body: &[u8]) -> Result<Resource, DecodeError> {
    labels::resource(walk::first_resource(body)?).map_err(DecodeError::Resource)
}

impl Catalog {
    pub fn new(seed: u64) -> Self {
        Self { seed, known: HashMap::default() }
    }

    /// Walks an inflated body.
    pub fn read(&mut self, envelope: Envelope, body: &[u8]) -> Result<(Batch, Refused), DecodeError> {
        let mut reading = Reading {
            catalog: self,
            sender: Err(BadLabels::Malformed),
            points: Vec::new(),
            certificates: Vec::new(),
            losing_ports: Vec::new(),
            reports: Vec::new(),
            refused: Refused::default(),
        };
        walk::walk(body, &mut reading)?;
        let Reading { points, certificates, losing_ports, reports, refused, .. } = reading;
        let Envelope { origin, received, .. } = envelope;
        Ok((Batch { origin, received, points, certificates, losing_ports, reports }, refused))
    }

    fn series(
        &mut self,
        attributes: &[u8],
        agent: &AgentId,
        source: &RegionName,
    ) -> Result<(Arc<Series>, Outcome), BadLabels> {
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
    /// Of the resource whose points come now.
    sender: Result<Arc<Resource>, BadLabels>,
    points: Vec<Point>,
    certificates: Vec<Certificate>,
    losing_ports: Vec<LosingPorts>,
    reports: Vec<Report>,
    refused: Refused,
}

impl<'a> Visitor<'a> for Reading<'_> {
    fn resource(&mut self, attributes: &'a [u8]) {
        self.sender = labels::resource(attributes).map(Arc::new);
    }

    fn point(&mut self, point: walk::Point<'a>) {
        let metric = point.metric;
        if !is_ours(metric) {
            self.other(metric);
            return;
        }
        let taken = match self.sender.clone() {
            Ok(sender) => self.take(&sender, point).map_err(|fault| fault.to_string()),
            Err(fault) => Err(DecodeError::Resource(fault).to_string()),
        };
        if let Err(fault) = taken {
            self.refused.add(metric, &fault);
        }
    }

    fn bad_point(&mut self, metric: &'a str, _: Cow<'a, [u8]>, fault: BadPoint) {
        match metric {
            // An agent that sent nothing has no lateness, one without a loopback no floor: an empty histogram with no time is not a fault.
            AGENT_LATENESS | AGENT_NOISE_FLOOR => {}
            _ if is_ours(metric) => self.refused.add(metric, &fault),
            _ => self.other(metric),
        }
    }

    fn other(&mut self, metric: &'a str) {
        self.refused.add(metric, &"nothing here reads this metric");
    }
}

impl Reading<'_> {
    fn take(&mut self, sender: &Resource, point: walk::Point<'_>) -> Result<(), NotTaken> {
        let walk::Point { metric, attributes, begin, end, value } = point;
        if attributes.len() > ATTRIBUTES {
            return Err(NotTaken::Attributes(attributes.len()));
        }
        match (metric, value) {
            (PROBE_DURATION, Value::Histogram(histogram)) => {
                let (series, outcome) = self.catalog.series(&attributes, &sender.agent, &sender.source)?;
                self.points.push(Point { series, outcome, begin, end, histogram });
                self.vitals(sender);
            }
            (TLS_NOT_AFTER, Value::Number(seconds)) if seconds.is_finite() => {
                let (series, _) = self.catalog.series(&attributes, &sender.agent, &sender.source)?;
                self.certificates.push(Certificate { series, not_after: UnixSeconds(seconds as i64), seen: end });
                self.vitals(sender);
            }
            (PORTS_LOSING, Value::Number(share)) if (0.0..=1.0).contains(&share) => {
                let (series, _) = self.catalog.series(&attributes, &sender.agent, &sender.source)?;
                self.losing_ports.push(LosingPorts { series, share, seen: end });
                self.vitals(sender);
            }
            // For whoever keeps it. To us a series with less to say is one with fewer samples.
            (PROBE_MISSED, Value::Number(_)) => {}
            (AGENT_NOISE_FLOOR, Value::Histogram(floor)) => self.said(sender, end).noise_floor = floor,
            (AGENT_LATENESS, Value::Histogram(lateness)) => self.said(sender, end).lateness = lateness,
            (AGENT_SPOOL_BATCHES, Value::Number(batches)) => self.said(sender, end).spool_batches = batches as u64,
            (AGENT_SPOOL_BYTES, Value::Number(bytes)) => self.said(sender, end).spool_bytes = bytes as u64,
            (AGENT_SPOOL_GAP, Value::Number(_)) => {
                let gap = labels::gap(&attributes)?;
                self.vitals(sender).gaps.push(gap);
            }
            _ => return Err(NotTaken::Kind),
        }
        Ok(())
    }

    /// What it says of itself, then.
    fn said(&mut self, sender: &Resource, at: Wall) -> &mut Vitals {
        let vitals = self.vitals(sender);
        vitals.at = vitals.at.max(Some(at));
        vitals
    }

    /// In the report of that agent, which is begun when it has none yet.
    fn vitals(&mut self, sender: &Resource) -> &mut Vitals {
        let index = self.reports.iter().position(|report| report.agent == sender.agent).unwrap_or_else(|| {
            let Resource { agent, source, version } = sender.clone();
            self.reports.push(Report { agent, source, version, vitals: Vitals::default() });
            self.reports.len() - 1
        });
        &mut self.reports[index].vitals
    }
}

#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Labels(#[from] BadLabels),
    #[error("another kind of metric than expected; a duration is an exponential histogram")]
    Kind,
    #[error("{0} bytes of attributes, {ATTRIBUTES} are allowed")]
    Attributes(usize),
}

fn is_ours(metric: &str) -> bool {
    let ours = [
        PROBE_DURATION,
        PROBE_MISSED,
        TLS_NOT_AFTER,
        PORTS_LOSING,
        AGENT_LATENESS,
        AGENT_NOISE_FLOOR,
        AGENT_SPOOL_BATCHES,
        AGENT_SPOOL_BYTES,
        AGENT_SPOOL_GAP,
    ];
    ours.contains(&metric)
}

impl Refused {
    /// One more point of that metric.
    pub fn add(&mut self, metric: &str, why: &dyn Display) {
        self.points += 1;
        if self.points == 1 {
            let metric: String = metric.chars().take(64).collect();
            self.why = format!("{metric}: {why}");
        }
    }
}
