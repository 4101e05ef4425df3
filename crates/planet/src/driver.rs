//! The thread that owns the reflectors and the world: it takes questions and crossings, asks the world what becomes of them,
//! and sends each answer, ends each crossing, when it is due. It decides nothing.

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
use crate::crossing::{Asked, Crossing};
use crate::faults::Fault;
use crate::model::Source;
use crate::queue::Queue;
use crate::site::{Inbox, Reflector};
use crate::world::{Ask, Fate, Passage, World};

/// How soon the end is noticed when nobody asks.
const IDLE: Duration = Duration::from_millis(50);
/// Questions taken from one socket before the others, and the answers that are due, have their turn.
const TURN: usize = 32;

pub fn run(control: &Control, reflectors: &[Reflector], crossings: &Asked, shutdown: &Shutdown) -> io::Result<()> {
    fine_timers()?;
    let mut world = World::new(Arc::clone(&control.planet));
    let mut poller = Poller::new([crossings.as_fd()].into_iter().chain(reflectors.iter().map(AsFd::as_fd)));
    let mut inbox = Inbox::default();
    let mut queue = Queue::default();
    while !shutdown.is_cancelled() {
        let wait = queue.next().map_or(IDLE, |due| due.since(control.clock.mono()).min(IDLE));
        let ready = poller.wait(Some(wait))?;
        let faults = control.faults.active();
        for place in ready {
            let Some(place) = place.checked_sub(1) else {
                crossings.take()?.for_each(|crossing| carry(control, &mut world, &mut queue, crossing, &faults));
                continue;
            };
            for _ in 0..TURN {
                let Some(packet) = reflectors[place].receive(&mut inbox, &control.clock)? else { break };
                let source = control.planet.source_at(packet.from.ip());
                let ask = Ask { source, target: reflectors[place].target, packet };
                consider(control, &mut world, &mut queue, place, &ask, &faults);
            }
        }
        while let Some((due, parcel)) = queue.pop(control.clock.mono()) {
            match parcel {
                Parcel::Letter(letter) => post(control, &reflectors[letter.reflector], due, &letter),
                Parcel::Arrival(crossing) => {
                    control.lateness.record(control.clock.mono().since(due));
                    crossing.arrive();
                }
                Parcel::Retransmission(crossing) => carry(control, &mut world, &mut queue, crossing, &faults),
            }
        }
    }
    Ok(())
}

fn consider(
    control: &Control,
    world: &mut World,
    queue: &mut Queue<Parcel>,
    reflector: usize,
    ask: &Ask<'_>,
    faults: &[Fault],
) {
    match world.decide(ask, faults) {
        Fate::Answered { answer, due } => {
            let letter = Letter { source: ask.source, reflector, to: ask.packet.from, answer };
            queue.push(due, Parcel::Letter(letter));
        }
        Fate::Dropped(reason) => control.counts.add(ask.source, ask.target, Event::Dropped(reason)),
    }
}

fn carry(control: &Control, world: &mut World, queue: &mut Queue<Parcel>, crossing: Crossing, faults: &[Fault]) {
    if !crossing.is_awaited() {
        return;
    }
    let Crossing { source, target, at, work, .. } = crossing;
    match world.pass(source, target, at, faults) {
        Passage::Through(travel) => queue.push(at + travel + work, Parcel::Arrival(crossing)),
        Passage::Stopped(reason) => {
            control.counts.add(source, target, Event::Dropped(reason));
            let again = crossing.lost();
            queue.push(again.at, Parcel::Retransmission(again));
        }
    }
}

fn post(control: &Control, reflector: &Reflector, due: Mono, letter: &Letter) {
    let event = match reflector.send(&letter.answer, letter.to) {
        Ok(()) => Event::Answered(letter.answer.question()),
        Err(error) => {
            warn!(to = %letter.to, %error, "answer not sent");
            Event::Unsent
        }
    };
    control.lateness.record(control.clock.mono().since(due));
    control.counts.add(letter.source, reflector.target, event);
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
