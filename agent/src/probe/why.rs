//! Why probes failed, in the words of whoever found out: of each kind of failure the last. Windows know the kind alone, since
//! words are without a bound; a person who probes by hand wants them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use telemetry::FailureKind;

use super::phases::Fault;

/// Shared by all that probe over one wire.
#[derive(Debug, Clone, Default)]
pub struct Why(Arc<Mutex<BTreeMap<FailureKind, String>>>);

impl Why {
    pub fn fault(&self, kind: FailureKind, reason: impl Display) -> Fault {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, reason.to_string());
        Fault::Failure(kind)
    }

    pub fn words(&self) -> BTreeMap<FailureKind, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
