//! Who came to a target, from where, and what that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime::Mono;

use crate::control::Control;
use crate::counts::Event;
use crate::crossing::Crossings;
use crate::faults;
use crate::model::{Mode, Path, Source, TargetNo};

/// One connection.
#[derive(Debug)]
pub struct Visit {
    control: Arc<Control>,
    crossings: Crossings,
    source: Source,
    target: TargetNo,
    asked: AtomicBool,
}

impl Visit {
    pub fn new(control: Arc<Control>, crossings: Crossings, source: Source, target: TargetNo) -> Self {
        Self { control, crossings, source, target, asked: AtomicBool::new(false) }
    }

    /// Ends when what was said just now has had its way to the target and back; behind a router it has had that already.
    pub fn round_trip(&self) -> impl Future<Output = ()> + use<> {
        self.round_trip_and(Duration::ZERO)
    }

    /// As [`Self::round_trip`], to a target that takes its time.
    pub fn round_trip_and(&self, work: Duration) -> impl Future<Output = ()> + use<> {
        let delays = self.control.planet.mode() == Mode::Loopback || !work.is_zero();
        let crossing = delays.then(|| self.crossings.make(self.source, self.target, self.now(), work));
        async move {
            if let Some(crossing) = crossing {
                crossing.await;
            }
        }
    }

    /// Ends when a fault takes the path down.
    pub async fn cut(&self) {
        let row = self.control.planet.row(self.source, self.target);
        self.control.up.subscribe().wait_for(|up| !up[row]).await.map(drop).ok();
    }

    /// Whether this is the first request on its connection.
    pub fn is_first(&self) -> bool {
        !self.asked.swap(true, Ordering::Relaxed)
    }

    pub fn is_cold(&self) -> bool {
        faults::is_cold(self.path(), &self.control.faults.active(), self.now())
    }

    pub fn count(&self, event: Event) {
        self.control.counts.add(self.source, self.target, event);
    }

    pub fn path(&self) -> Path<'_> {
        self.control.planet.path(self.source, self.target)
    }

    pub fn region_name(&self) -> &str {
        self.control.planet.region(self.path().target.region).name.as_str()
    }

    pub fn origin(&self) -> Duration {
        Duration::from_secs_f64(self.control.planet.origin_ms(self.path().target) / 1e3)
    }

    pub fn now(&self) -> Mono {
        self.control.clock.mono()
    }
}
