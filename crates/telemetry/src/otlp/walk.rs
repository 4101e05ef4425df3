//! Walks a batch over its raw bytes. A point's attributes are handed on undecoded: the caller has usually met the same bytes
//! before, and only the first time are they worth parsing.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::wire::{Field, Fields, each, utf8, varint, zigzag};
use crate::histogram::{Bucket, Histogram};
use crate::time::Wall;

/// More buckets than scale 8 has between a nanosecond and an hour.
const MAX_BUCKETS: usize = 16_384;

/// Powers of two of a second that a duration may be: outside them a value would not be a number of any use.
const LOG2_SECONDS: RangeInclusive<f64> = -40.0..=20.0;

const DELTA: u64 = 1;

/// Not a protobuf message of the expected shape. The batch is refused as a whole: what follows cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not an OTLP ExportMetricsServiceRequest")]
pub struct Malformed;

/// Why a well-formed point is not taken. The rest of its batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPoint {
    #[error("its buckets do not add up to its count")]
    Count,
    #[error("a duration below zero")]
    Negative,
    #[error("more than {MAX_BUCKETS} buckets, or more than 4294967295 in one")]
    Buckets,
    #[error("a scale outside -10 to 20")]
    Scale,
    #[error("a duration below a picosecond or above twelve days")]
    Range,
    #[error("it ends before it begins, or has no time")]
    Time,
    #[error(
        "cumulative; set delta temporality (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta), which adds up across restarts"
    )]
    Cumulative,
    #[error(
        "explicit buckets; set exponential histograms \
         (OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram)"
    )]
    Explicit,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    pub metric: &'a str,
    /// The `attributes` fields as they stand on the wire.
    pub attributes: Cow<'a, [u8]>,
    pub begin: Wall,
    pub end: Wall,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Histogram(Histogram),
    Number(f64),
}

