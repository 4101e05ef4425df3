//! The thread that owns the reflectors and the world: it takes questions and crossings, asks the world what becomes of them,
//! and sends each answer, ends each crossing, when it is due. It decides nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use protocols::voice::Answer;
use runtime::datagram::Inbox;
use runtime::timer::{Poller, fine_timers};
use runtime::{Mono, Shutdown};
use tracing::warn;

use crate::control::Control;
use crate::counts::Event;
use crate::crossing::{Asked, Crossing};
use crate::faults::Fault;
use crate::model::Source;
use crate::queue::Queue;
use crate::site::Reflector;
use crate::world::{Ask, Fate, Packet, Passage, World};

/// How soon the end is noticed when nobody asks.
const IDLE: Duration = Duration::from_millis(50);
/// Questions taken from one socket before the others, and the answers that are due, have their turn.
const TURN: usize = 32;

pub fn run(control: &Control, reflectors: &[Reflector], crossings: &Asked, shutdown: &Shutdown) -> io::Result<()> {
    fine_timers()?;
    let world = World::new(Arc::clone(&control.planet));
    let mut office = Office { control, reflectors, world, queue: Queue::default() };
    let mut poller = Poller::new([crossings.as_fd()].into_iter().chain(reflectors.iter().map(AsFd::as_fd)));
    let mut inbox = Inbox::default();
    while !shutdown.is_cancelled() {
        let wait = office.queue.next().map_or(IDLE, |due| due.since(control.clock.mono()).min(IDLE));
        let ready = poller.wait(Some(wait))?;
        let faults = control.faults.active();
        for place in ready {
            let Some(reflector) = place.checked_sub(1) else {
                crossings.take()?.for_each(|crossing| office.carry(crossing, &faults));
                continue;
            };
            for _ in 0..TURN {
                let Some(packet) = reflectors[reflector].receive(&mut inbox, &control.clock)? else { break };
                office.consider(reflector, packet, &faults);
            }
        }
        while let Some((due, parcel)) = office.queue.pop(control.clock.mono()) {
            office.deliver(due, parcel, &faults);
        }
    }
    Ok(())
}

struct Office<'a> {
    control: &'a Control,
    reflectors: &'a [Reflector],
    world: World,
    queue: Queue<Parcel>,
}

/// What waits for its time.
#[derive(Debug)]
enum Parcel {
    Letter(Letter),
    Arrival(Crossing),
    /// It was lost, and is sent again.
    Retransmission(Crossing),
}

/// An answer on its way.
#[derive(Debug)]
struct Letter {
    source: Source,
    /// Its place among them.
    reflector: usize,
    to: SocketAddr,
    answer: Answer,
}

impl Office<'_> {
    fn consider(&mut self, reflector: usize, packet: Packet<'_>, faults: &[Fault]) {
        let source = self.control.planet.source_at(packet.from.ip());
        let target = self.reflectors[reflector].target;
        match self.world.decide(&Ask { source, target, packet }, faults) {
            Fate::Answered { answer, due } => {
                self.queue.push(due, Parcel::Letter(Letter { source, reflector, to: packet.from, answer }));
            }
            Fate::Dropped(reason) => self.control.counts.add(source, target, Event::Dropped(reason)),
        }
    }

    fn carry(&mut self, crossing: Crossing, faults: &[Fault]) {
        if !crossing.is_awaited() {
            return;
        }
        let Crossing { source, target, at, work, .. } = crossing;
        match self.world.pass(source, target, at, faults) {
            Passage::Through(travel) => self.queue.push(at + travel + work, Parcel::Arrival(crossing)),
            Passage::Stopped(reason) => {
                self.control.counts.add(source, target, Event::Dropped(reason));
                let again = crossing.lost();
                self.queue.push(again.at, Parcel::Retransmission(again));
            }
        }
    }

    fn deliver(&mut self, due: Mono, parcel: Parcel, faults: &[Fault]) {
        match parcel {
            Parcel::Letter(letter) => self.post(&letter),
            Parcel::Arrival(crossing) => crossing.arrive(),
            Parcel::Retransmission(crossing) => return self.carry(crossing, faults),
        }
        self.control.lateness.record(self.control.clock.mono().since(due));
    }

    fn post(&self, letter: &Letter) {
        let reflector = &self.reflectors[letter.reflector];
        let event = match reflector.send(&letter.answer, letter.to) {
            Ok(()) => Event::Answered(letter.answer.question()),
            Err(error) => {
                warn!(to = %letter.to, %error, "answer not sent");
                Event::Unsent
            }
        };
        self.control.counts.add(letter.source, reflector.target, event);
    }
}
