//! What an answer means for a row of the outbox, and when it goes out again.
//!
//! A row is given up when its receiver refuses it (a redirect, or a status 4xx that is not 408, 425 or 429), when the receiver
//! says that it is gone (410), or when it is a day old. Anything else passes: it is tried again, at growing distances.

use std::time::Duration;

use telemetry::Wall;
use xxhash_rust::xxh3::xxh3_64;

use super::{Outcome, Why};
use crate::entry::{Answer, Attempt};

/// Between two attempts: doubled from the first to the last of these, and shortened by up to half.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// A receiver's Retry-After is obeyed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// A row is not tried any more when it is this old.
const GIVE_UP: Duration = Duration::from_hours(24);

/// Of a row that was written then.
pub(super) fn outcome(written: Wall, attempt: &Attempt) -> Outcome {
    match attempt.answer {
        Answer::Status { code: 200..=299, .. } => Outcome::Delivered,
        Answer::Status { code: 410, .. } => Outcome::Dead(Why::Gone),
        Answer::Status { code: 408 | 425 | 429 | 500.., .. } | Answer::Timeout | Answer::Connection(_) => {
            let old = attempt.at.since(written) >= GIVE_UP;
            if old { Outcome::Dead(Why::TooOld) } else { Outcome::Retried }
        }
        Answer::Status { .. } => Outcome::Dead(Why::Refused),
    }
}

/// Until when the receiver asks for nothing more, if it does.
pub(super) fn asked(attempt: &Attempt) -> Option<Wall> {
    match attempt.answer {
        Answer::Status { retry_after, .. } => retry_after.map(|wait| attempt.at + wait.min(RETRY_AFTER_MAX)),
        Answer::Timeout | Answer::Connection(_) => None,
    }
}

/// The jitter is a hash, so that a replay decides the same and no two rows march in step.
pub(super) fn backoff(epoch: Wall, attempt: &Attempt) -> Duration {
    let whole = BACKOFF.saturating_mul(1 << (attempt.number - 1).min(16)).min(BACKOFF_MAX);
    let seed = [epoch.0, attempt.row.0, u64::from(attempt.number)].map(u64::to_le_bytes).concat();
    let share = (xxh3_64(&seed) >> 11) as f64 / (1_u64 << 53) as f64;
    whole.mul_f64(1.0 - share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Fault, RowId};

    #[test]
    fn what_may_pass_is_tried_again_and_what_was_refused_is_not() {
        let outcome = |answer| {
            let attempt = Attempt { row: RowId(1), number: 1, at: Wall::from_secs(10), answer };
            outcome(Wall::from_secs(9), &attempt)
        };
        let status = |code| outcome(Answer::Status { code, retry_after: None });
        assert_eq!([200, 204].map(status), [Outcome::Delivered; 2]);
        assert_eq!([408, 425, 429, 500, 503, 599].map(status), [Outcome::Retried; 6]);
        assert_eq!([301, 302, 308, 400, 401, 404, 422].map(status), [Outcome::Dead(Why::Refused); 7]);
        assert_eq!(status(410), Outcome::Dead(Why::Gone));
        assert_eq!(outcome(Answer::Timeout), Outcome::Retried);
        assert_eq!(outcome(Answer::Connection(Fault::Forbidden)), Outcome::Retried);
    }
}
