//! The thread that owns the TCP doors: a target that is up accepts and hangs up, one that is down refuses.
//!
//! The kernel shakes hands, so no delay, no loss and no fault of a source or a pair is felt here.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use runtime::Shutdown;
use runtime::timer::Poller;

use crate::control::Control;
use crate::counts::Event;
use crate::faults;
use crate::model::{Source, TargetNo};
use crate::site::Door;

/// How soon a door follows a fault.
const GLANCE: Duration = Duration::from_millis(25);

pub fn run(control: &Control, doors: &mut [Door], shutdown: &Shutdown) -> io::Result<()> {
    while !shutdown.is_cancelled() {
        follow(control, doors)?;
        let open: Vec<(TargetNo, &Door)> = open(doors).collect();
        for place in Poller::new(open.iter().map(|(_, door)| door.as_fd())).wait(Some(GLANCE))? {
            let (target, door) = open[place];
            while let Some((_, from)) = door.accept()? {
                control.counts.add(control.planet.source_at(from.ip()), target, Event::Connected);
            }
        }
    }
    Ok(())
}

/// Opens and closes each door as the faults want it now.
pub fn follow(control: &Control, doors: &mut [Door]) -> io::Result<()> {
    let (active, now) = (control.faults.active(), control.clock.mono());
    // What is down for someone of no region is down for everyone.
    let paths = control.planet.paths(Source::Unknown);
    doors.iter_mut().zip(paths).try_for_each(|(door, path)| door.set_open(faults::is_up(path, &active, now)))
}

fn open(doors: &[Door]) -> impl Iterator<Item = (TargetNo, &Door)> {
    doors.iter().enumerate().filter(|(_, door)| door.is_open()).map(|(place, door)| (TargetNo(place), door))
}
