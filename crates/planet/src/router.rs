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
    while !shutdown.is_cancelled() {
        let wait = queue.next().map_or(IDLE, |due| due.since(control.clock.mono()).saturating_sub(EARLY).min(IDLE));
        let ready = poller.wait(Some(wait))?;
        let faults = control.faults.active();
        for wire in ready {
            for _ in 0..TURN {
                let Some(length) = wires[wire].receive(&mut bytes)? else { break };
                // What is no way of ours is the kernels' own chatter.
                let Some(flow) = Flow::of(&bytes[..length]) else { continue };
                let Some(way) = ways.find(&flow) else { continue };
                match ways.decide(way, flow, control.clock.mono(), &faults) {
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
