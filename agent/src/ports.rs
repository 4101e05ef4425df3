//! Source ports, taken in turn, and loss by port over some minutes. Of parallel paths a router takes one by the ports of a packet:
//! when one of them is broken, all that goes out from some ports is lost while the rest comes back as ever.

use std::time::Duration;

use runtime::Mono;

use crate::plan::ProbeIndex;
use crate::probe::{WAYS, Way};

/// A tally lasts for one to two of these.
const SPAN: Duration = Duration::from_secs(150);
/// How often losses are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Evidence at which losses of a port are its own, in nats: with sixteen ports to choose from, once in a million looks by chance.
const ITS_OWN: f64 = 16.6;
/// Replies in a row after which a port works again.
const WORKS: u8 = 3;
/// What is told again while it lasts, so often.
const TELL_AGAIN: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Ports {
    probes: Vec<Row>,
    next_look: Mono,
}

#[derive(Debug, Default)]
struct Row {
    turn: u8,
    tallies: Option<Box<Tallies>>,
    told: Option<(f64, Mono)>,
}

#[derive(Debug)]
struct Tallies {
    since: Mono,
    now: [Tally; WAYS as usize],
    before: [Tally; WAYS as usize],
    /// In a row, by port.
    replies: [u8; WAYS as usize],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    sent: u16,
    lost: u16,
}

impl Ports {
    pub fn new(probes: usize, now: Mono) -> Self {
        // Not all from the same port at once.
        let row = |index: usize| Row { turn: (index * 5) as u8 % WAYS, ..Row::default() };
        Self { probes: (0..probes).map(row).collect(), next_look: now + LOOK }
    }

    /// The next one for that probe.
    pub fn take_turn(&mut self, probe: ProbeIndex) -> Way {
        let turn = &mut self.probes[probe.0 as usize].turn;
        *turn = (*turn + 1) % WAYS;
        Way(*turn)
    }

    /// What went out from that port came back, or did not.
    pub fn count(&mut self, probe: ProbeIndex, way: Way, lost: bool, now: Mono) {
        let tallies = self.probes[probe.0 as usize].tallies.get_or_insert_with(|| Box::new(Tallies::new(now)));
        tallies.count(way, lost, now);
    }

    /// The share of each probe's ports that lose, where that is news.
    pub fn news(&mut self, now: Mono) -> Vec<(ProbeIndex, f64)> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + LOOK;
        let news = self.probes.iter_mut().enumerate().filter_map(|(index, row)| {
            let share = row.tallies.as_ref()?.losing();
            let is_news = match row.told {
                Some((told, at)) => (told - share).abs() > f64::EPSILON || (share > 0.0 && now.since(at) >= TELL_AGAIN),
                None => share > 0.0,
            };
            is_news.then(|| {
                row.told = (share > 0.0).then_some((share, now));
                (ProbeIndex(index as u32), share)
            })
        });
        news.collect()
    }
}

impl Tallies {
    fn new(since: Mono) -> Self {
        let none = [Tally::default(); WAYS as usize];
        Self { since, now: none, before: none, replies: [0; WAYS as usize] }
    }

    fn count(&mut self, Way(way): Way, lost: bool, now: Mono) {
        if now.since(self.since) >= SPAN {
            (self.before, self.now, self.since) = (self.now, [Tally::default(); WAYS as usize], now);
        }
        let (tally, replies) = (&mut self.now[usize::from(way)], &mut self.replies[usize::from(way)]);
        tally.sent = tally.sent.saturating_add(1);
        tally.lost = tally.lost.saturating_add(u16::from(lost));
        *replies = if lost { 0 } else { replies.saturating_add(1) };
    }

    /// The share of ports whose losses are their own: most of what they sent, and not explained by what the other ports lose.
    fn losing(&self) -> f64 {
        let sums = self.now.iter().zip(&self.before).zip(&self.replies);
        let (bad, good): (Vec<_>, Vec<_>) = sums
            .map(|((now, before), replies)| (now.sent + before.sent, now.lost + before.lost, *replies))
            .filter(|(sent, ..)| *sent > 0)
            .partition(|(sent, lost, replies)| lost * 2 > *sent && *replies < WORKS);
        // Where every port loses it is the target that does not answer, not a part of the way to it.
        if good.is_empty() {
            return 0.0;
        }
        let used = bad.len() + good.len();
        let (sent, lost) =
            good.iter().fold((0, 0), |(s, l), (sent, lost, _)| (s + u32::from(*sent), l + u32::from(*lost)));
        let elsewhere = f64::from(lost + 1) / f64::from(sent + 2);
        let own = |(sent, lost, _): &&(u16, u16, u8)| surprise(*sent, *lost, elsewhere) >= ITS_OWN;
        bad.iter().filter(own).count() as f64 / used.max(1) as f64
    }
}

/// Chernoff's bound, in nats, on seeing so many losses where each packet is lost with probability `p`.
fn surprise(sent: u16, lost: u16, p: f64) -> f64 {
    let (sent, lost) = (f64::from(sent), f64::from(lost));
    let ratio = lost / sent;
    if ratio <= p {
        return 0.0;
    }
    let part = |seen: f64, usual: f64| if seen > 0.0 { seen * (seen / usual).ln() } else { 0.0 };
    sent * (part(ratio, p) + part(1.0 - ratio, 1.0 - p))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    const PROBE: ProbeIndex = ProbeIndex(0);

    fn second(second: u64) -> Mono {
        Mono(second * 1_000_000_000)
    }

    /// A probe a second; which of them are lost is for `lost` to say. What is told, with its second.
    fn told(seconds: u64, mut lost: impl FnMut(u64, Way) -> bool) -> Vec<(u64, f64)> {
        let mut ports = Ports::new(1, second(0));
        let mut told = Vec::new();
        for now in 0..seconds {
            let way = ports.take_turn(PROBE);
            ports.count(PROBE, way, lost(now, way), second(now));
            told.extend(ports.news(second(now)).into_iter().map(|(_, share)| (now, share)));
        }
        told
    }

    #[test]
    fn each_port_has_its_turn() {
        let mut ports = Ports::new(2, second(0));
        let mut turns: Vec<_> = (0..WAYS).map(|_| ports.take_turn(ProbeIndex(1)).0).collect();
        turns.sort_unstable();
        assert_eq!(turns, (0..WAYS).collect::<Vec<_>>());
    }

    #[test]
    fn one_port_of_sixteen_that_loses_is_found_within_five_minutes_and_told_when_it_works_again() {
        let told = told(1200, |now, way| way == Way(3) && (100..700).contains(&now));
        let (first, share) = told[0];
        assert!((100..400).contains(&first), "{told:?}");
        assert!((share - 1.0 / 16.0).abs() < 1e-9);
        let (last, share) = *told.last().unwrap();
        assert!((700..800).contains(&last) && share == 0.0, "{told:?}");
    }

    #[test]
    fn beside_loss_on_every_port_two_broken_ones_are_still_seen() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let told = told(400, |_, way| way.0 < 2 || random.random_bool(0.02));
        assert!(told.iter().any(|(_, share)| (share - 2.0 / 16.0).abs() < 1e-9), "{told:?}");
    }

    #[test]
    fn a_target_that_is_down_and_a_path_that_loses_at_random_are_not_partial() {
        assert_eq!(told(1000, |now, _| (200..500).contains(&now)), []);
        let mut random = Pcg64Mcg::seed_from_u64(2);
        assert_eq!(told(200_000, |_, _| random.random_bool(0.05)), []);
        assert_eq!(told(50_000, |_, _| random.random_bool(0.3)), []);
    }
}
