//! Batches that the collector has not taken yet. A batch gets its sequence and its bytes once, when it is offered; what is
//! sent again is the same bytes under the same sequence, so that it is counted once.
//!
//! Bounded: the oldest go first, since a window of an hour ago helps nobody who decides now. In memory for the time being.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use telemetry::Sequence;
use tokio::sync::Notify;

pub const BOUND: usize = 64 << 20;

/// Where batches are kept. Its in-memory form is the twin of the one on disk.
pub trait Spool: Send {
    /// Keeps a batch under the next sequence, and says how many others had to go for it.
    fn offer(&mut self, body: Bytes) -> u64;

    /// `None`: nothing waits.
    fn oldest(&self) -> Option<Batch>;

    /// The collector took or refused it: it is not needed again.
    fn forget(&mut self, sequence: Sequence);

    fn depth(&self) -> Depth;
}

/// As it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub sequence: Sequence,
    pub body: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    pub batches: u64,
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Memory {
    bound: usize,
    last: u64,
    bytes: usize,
    waiting: VecDeque<Batch>,
}

impl Memory {
    pub fn new(bound: usize) -> Self {
        Self { bound, last: 0, bytes: 0, waiting: VecDeque::new() }
    }
}

impl Spool for Memory {
    fn offer(&mut self, body: Bytes) -> u64 {
        self.last += 1;
        self.bytes += body.len();
        self.waiting.push_back(Batch { sequence: Sequence(self.last), body });
        let mut dropped = 0;
        // The newest stays, however large: it is what is true now.
        while self.bytes > self.bound && self.waiting.len() > 1 {
            self.bytes -= self.waiting.pop_front().map_or(0, |oldest| oldest.body.len());
            dropped += 1;
        }
        dropped
    }

    fn oldest(&self) -> Option<Batch> {
        self.waiting.front().cloned()
    }

    fn forget(&mut self, sequence: Sequence) {
        let place = self.waiting.iter().position(|batch| batch.sequence == sequence);
        self.bytes -= place.and_then(|place| self.waiting.remove(place)).map_or(0, |batch| batch.body.len());
    }

    fn depth(&self) -> Depth {
        Depth { batches: self.waiting.len() as u64, bytes: self.bytes as u64 }
    }
}

/// One spool between the thread that fills it and the task that empties it.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    news: Notify,
}

struct State {
    spool: Box<dyn Spool>,
    closed: bool,
}

impl Shared {
    pub fn new(spool: impl Spool + 'static) -> Self {
        let state = State { spool: Box::new(spool), closed: false };
        Self(Arc::new(Inner { state: Mutex::new(state), news: Notify::new() }))
    }

    pub fn offer(&self, body: Bytes) -> u64 {
        let dropped = self.state().spool.offer(body);
        self.0.news.notify_one();
        dropped
    }

    /// Nothing more will be offered.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.news.notify_one();
    }

    /// Waits for a batch. `None`: there is none and there will be none.
    pub async fn oldest(&self) -> Option<Batch> {
        loop {
            {
                let state = self.state();
                let oldest = state.spool.oldest();
                if oldest.is_some() || state.closed {
                    return oldest;
                }
            }
            self.0.news.notified().await;
        }
    }

    pub fn forget(&self, sequence: Sequence) {
        self.state().spool.forget(sequence);
    }

    pub fn depth(&self) -> Depth {
        self.state().spool.depth()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Offer(usize),
        Forget(u64),
        TakeOldest,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..40_usize).prop_map(Step::Offer),
            1 => (0..40_u64).prop_map(Step::Forget),
            2 => Just(Step::TakeOldest),
        ];
        vec(step, 1..100)
    }

    proptest! {
        #[test]
        fn a_spool_is_a_queue_that_drops_its_oldest_and_never_reuses_a_sequence(steps in steps()) {
            const BOUND: usize = 100;
            let mut spool = Memory::new(BOUND);
            let (mut model, mut last, mut dropped) = (BTreeMap::new(), 0, 0);
            for step in steps {
                match step {
                    Step::Offer(length) => {
                        last += 1;
                        let body = Bytes::from(vec![last as u8; length]);
                        dropped += spool.offer(body.clone());
                        model.insert(last, body);
                        while model.values().map(Bytes::len).sum::<usize>() > BOUND {
                            model.pop_first();
                            dropped -= 1;
                        }
                    }
                    Step::Forget(sequence) => {
                        spool.forget(Sequence(sequence));
                        model.remove(&sequence);
                    }
                    Step::TakeOldest => {
                        let oldest = spool.oldest();
                        let expected = model.pop_first().map(|(number, body)| Batch { sequence: Sequence(number), body });
                        prop_assert_eq!(&oldest, &expected);
                        if let Some(batch) = oldest {
                            spool.forget(batch.sequence);
                        }
                    }
                }
                let bytes = model.values().map(|body| body.len() as u64).sum();
                prop_assert_eq!(spool.depth(), Depth { batches: model.len() as u64, bytes });
                prop_assert_eq!(dropped, 0, "drops are told as they happen");
            }
        }
    }

    #[test]
    fn one_batch_above_the_bound_is_kept_all_the_same() {
        let mut spool = Memory::new(10);
        assert_eq!(spool.offer(Bytes::from_static(b"small")), 0);
        assert_eq!(spool.offer(Bytes::from_static(b"larger than ten")), 1);
        assert_eq!(spool.oldest().unwrap().sequence, Sequence(2));
    }

    #[tokio::test]
    async fn a_waiting_reader_is_told_of_a_batch_and_of_the_end() {
        let spool = Shared::new(Memory::new(BOUND));
        let (batch, dropped) = tokio::join!(spool.oldest(), async { spool.offer(Bytes::from_static(b"one")) });
        assert_eq!((batch.unwrap().sequence, dropped), (Sequence(1), 0));
        spool.forget(Sequence(1));
        let (end, ()) = tokio::join!(spool.oldest(), async { spool.close() });
        assert_eq!(end, None);
    }
}
