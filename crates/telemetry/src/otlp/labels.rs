//! Reads attributes: who sends a batch, and what a point is about.

use std::str::FromStr;

use super::attribute;
use super::walk::Malformed;
use super::wire::{Field, each, utf8};
use crate::names::{AgentId, InvalidName, Name, RegionName, ServiceName, TargetId};
use crate::series::{Family, Gap, InvalidLabel, Label, Labels, Sequence, Series, Standing};
use crate::window::{FailureKind, Outcome};

/// Who sends, as a batch's resource says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub agent: AgentId,
    pub source: RegionName,
    pub version: String,
}

/// Why attributes do not name a series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0}: {InvalidName}")]
    Name(&'static str),
    #[error("{0}: {InvalidLabel}")]
    Label(&'static str),
    #[error("network.type is ipv4 or ipv6")]
    Family,
    #[error("a gap names a boot, and from 1 on the first and the last sequence")]
    Gap,
    #[error("the attributes are not key–value pairs")]
    Malformed,
}

impl From<Malformed> for BadLabels {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The first phase of a probe that has only one.
const DEFAULT_PHASE: &str = "rtt";

/// The field of the attributes in an exponential histogram's point, and in a number's.
const POINT: [u32; 2] = [1, 7];

pub fn resource(message: &[u8]) -> Result<Resource, BadLabels> {
    let (mut agent, mut source, mut version) = (None, None, None);
    each_attribute(message, &[1], |key, value| match key {
        attribute::INSTANCE => agent = value,
        attribute::SOURCE => source = value,
        attribute::VERSION => version = value,
        _ => {}
    })?;
    Ok(Resource {
        agent: required(attribute::INSTANCE, agent)?,
        source: required(attribute::SOURCE, source)?,
        version: version.unwrap_or_default().chars().take(64).collect(),
    })
}

/// The series that a point is of, and the kind of outcome that one of `isochrone.probe.duration` counts. Agent and source are
/// those of the batch.
pub fn series(attributes: &[u8], agent: &AgentId, source: &RegionName) -> Result<(Series, Outcome), BadLabels> {
    let (mut target, mut region, mut service, mut probe, mut phase) = (None, None, None, None, None);
    let (mut family, mut error, mut standing, mut learned) = (None, None, Standing::Regular, Vec::new());
    each_attribute(attributes, &POINT, |key, value| match key {
        attribute::TARGET => target = value,
        attribute::REGION => region = value,
        attribute::SERVICE => service = value,
        attribute::PROBE => probe = value,
        attribute::PHASE => phase = value,
        attribute::FAMILY => family = value,
        attribute::ERROR => error = value,
        attribute::CONFIRM if value == Some("true") => standing = Standing::Confirming,
        attribute::SUSPECT if value == Some("true") => standing = Standing::Suspect,
        _ => learned.extend(label(key).zip(value)),
    })?;
    let labels: Result<Labels, BadLabels> = learned
        .into_iter()
        .map(|(label, value)| Ok((label, value.parse().map_err(|_| BadLabels::Label(label.attribute()))?)))
        .collect();
    let series = Series {
        agent: agent.clone(),
        source: source.clone(),
        target: required::<TargetId>(attribute::TARGET, target)?,
        region: required(attribute::REGION, region)?,
        service: required::<ServiceName>(attribute::SERVICE, service)?,
        probe: required::<Name>(attribute::PROBE, probe)?,
        phase: required(attribute::PHASE, phase.or(Some(DEFAULT_PHASE)))?,
        family: family.map_or(Ok(Family::Ipv4), str::parse).map_err(|_| BadLabels::Family)?,
        standing,
        labels: labels?,
    };
    let outcome = error.map_or(Outcome::Reply, |error| Outcome::Failure(FailureKind::parse(error)));
    Ok((series, outcome))
}

/// What a gap names.
pub fn gap(attributes: &[u8]) -> Result<Gap, BadLabels> {
    let (mut boot, mut from, mut to) = (None, None, None);
    each_attribute(attributes, &POINT, |key, value| match key {
        attribute::BOOT => boot = value,
        attribute::FROM => from = value,
        attribute::TO => to = value,
        _ => {}
    })?;
    let number = |key, text: Option<&str>| {
        let number = text.ok_or(BadLabels::Missing(key))?.parse().map_err(|_| BadLabels::Gap)?;
        Ok::<_, BadLabels>(Sequence(number))
    };
    let boot = boot.ok_or(BadLabels::Missing(attribute::BOOT))?.parse().map_err(|_| BadLabels::Gap)?;
    let gap = Gap { boot, from: number(attribute::FROM, from)?, to: number(attribute::TO, to)? };
    if Sequence(1) <= gap.from && gap.from <= gap.to { Ok(gap) } else { Err(BadLabels::Gap) }
}

fn label(key: &str) -> Option<Label> {
    Label::ALL.iter().copied().find(|label| label.attribute() == key)
}

fn required<T: FromStr>(key: &'static str, value: Option<&str>) -> Result<T, BadLabels> {
    value.ok_or(BadLabels::Missing(key))?.parse().map_err(|_| BadLabels::Name(key))
}

/// Each attribute whose value is text; a boolean reads as `true` or `false`, the rest as nothing.
fn each_attribute<'a>(
    message: &'a [u8],
    wanted: &[u32],
    mut visit: impl FnMut(&'a str, Option<&'a str>),
) -> Result<(), Malformed> {
    each(message, |number, field| {
        let (true, Field::Bytes(pair)) = (wanted.contains(&number), field) else { return Ok(()) };
        let (mut key, mut value) = ("", None);
        each(pair, |number, field| {
            match (number, field) {
                (1, Field::Bytes(bytes)) => key = utf8(bytes)?,
                (2, Field::Bytes(any)) => value = text_of(any)?,
                _ => {}
            }
            Ok(())
        })?;
        visit(key, value);
        Ok(())
    })
}

fn text_of(any: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut text = None;
    each(any, |number, field| {
        match (number, field) {
            (1, Field::Bytes(bytes)) => text = Some(utf8(bytes)?),
            (2, Field::Varint(boolean)) => text = Some(if boolean == 0 { "false" } else { "true" }),
            _ => {}
        }
        Ok(())
    })?;
    Ok(text)
}
