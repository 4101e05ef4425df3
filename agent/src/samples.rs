//! What a series gathers until its window is closed: eight bytes a reply, since ten thousand series may wait with theirs.

use std::time::Duration;

use telemetry::time::nanos;
use telemetry::{FailureKind, Outcome};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// In nanoseconds.
    replies: Vec<u64>,
    failures: Vec<(FailureKind, u64)>,
}

impl Samples {
    pub fn push(&mut self, outcome: Outcome, duration: Duration) {
        match outcome {
            Outcome::Reply => self.replies.push(nanos(duration)),
            Outcome::Failure(kind) => self.failures.push((kind, nanos(duration))),
        }
    }

    /// Replies first.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, Duration)> {
        let replies = self.replies.iter().map(|nanos| (Outcome::Reply, *nanos));
        let failures = self.failures.iter().map(|(kind, nanos)| (Outcome::Failure(*kind), *nanos));
        replies.chain(failures).map(|(outcome, nanos)| (outcome, Duration::from_nanos(nanos)))
    }

    pub fn len(&self) -> usize {
        self.replies.len() + self.failures.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<(Outcome, Duration)> for Samples {
    fn from_iter<I: IntoIterator<Item = (Outcome, Duration)>>(samples: I) -> Self {
        let mut all = Self::default();
        samples.into_iter().for_each(|(outcome, duration)| all.push(outcome, duration));
        all
    }
}
