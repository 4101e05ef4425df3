//! The thread that routes: a packet comes in, its way and its fate are found, it waits for its time, and goes out. It decides
//! nothing.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use runtime::timer::{Poller, fine_timers};
use tracing::warn;

use crate::control::Control;
use crate::counts::Event;
use crate::network::{Routed, Wire};
use crate::packet::Flow;
use crate::queue::Queue;
use crate::ways::{Behind, Direction, Fate, Mischief, Way, Ways};
use crate::world::Reason;

/// How soon the end is noticed when nothing comes.
const IDLE: Duration = Duration::from_millis(50);
/// How long before its time it is awake for a packet: a wait overruns by less, and no packet should leave late by it.
const EARLY: Duration = Duration::from_micros(80);
/// Packets taken from one wire before the others, and what is due, have their turn.
const TURN: usize = 32;
/// Longer than any packet of a TUN device's.
const LONGEST: usize = 2048;

#[derive(Debug)]
struct Packet {
    wire: usize,
    bytes: Box<[u8]>,
}

pub fn run(control: &Control, routed: &Routed, mischief: Mischief, shutdown: &Shutdown) -> io::Result<()> {
    fine_timers()?;
    let wires = &routed.wires;
    let mut ways = Ways::new(Arc::clone(&control.planet), mischief);
    let mut queue = Queue::default();
    let mut poller = Poller::new(wires.iter().map(Wire::as_fd));
    let mut bytes = [0; LONGEST];
    let mut waking = Waking::default();
    while !shutdown.is_cancelled() {
        let asleep = control.clock.mono();
        let wait = queue.next().map_or(IDLE, |due| due.since(asleep).saturating_sub(EARLY).min(IDLE));
        let mut ready = poller.wait(Some(wait))?.peekable();
        if ready.peek().is_none() {
            waking.learn(control.clock.mono().since(asleep + wait));
        }
        let unnoticed = if wait.is_zero() { Duration::ZERO } else { waking.0 };
        let faults = control.faults.active();
        for wire in ready {
            for _ in 0..TURN {
                let Some(length) = wires[wire].receive(&mut bytes)? else { break };
                // What is no way of ours is the kernels' own chatter.
                let Some(flow) = Flow::of(&bytes[..length]) else { continue };
                let Some(way) = ways.find(&flow) else { continue };
                match ways.decide(way, flow, control.clock.mono() - unnoticed, &faults) {
                    Fate::Passed { due, copies } => {
                        let packet = || Packet { wire: exit(way), bytes: bytes[..length].into() };
                        (0..copies).for_each(|_| queue.push(due, packet()));
                    }
                    Fate::Down => count(control, way, Reason::Down),
                    Fate::Lost => count(control, way, Reason::Lost),
                }
            }
        }
        while let Some((due, packet)) = queue.pop(control.clock.mono()) {
            control.lateness.record(control.clock.mono().since(due));
            if let Err(error) = wires[packet.wire].send(&packet.bytes) {
                warn!(wire = packet.wire, %error, "packet not sent");
            }
        }
    }
    Ok(())
}

/// How long it takes to wake up, lately: so long a packet that wakes us has been there. Learnt from waits that end by the clock, for
/// which alone it is known.
#[derive(Debug, Default)]
struct Waking(Duration);

impl Waking {
    /// More than that is a stall, and tells nothing of the next time.
    const LONGEST: Duration = Duration::from_micros(100);

    fn learn(&mut self, late: Duration) {
        self.0 = (self.0 * 15 + late.min(Self::LONGEST)) / 16;
    }
}

/// The wire over which it leaves.
fn exit(way: Way) -> usize {
    match way.direction {
        Direction::There => 0,
        Direction::Back => 1 + way.region.0,
    }
}

fn count(control: &Control, way: Way, reason: Reason) {
    if let Behind::Target(target) = way.behind {
        control.counts.add(way.region.into(), target, Event::Dropped(reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waking_takes_as_long_as_lately_and_a_stall_teaches_little() {
        let mut waking = Waking::default();
        (0..200).for_each(|_| waking.learn(Duration::from_micros(40)));
        let near = |micros: u64, waking: &Waking| waking.0.abs_diff(Duration::from_micros(micros)).as_nanos() < 1000;
        assert!(near(40, &waking), "{waking:?}");
        waking.learn(Duration::from_secs(1));
        assert!(near(44, &waking), "{waking:?}");
        (0..200).for_each(|_| waking.learn(Duration::from_micros(10)));
        assert!(near(10, &waking), "{waking:?}");
    }
}
