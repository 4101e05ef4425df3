//! The one door to what waits, shared by all who carry batches. Its clock and its chance are here; the decisions are not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::Clock;

use super::{Admission, Overload, Room};

#[derive(Debug, Clone)]
pub struct Gate {
    admission: Arc<Mutex<Admission>>,
    clock: Clock,
}

/// The right to wait, until it is dropped. It goes with its batch from the door to the fold.
#[derive(Debug)]
pub struct Ticket {
    gate: Gate,
    wire: usize,
    held: usize,
    folded: bool,
}

impl Gate {
    pub fn new(room: Room, clock: Clock) -> Self {
        Self { admission: Arc::new(Admission::new(room).into()), clock }
    }

    /// For a batch of so many bytes on the wire.
    pub fn enter(&self, wire: usize) -> Result<Ticket, Overload> {
        let held = self.lock().enter(wire, self.clock.mono(), rand::random())?;
        Ok(Ticket { gate: self.clone(), wire, held, folded: false })
    }

    pub fn waiting(&self) -> Room {
        self.lock().waiting()
    }

    fn lock(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// What the batch holds now that it is open.
    pub fn settle(&mut self, inflated: usize) -> Result<(), Overload> {
        let Self { gate, wire, held, .. } = self;
        *held = gate.lock().settle(*held, *wire, inflated, gate.clock.mono(), rand::random())?;
        Ok(())
    }

    /// The batch is folded: so fast do batches leave.
    pub fn fold(mut self) {
        self.folded = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut admission = self.gate.lock();
        if self.folded {
            admission.fold(self.held, self.gate.clock.mono());
        } else {
            admission.leave(self.held);
        }
    }
}
