//! OTLP in JSON, a request a line. A line has some windows of one series.

use std::io::Write;

use serde_json::Value;
use telemetry::histogram::SCALE;
use telemetry::otlp::record;
use telemetry::{Histogram, Outcome, Wall, Window};

use super::{Extract, ExtractError};
use crate::history::History;
use crate::rings::Seen;

/// A line that any reader takes.
const WINDOWS: usize = 360;

pub(super) fn write(extract: &Extract, history: &History, out: &mut impl Write) -> Result<(), ExtractError> {
    history.walk(&extract.range, extract.tier, |series, windows| {
        let windows: Vec<_> =
            windows.into_iter().map(|(begin, seen)| window(begin, begin + extract.width(), seen)).collect();
        for windows in windows.chunks(WINDOWS) {
            let mut request = serde_json::to_value(record::of(series, windows))?;
            without_nulls(&mut request);
            serde_json::to_writer(&mut *out, &request)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

fn window(begin: Wall, end: Wall, seen: Seen) -> Window {
    let failures = seen.failures.into_iter().map(|(kind, count)| {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        (Outcome::Failure(kind), Histogram::from_buckets(SCALE, count, []))
    });
    let replies = (!seen.replies.is_empty()).then_some((Outcome::Reply, seen.replies));
    Window { begin, end, outcomes: replies.into_iter().chain(failures).collect() }
}

/// Readers in other languages take a field that is not there for one that is not there, and null for a fault.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
