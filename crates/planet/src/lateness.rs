//! How late our answers leave, after the moment that was drawn for them: the planet's own error, for whoever compares a
//! measurement with the truth.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

#[derive(Debug)]
pub struct Lateness {
    /// In nanoseconds.
    sent: Mutex<Histogram<u64>>,
}

/// The answer to `GET /lateness`. A quantile of nothing is `null`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Document {
    pub count: u64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub max_us: Option<f64>,
}

const LONGEST: Duration = Duration::from_mins(1);

impl Default for Lateness {
    fn default() -> Self {
        let nanos = Histogram::new_with_max(telemetry::time::nanos(LONGEST), 3).expect("these bounds are valid");
        Self { sent: Mutex::new(nanos) }
    }
}

impl Lateness {
    pub fn record(&self, late: Duration) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(telemetry::time::nanos(late));
    }

    pub fn document(&self) -> Document {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = |nanos: u64| (!sent.is_empty()).then_some(nanos as f64 / 1e3);
        Document {
            count: sent.len(),
            p50_us: micros(sent.value_at_quantile(0.5)),
            p99_us: micros(sent.value_at_quantile(0.99)),
            max_us: micros(sent.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_sent_has_no_quantiles() {
        let lateness = Lateness::default();
        assert_eq!(lateness.document(), Document { count: 0, p50_us: None, p99_us: None, max_us: None });
        lateness.record(Duration::from_micros(12));
        assert_eq!(lateness.document().count, 1);
        assert!((lateness.document().p99_us.unwrap() - 12.0).abs() < 0.1);
    }
}
