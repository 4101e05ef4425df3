//! Whether one more batch may come in. What was let in and is not folded yet waits; that is bounded by number and by bytes, and
//! whoever is refused is told when to come again.
//!
//! That time is measured: what waits, and what others were told to bring before, by how fast the fold lately took. So those
//! refused are called back one after the other, as a queue would let them in, and not all at once.

mod drain;
mod gate;

use telemetry::Mono;

use drain::Drain;

pub use gate::{Gate, Ticket};

/// How often anyone is told to come again.
const SOONEST: f64 = 1.0;
const LATEST: f64 = 30.0;
/// Of the time that is told, what chance adds at most: callers must not meet whom one answer sent away.
const SPREAD: f64 = 0.25;
/// What a batch costs beside its bytes, so that many small ones weigh something.
const OF_EACH: usize = 1024;
/// By how much one batch moves what is expected of the next.
const LEARNT: f64 = 1.0 / 64.0;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub batches: usize,
    pub bytes: usize,
}

/// There is no room; there may be after so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{batches} batches of {bytes} bytes wait to be taken")]
pub struct Overload {
    pub batches: usize,
    pub bytes: usize,
    pub retry_after_s: u32,
}

#[derive(Debug)]
pub struct Admission {
    room: Room,
    waiting: Room,
    drain: Drain,
    /// What was refused and is on its way back, as far as it is not due yet.
    promised: f64,
    promised_at: Mono,
    /// Bytes that a batch inflates to, for each that came.
    expansion: f64,
}

impl Admission {
    pub fn new(room: Room) -> Self {
        let waiting = Room { batches: 0, bytes: 0 };
        Self { room, waiting, drain: Drain::default(), promised: 0.0, promised_at: Mono(0), expansion: 1.0 }
    }

    pub fn waiting(&self) -> Room {
        self.waiting
    }

    /// Asks for room for a batch of so many bytes on the wire. Answers what it holds until it leaves: itself, and what it is
    /// expected to inflate to. `chance` is from 0 to 1.
    pub fn enter(&mut self, wire: usize, now: Mono, chance: f64) -> Result<usize, Overload> {
        let held = wire + (wire as f64 * self.expansion) as usize;
        let Room { batches, bytes } = self.waiting;
        // A batch that nothing waits before is let in, however large: it would never be otherwise.
        if batches > 0 && (batches >= self.room.batches || bytes + held > self.room.bytes) {
            return Err(self.refuse(held, now, chance));
        }
        if batches == 0 {
            self.drain.begin(now);
        }
        self.waiting = Room { batches: batches + 1, bytes: bytes + held };
        Ok(held)
    }

    /// A batch that is let in turns out to hold so much more or less than was expected; answers what it holds now. Refused, it
    /// has to leave.
    pub fn settle(
        &mut self,
        held: usize,
        wire: usize,
        inflated: usize,
        now: Mono,
        chance: f64,
    ) -> Result<usize, Overload> {
        self.expansion += (inflated as f64 / wire.max(1) as f64 - self.expansion) * LEARNT;
        let bytes = self.waiting.bytes - held + wire + inflated;
        if wire + inflated > held && self.waiting.batches > 1 && bytes > self.room.bytes {
            return Err(self.refuse(wire + inflated, now, chance));
        }
        self.waiting.bytes = bytes;
        Ok(wire + inflated)
    }

    /// It is folded.
    pub fn fold(&mut self, held: usize, now: Mono) {
        self.leave(held);
        self.drain.took(weight(held), now);
    }

    /// It goes without having been folded: it was refused for what it is.
    pub fn leave(&mut self, held: usize) {
        self.waiting = Room { batches: self.waiting.batches - 1, bytes: self.waiting.bytes - held };
    }

    fn refuse(&mut self, held: usize, now: Mono, chance: f64) -> Overload {
        let Room { batches, bytes } = self.waiting;
        let rate = self.drain.rate(now);
        let due = now.since(self.promised_at).as_secs_f64() * rate;
        // Promised further ahead than anyone is told to come is promised for then.
        let most = rate * LATEST;
        self.promised = (self.promised - due).clamp(0.0, most) + weight(held);
        self.promised_at = now;
        let waits = (bytes + batches * OF_EACH) as f64 + self.promised;
        let seconds = if rate > 0.0 { waits / rate } else { LATEST };
        let told = seconds.clamp(0.0, LATEST) * (1.0 + SPREAD * (chance - 0.5) * 2.0);
        Overload { batches, bytes, retry_after_s: told.clamp(SOONEST, LATEST * (1.0 + SPREAD)).ceil() as u32 }
    }
}

fn weight(held: usize) -> f64 {
    (held + OF_EACH) as f64
}

#[cfg(test)]
mod tests;
