//! The thread that owns the TCP doors: a target that is up accepts, one that is down refuses. A voice server hangs up at once;
//! who comes to a gateway or to a CDN edge is handed to those who serve there.
//!
//! The kernel shakes hands, so no delay, no loss and no fault of a source or a pair is felt here.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use runtime::Shutdown;
use runtime::timer::Poller;
use tokio::sync::mpsc::UnboundedSender;

use crate::control::Control;
use crate::counts::Event;
use crate::faults;
use crate::model::{Service, Source, TargetNo};
use crate::site::Door;

/// Who came through the door of a target that serves.
#[derive(Debug)]
pub struct Arrival {
    pub stream: TcpStream,
    pub from: SocketAddr,
    pub target: TargetNo,
}

/// How soon a door, and who came through it, follows a fault.
const GLANCE: Duration = Duration::from_millis(25);

pub fn run(
    control: &Control,
    doors: &mut [Door],
    arrivals: &UnboundedSender<Arrival>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    while !shutdown.is_cancelled() {
        follow(control, doors)?;
        let open: Vec<&Door> = doors.iter().filter(|door| door.is_open()).collect();
        for place in Poller::new(open.iter().map(|door| door.as_fd())).wait(Some(GLANCE))? {
            let door = open[place];
            while let Some((stream, from)) = door.accept()? {
                match door.service {
                    Service::Voice => {
                        control.counts.add(control.planet.source_at(from.ip()), door.target, Event::Connected);
                    }
                    // Nobody takes them any more when the planet ends.
                    Service::Gateway | Service::Cdn => {
                        arrivals.send(Arrival { stream, from, target: door.target }).ok();
                    }
                }
            }
        }
    }
    Ok(())
}

/// Opens and closes each door as the faults want it now, and tells those who serve which paths are up.
fn follow(control: &Control, doors: &mut [Door]) -> io::Result<()> {
    let (active, now) = (control.faults.active(), control.clock.mono());
    let paths = control.planet.sources().flat_map(|source| control.planet.paths(source));
    let up: Vec<bool> = paths.map(|path| faults::is_up(path, &active, now)).collect();
    // What is down for someone of no region is down for everyone.
    for door in doors {
        door.set_open(up[control.planet.row(Source::Unknown, door.target)])?;
    }
    control.up.send_if_modified(|known| {
        let changed = *known != up;
        *known = up;
        changed
    });
    Ok(())
}
