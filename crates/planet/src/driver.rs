//! The thread that owns the reflectors: it takes questions, asks the world what becomes of them, and sends each answer when
//! it is due. It decides nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use protocols::voice::Answer;
use runtime::timer::{Poller, fine_timers};
use runtime::{Mono, Shutdown};
use tracing::warn;

use crate::control::Control;
use crate::counts::Event;
use crate::faults::Fault;
use crate::model::{Source, TargetNo};
use crate::site::{Inbox, Reflector};
use crate::world::{Ask, Fate, World};

/// How soon the end is noticed when nobody asks.
const IDLE: Duration = Duration::from_millis(50);
/// Questions taken from one socket before the others, and the answers that are due, have their turn.
const TURN: usize = 32;

pub fn run(control: &Control, reflectors: &[Reflector], shutdown: &Shutdown) -> io::Result<()> {
    fine_timers()?;
    let mut world = World::new(Arc::clone(&control.planet));
    let mut poller = Poller::new(reflectors.iter().map(AsFd::as_fd));
    let mut inbox = Inbox::default();
    let mut queue = Queue::default();
    while !shutdown.is_cancelled() {
        let wait = queue.next().map_or(IDLE, |due| due.since(control.clock.mono()).min(IDLE));
        let ready = poller.wait(Some(wait))?;
        let faults = control.faults.active();
        for place in ready {
            for _ in 0..TURN {
                let Some(packet) = reflectors[place].receive(&mut inbox, &control.clock)? else { break };
                let source = control.planet.source_at(packet.from.ip());
                let ask = Ask { source, target: TargetNo(place), packet };
                consider(control, &mut world, &mut queue, &ask, &faults);
            }
        }
        while let Some(letter) = queue.pop(control.clock.mono()) {
            post(control, &reflectors[letter.target.0], &letter);
        }
    }
    Ok(())
}

fn consider(control: &Control, world: &mut World, queue: &mut Queue, ask: &Ask<'_>, faults: &[Fault]) {
    match world.decide(ask, faults) {
        Fate::Answered { answer, due } => {
            queue.push(Letter { due, source: ask.source, target: ask.target, to: ask.packet.from, answer });
        }
        Fate::Dropped(reason) => control.counts.add(ask.source, ask.target, Event::Dropped(reason)),
    }
}

fn post(control: &Control, reflector: &Reflector, letter: &Letter) {
    let event = match reflector.send(&letter.answer, letter.to) {
        Ok(()) => Event::Answered(letter.answer.question()),
        Err(error) => {
            warn!(to = %letter.to, %error, "answer not sent");
            Event::Unsent
        }
    };
    control.lateness.record(control.clock.mono().since(letter.due));
    control.counts.add(letter.source, letter.target, event);
}

/// An answer on its way.
#[derive(Debug)]
struct Letter {
    due: Mono,
    source: Source,
    target: TargetNo,
    to: SocketAddr,
    answer: Answer,
}

/// Letters by the time they are due.
#[derive(Debug, Default)]
struct Queue {
    heap: BinaryHeap<Reverse<ByDue>>,
}

#[derive(Debug)]
struct ByDue(Letter);

impl Queue {
    fn push(&mut self, letter: Letter) {
        self.heap.push(Reverse(ByDue(letter)));
    }

    fn next(&self) -> Option<Mono> {
        self.heap.peek().map(|Reverse(ByDue(letter))| letter.due)
    }

    fn pop(&mut self, now: Mono) -> Option<Letter> {
        self.next().filter(|&due| due <= now)?;
        self.heap.pop().map(|Reverse(ByDue(letter))| letter)
    }
}

impl Ord for ByDue {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.due.cmp(&other.0.due)
    }
}

impl PartialOrd for ByDue {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByDue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByDue {}

#[cfg(test)]
mod tests {
    use protocols::voice::{answer, ping_request};

    use super::*;

    #[test]
    fn letters_leave_in_the_order_in_which_they_are_due_and_not_before() {
        let to = "127.0.0.1:1".parse().unwrap();
        let mut queue = Queue::default();
        for due in [30, 10, 20] {
            let answer = answer(&ping_request(1), to).unwrap();
            queue.push(Letter { due: Mono(due), source: Source::Unknown, target: TargetNo(0), to, answer });
        }
        assert_eq!(queue.next(), Some(Mono(10)));
        let left = |queue: &mut Queue, now| {
            std::iter::from_fn(|| queue.pop(Mono(now))).map(|letter| letter.due.0).collect::<Vec<_>>()
        };
        assert!(left(&mut queue, 9).is_empty());
        assert_eq!(left(&mut queue, 20), [10, 20]);
        assert_eq!(left(&mut queue, 99), [30]);
    }
}