/// What the walk meets.
pub trait Visitor<'a> {
    /// A resource's attributes, before its points.
    fn resource(&mut self, attributes: &'a [u8]);
    /// Exponential histograms and numbers. A histogram with explicit buckets is a `bad_point`, a summary's are `other`.
    fn point(&mut self, point: Point<'a>);
    fn bad_point(&mut self, metric: &'a str, attributes: Cow<'a, [u8]>, fault: BadPoint);
    fn other(&mut self, metric: &'a str);
}

pub fn walk<'a>(body: &'a [u8], visitor: &mut impl Visitor<'a>) -> Result<(), Malformed> {
    each(body, |number, field| match (number, field) {
        (1, Field::Bytes(resource_metrics)) => walk_resource(resource_metrics, visitor),
        _ => Ok(()),
    })
}

/// The attributes of the first resource, without a look at what comes after them.
pub fn first_resource(body: &[u8]) -> Result<&[u8], Malformed> {
    let resource_metrics = first_bytes(body, 1)?.unwrap_or_default();
    Ok(first_bytes(resource_metrics, 1)?.unwrap_or_default())
}

fn walk_resource<'a>(message: &'a [u8], visitor: &mut impl Visitor<'a>) -> Result<(), Malformed> {
    visitor.resource(first_bytes(message, 1)?.unwrap_or_default());
    each(message, |number, field| match (number, field) {
        (2, Field::Bytes(scope)) => each(scope, |number, field| match (number, field) {
            (2, Field::Bytes(metric)) => walk_metric(metric, visitor),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

fn walk_metric<'a>(message: &'a [u8], visitor: &mut impl Visitor<'a>) -> Result<(), Malformed> {
    let name = utf8(first_bytes(message, 1)?.unwrap_or_default())?;
    each(message, |number, field| match (number, field) {
        (5 | 7, Field::Bytes(numbers)) => each(numbers, |number, field| match (number, field) {
            (1, Field::Bytes(point)) => walk_number(name, point, visitor),
            _ => Ok(()),
        }),
        (9, Field::Bytes(histograms)) => each(histograms, |number, field| {
            if let (1, Field::Bytes(point)) = (number, field) {
                visitor.bad_point(name, attributes(point, 9)?, BadPoint::Explicit);
            }
            Ok(())
        }),
        (11, Field::Bytes(summaries)) => each(summaries, |number, field| {
            if let (1, Field::Bytes(_)) = (number, field) {
                visitor.other(name);
            }
            Ok(())
        }),
        (10, Field::Bytes(histograms)) => {
            let mut temporality = 0;
            each(histograms, |number, field| {
                if let (2, Field::Varint(value)) = (number, field) {
                    temporality = value;
                }
                Ok(())
            })?;
            each(histograms, |number, field| match (number, field) {
                (1, Field::Bytes(point)) => walk_exponential(name, point, temporality == DELTA, visitor),
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    })
}

fn walk_number<'a>(metric: &'a str, message: &'a [u8], visitor: &mut impl Visitor<'a>) -> Result<(), Malformed> {
    let (mut begin, mut end, mut value) = (Wall::default(), Wall::default(), None);
    let attributes = gather(message, 7, |number, field| match (number, field) {
        (2, Field::Fixed64(nanos)) => begin = Wall(nanos),
        (3, Field::Fixed64(nanos)) => end = Wall(nanos),
        (4, Field::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
        (6, Field::Fixed64(bits)) => value = Some(bits.cast_signed() as f64),
        _ => {}
    })?;
    if let Some(value) = value {
        visitor.point(Point { metric, attributes, begin, end, value: Value::Number(value) });
    }
    Ok(())
}

fn walk_exponential<'a>(
    metric: &'a str,
    message: &'a [u8],
    delta: bool,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), Malformed> {
    let mut point = Exponential::default();
    let attributes = gather(message, 1, |number, field| match (number, field) {
        (2, Field::Fixed64(nanos)) => point.begin = Wall(nanos),
        (3, Field::Fixed64(nanos)) => point.end = Wall(nanos),
        (4, Field::Fixed64(count)) => point.count = count,
        (6, Field::Varint(scale)) => point.scale = zigzag(scale),
        (7, Field::Fixed64(zeros)) => point.zeros = zeros,
        (8, Field::Bytes(buckets)) => point.positive = buckets,
        (9, Field::Bytes(buckets)) => point.negative = buckets,
        _ => {}
    })?;
    let checked = if delta { point.check()? } else { Err(BadPoint::Cumulative) };
    match checked {
        Ok(histogram) => {
            let Exponential { begin, end, .. } = point;
            visitor.point(Point { metric, attributes, begin, end, value: Value::Histogram(histogram) });
        }
        Err(fault) => visitor.bad_point(metric, attributes, fault),
    }
    Ok(())
}

#[derive(Default)]
struct Exponential<'a> {
    begin: Wall,
    end: Wall,
    count: u64,
    scale: i32,
    zeros: u64,
    positive: &'a [u8],
    negative: &'a [u8],
}

impl Exponential<'_> {
    fn check(&self) -> Result<Result<Histogram, BadPoint>, Malformed> {
        if self.end < self.begin || self.end == Wall::default() {
            return Ok(Err(BadPoint::Time));
        }
        let Ok(scale @ -10..=20) = i8::try_from(self.scale) else { return Ok(Err(BadPoint::Scale)) };
        if let Err(fault) = buckets(self.negative)?
            .map(|negative| negative.is_empty())
            .and_then(|none| if none { Ok(()) } else { Err(BadPoint::Negative) })
        {
            return Ok(Err(fault));
        }
        let positive = match buckets(self.positive)? {
            Ok(positive) => positive,
            Err(fault) => return Ok(Err(fault)),
        };
        let log2 = |bucket: &Bucket| f64::from(bucket.index) * (-f64::from(scale)).exp2();
        if !positive.iter().all(|bucket| LOG2_SECONDS.contains(&log2(bucket))) {
            return Ok(Err(BadPoint::Range));
        }
        let Ok(zeros) = u32::try_from(self.zeros) else { return Ok(Err(BadPoint::Buckets)) };
        let histogram = Histogram::from_buckets(scale, zeros, positive);
        Ok(if histogram.count() == self.count { Ok(histogram) } else { Err(BadPoint::Count) })
    }
}

/// The buckets that hold something.
fn buckets(message: &[u8]) -> Result<Result<Vec<Bucket>, BadPoint>, Malformed> {
    let (mut offset, mut room) = (0, 0);
    each(message, |number, field| {
        match (number, field) {
            (1, Field::Varint(value)) => offset = zigzag(value),
            // A byte that is not zero is a count that is not, or a part of one.
            (2, Field::Bytes(packed)) => room += packed.iter().filter(|byte| **byte != 0).count(),
            _ => {}
        }
        Ok(())
    })?;
    let mut seen = 0_usize;
    let mut found = Vec::with_capacity(room.min(MAX_BUCKETS));
    let mut fits = true;
    let mut count = |value: u64| {
        let index = i32::try_from(seen).ok().and_then(|seen| offset.checked_add(seen));
        seen += 1;
        match (index, u32::try_from(value)) {
            (Some(index), Ok(count)) if seen <= MAX_BUCKETS => {
                found.extend((count > 0).then_some(Bucket { index, count }));
            }
            _ => fits = false,
        }
    };
    each(message, |number, field| match (number, field) {
        (2, Field::Varint(value)) => {
            count(value);
            Ok(())
        }
        (2, Field::Bytes(mut packed)) => {
            while !packed.is_empty() {
                count(varint(&mut packed)?);
            }
            Ok(())
        }
        _ => Ok(()),
    })?;
    Ok(if fits { Ok(found) } else { Err(BadPoint::Buckets) })
}

/// All fields of that number, one after the other as they stand. They are neighbours in every encoder that we know, so that
/// nothing is copied; where they are not, they are gathered.
pub(super) fn attributes(message: &[u8], wanted: u32) -> Result<Cow<'_, [u8]>, Malformed> {
    gather(message, wanted, |_, _| {})
}

/// The same, in one pass with a look at the other fields.
fn gather<'a>(
    message: &'a [u8],
    wanted: u32,
    mut visit_other: impl FnMut(u32, Field<'a>),
) -> Result<Cow<'a, [u8]>, Malformed> {
    let mut fields = Fields::of(message);
    let mut run: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    let mut run_end = 0;
    loop {
        let begin = message.len() - fields.rest().len();
        let Some((number, field)) = fields.next()? else { return Ok(run) };
        let end = message.len() - fields.rest().len();
        if number != wanted {
            visit_other(number, field);
            continue;
        }
        run = match run {
            Cow::Borrowed([]) => Cow::Borrowed(&message[begin..end]),
            Cow::Borrowed(so_far) if begin == run_end => Cow::Borrowed(&message[begin - so_far.len()..end]),
            so_far => Cow::Owned([&so_far, &message[begin..end]].concat()),
        };
        run_end = end;
    }
}

fn first_bytes(message: &[u8], wanted: u32) -> Result<Option<&[u8]>, Malformed> {
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        if let (true, Field::Bytes(bytes)) = (number == wanted, field) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
