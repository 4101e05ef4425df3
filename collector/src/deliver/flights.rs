//! What is on its way to one receiver: at most a few, and one of a lane, until the fold has seen what became of it.

use std::collections::BTreeMap;

use telemetry::{ReceiverName, Wall};

use crate::alerts::{Lane, Outbox, Row, alertmanager};
use crate::entry::RowId;

const AT_ONCE: usize = 4;

/// One attempt of a row, ready to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) row: RowId,
    pub(super) attempt: u32,
    /// The `webhook-id`.
    pub(super) id: String,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    lanes: BTreeMap<Lane, Flight>,
}

#[derive(Debug)]
struct Flight {
    row: RowId,
    attempt: u32,
    /// Its answer is in the log, and the fold will see it.
    landed: bool,
}

impl Flights {
    /// Takes from the outbox what may leave now.
    pub(super) fn begin(&mut self, outbox: &Outbox, receiver: &ReceiverName, now: Wall, epoch: Wall) -> Vec<Letter> {
        let seen = |row: Option<&Row>, attempt| row.is_none_or(|row| row.attempts >= attempt);
        self.lanes.retain(|_, flight| !(flight.landed && seen(outbox.waiting(flight.row), flight.attempt)));
        let mut letters = Vec::new();
        for row in outbox.due(receiver, now) {
            if self.lanes.len() >= AT_ONCE {
                break;
            }
            if self.lanes.contains_key(&row.lane()) {
                continue;
            }
            let attempt = row.attempts + 1;
            match alertmanager::body(receiver.as_str(), &row.notice) {
                Ok(body) => letters.push(Letter { row: row.id, attempt, id: row.id.name(epoch), body }),
                Err(error) => {
                    tracing::error!(%error, "alert not rendered");
                    continue;
                }
            }
            self.lanes.insert(row.lane(), Flight { row: row.id, attempt, landed: false });
        }
        letters
    }

    pub(super) fn landed(&mut self, row: RowId) {
        for flight in self.lanes.values_mut().filter(|flight| flight.row == row) {
            flight.landed = true;
        }
    }
}
