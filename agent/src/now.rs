//! One moment on both clocks, read once a tick and passed down.

use runtime::{Clock, Mono, Wall};
use std::time::Duration;

/// Two monotonic readings further apart than this do not pin a wall reading between them.
const APART: Duration = Duration::from_micros(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}

impl Now {
    /// Reads the wall clock between two monotonic readings, and again where the thread was put aside in between.
    pub fn read(clock: &Clock) -> Self {
        let mut before = clock.mono();
        for _ in 0..3 {
            let wall = clock.wall();
            let after = clock.mono();
            if after.since(before) <= APART {
                return Self { mono: after, wall };
            }
            before = after;
        }
        Self { mono: clock.mono(), wall: clock.wall() }
    }

    /// What the wall clock, as it stands now, calls that moment. After the wall clock was set, the same monotonic moment has
    /// another name; so slots follow the wall clock while sends keep their pace.
    pub fn wall_at(self, moment: Mono) -> Wall {
        if moment <= self.mono { self.wall - self.mono.since(moment) } else { self.wall + moment.since(self.mono) }
    }

    /// When the wall clock will show that time, if nobody sets it. `None`: it is past.
    pub fn mono_at(self, wall: Wall) -> Option<Mono> {
        (wall >= self.wall).then(|| self.mono + wall.since(self.wall))
    }

    /// The monotonic moment of a wall time of a moment ago. It is as right as the wall clock was steady since: whether it can be
    /// believed is for the caller to see.
    pub fn mono_of(self, wall: Wall) -> Mono {
        if wall <= self.wall { self.mono - self.wall.since(wall) } else { self.mono + wall.since(self.wall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_named_by_the_wall_clock_as_it_stands_now() {
        let moment = Mono(500);
        let before = Now { mono: Mono(600), wall: Wall(10_600) };
        let after_a_step = Now { mono: Mono(700), wall: Wall(90_700) };
        assert_eq!(before.wall_at(moment), Wall(10_500));
        assert_eq!(after_a_step.wall_at(moment), Wall(90_500));
        assert_eq!(before.wall_at(Mono(650)), Wall(10_650));
        assert_eq!(before.mono_at(Wall(10_900)), Some(Mono(900)));
        assert_eq!(before.mono_at(Wall(10_500)), None);
        assert_eq!(before.mono_of(Wall(10_580)), Mono(580));
        assert_eq!(before.mono_of(Wall(10_601)), Mono(601));
    }
}
