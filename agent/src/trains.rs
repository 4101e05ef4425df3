//! Trains: packets as a call sends them, one every 20 ms from one port. What a single packet cannot tell: whether they overtake each
//! other, come twice, or come too late; and how unevenly they come.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use runtime::Mono;
use telemetry::{FailureKind, Label, Labels, Outcome, Standing};

use crate::config::TRAIN_APART;
use crate::flights::{End, Ended};
use crate::plan::{Aspect, Errand, Planned, ProbeIndex, TRAIN};
use crate::probe::{Heard, Report, Sample, SendFault, Token, Way};
use crate::schedule::Due;

/// Whose packets they are.
pub const PROBE: &str = "voice";
/// The phase beside that of its packets.
pub const JITTER: &str = "jitter";

#[derive(Debug, Default)]
pub struct Trains {
    under_way: VecDeque<Train>,
}

#[derive(Debug)]
pub struct Train {
    due: Due,
    pub errand: Errand,
    pub timeout: Duration,
    /// Of all its samples.
    labels: Labels,
    pub way: Way,
    length: u16,
    sent: Vec<Packet>,
    /// How many could not be sent.
    missed: u16,
    of_token: HashMap<Token, usize>,
    /// Of the packets that came in time, in the order in which they came.
    round_trips: Vec<Duration>,
    /// The last one, by its place, that came.
    latest: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    at: Mono,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Awaited,
    Back(Duration, Arrival),
    /// After the timeout: that is lost, and yet not the same as silence.
    Late,
    Failed(FailureKind, Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    InOrder,
    Reordered,
    Duplicate,
}

impl Trains {
    pub fn begin(&mut self, due: Due, planned: &Planned, way: Way, length: u16) {
        let train = Train {
            due,
            errand: planned.errand(),
            timeout: planned.timeout,
            labels: planned.subject.series.labels.clone(),
            way,
            length,
            sent: Vec::with_capacity(usize::from(length)),
            missed: 0,
            of_token: HashMap::new(),
            round_trips: Vec::new(),
            latest: None,
        };
        self.under_way.push_back(train);
    }

    /// Sends what is due by `send`, which makes an order of an errand that was due then, and says when it went out. Answers what
    /// could not be sent, and why.
    pub fn send(
        &mut self,
        now: Mono,
        mut send: impl FnMut(&Train, Mono) -> (Token, Result<Mono, SendFault>),
    ) -> Vec<(ProbeIndex, SendFault)> {
        let mut missed = Vec::new();
        for train in &mut self.under_way {
            while let Some(due) = train.next().filter(|due| *due <= now) {
                match send(train, due) {
                    (token, Ok(at)) => {
                        train.of_token.insert(token, train.sent.len());
                        train.sent.push(Packet { at, fate: Fate::Awaited });
                    }
                    (_, Err(fault)) => {
                        train.missed += 1;
                        missed.push((train.due.probe, fault));
                    }
                }
            }
        }
        missed
    }

    /// Whether that was of a train.
    pub fn hear(&mut self, report: &Report) -> bool {
        let token = match report {
            Report::Answer { token, .. } | Report::Failed { token, .. } => *token,
            Report::Phased { .. } | Report::NotSent { .. } | Report::OtherPort { .. } | Report::Malformed => {
                return false;
            }
        };
        let train = self.under_way.iter_mut().find_map(|train| {
            let place = *train.of_token.get(&token)?;
            Some((train, place))
        });
        let Some((train, place)) = train else { return false };
        match report {
            // From elsewhere: it is no answer, and the flights will say so.
            Report::Answer { errand, .. } if *errand != train.errand => return false,
            Report::Answer { heard, outcome: Outcome::Reply, .. } => train.back(place, *heard),
            Report::Answer { outcome: Outcome::Failure(kind), .. } => train.failed(place, *kind, Duration::ZERO),
            Report::Failed { kind, after, .. } => train.failed(place, *kind, *after),
            Report::Phased { .. } | Report::NotSent { .. } | Report::OtherPort { .. } | Report::Malformed => {}
        }
        true
    }

    /// The next train that is over: all of it is back, or as late as it may be.
    pub fn pop(&mut self, now: Mono) -> Option<Ended> {
        let place = self.under_way.iter().position(|train| train.is_over(now))?;
        self.under_way.remove(place).map(Train::ended)
    }

    /// Gives up on one, because we stop: what it has so far is told.
    pub fn abandon(&mut self) -> Option<Ended> {
        self.under_way.pop_front().map(Train::ended)
    }

    pub fn next(&self) -> Option<Mono> {
        self.under_way.iter().map(|train| train.next().unwrap_or_else(|| train.ends())).min()
    }
}

impl Train {
    /// When its next packet is due. `None`: there is none.
    fn next(&self) -> Option<Mono> {
        let begun = self.sent.len() as u32 + u32::from(self.missed);
        (begun < u32::from(self.length)).then(|| self.due.at + TRAIN_APART * begun)
    }

    /// Late answers are waited for as long again as those in time.
    fn ends(&self) -> Mono {
        self.due.at + TRAIN_APART * u32::from(self.length) + self.timeout * 2
    }

    fn is_over(&self, now: Mono) -> bool {
        self.next().is_none() && now >= self.ends()
    }

    fn back(&mut self, place: usize, heard: Heard) {
        let Packet { at, fate } = self.sent[place];
        let took = heard.round_trip(at).map(|trip| trip.time);
        self.sent[place].fate = match (fate, took) {
            (Fate::Back(took, _), _) => Fate::Back(took, Arrival::Duplicate),
            (Fate::Awaited, Some(took)) if took <= self.timeout => {
                self.round_trips.push(took);
                let in_order = self.latest.is_none_or(|latest| latest < place);
                self.latest = self.latest.max(Some(place));
                Fate::Back(took, if in_order { Arrival::InOrder } else { Arrival::Reordered })
            }
            (Fate::Awaited, Some(_)) => Fate::Late,
            (fate, _) => fate,
        };
    }

    fn failed(&mut self, place: usize, kind: FailureKind, after: Duration) {
        if self.sent[place].fate == Fate::Awaited {
            self.sent[place].fate = Fate::Failed(kind, after);
        }
    }

    fn ended(self) -> Ended {
        let timeout = (Outcome::Failure(FailureKind::Timeout), self.timeout);
        let samples = self.sent.iter().map(|packet| {
            let ((outcome, duration), arrival) = match packet.fate {
                Fate::Awaited => (timeout, None),
                Fate::Late => (timeout, Some("late")),
                Fate::Failed(kind, after) => ((Outcome::Failure(kind), after), None),
                Fate::Back(took, Arrival::InOrder) => ((Outcome::Reply, took), None),
                Fate::Back(took, Arrival::Reordered) => ((Outcome::Reply, took), Some("reordered")),
                Fate::Back(took, Arrival::Duplicate) => ((Outcome::Reply, took), Some("duplicate")),
            };
            let label = |word: &str| (Label::Arrival, word.parse().expect("a label"));
            let labels: Labels = self.labels.clone().into_iter().chain(arrival.map(label)).collect();
            Sample { aspect: Aspect { phase: TRAIN, labels }, outcome, duration }
        });
        let jitter = jitter(&self.round_trips).map(|duration| Sample {
            aspect: Aspect { phase: JITTER, labels: self.labels.clone() },
            outcome: Outcome::Reply,
            duration,
        });
        // The jitter first: the last phase says whether a probe got what it went for.
        let samples = jitter.into_iter().chain(samples).collect();
        Ended { due: self.due, way: Some(self.way), standing: Standing::Regular, end: End::Phased(samples, None) }
    }
}

/// RFC 3550's: the differences between one transit time and the next, each smoothed in by a sixteenth. `None`: fewer than two came.
fn jitter(round_trips: &[Duration]) -> Option<Duration> {
    let differences = round_trips.windows(2).map(|pair| pair[0].abs_diff(pair[1]).as_secs_f64());
    let smoothed = differences.fold(0.0, |jitter, difference| jitter + (difference - jitter) / 16.0);
    (round_trips.len() > 1).then(|| Duration::from_secs_f64(smoothed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use runtime::Wall;

    use super::*;
    use crate::config::Config;
    use crate::names::Addresses;
    use crate::plan::Plan;

    fn due() -> Due {
        Due { probe: ProbeIndex(0), at: at(0), wall: Wall(0) }
    }

    /// One voice probe with a timeout of a second.
    fn plan() -> Plan {
        let text = "region = \"fra\"\nagent = \"fra-1\"\ncollector = \"http://127.0.0.1:1\"\n[[target]]\nid = \"iad-1\"\n\
                    service = \"voice\"\nregion = \"iad\"\naddress = \"192.0.2.1:50000\"\n[[target.probe]]\nkind = \"voice\"\n";
        Plan::new(&Config::parse("agent.toml", text.to_owned()).unwrap(), &Addresses::new())
    }

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    fn errand() -> Errand {
        Errand::VoicePing("192.0.2.1:50000".parse().unwrap())
    }

    fn answer(token: u32, errand: Errand, millis: u64) -> Report {
        let heard = Heard::ByPacer { at: at(millis), kernel: None };
        Report::Answer { token: Token(token), errand, outcome: Outcome::Reply, heard }
    }

    /// A train of so many packets, the tokens from 0; answered at these moments, in this order.
    fn run(length: u16, answers: &[(u32, u64)]) -> Vec<Sample> {
        let mut trains = Trains::default();
        trains.begin(due(), plan().get(ProbeIndex(0)), Way(5), length);
        let mut tokens = 0;
        for now in (0..u64::from(length) * 20).step_by(5) {
            assert_eq!(
                trains.send(at(now), |train, _| {
                    assert_eq!(train.way, Way(5), "one port");
                    tokens += 1;
                    (Token(tokens - 1), Ok(at(now)))
                }),
                []
            );
        }
        assert_eq!(tokens, u32::from(length));
        for (token, millis) in answers {
            assert!(trains.hear(&answer(*token, errand(), *millis)));
        }
        assert_eq!(trains.pop(at(2000)), None, "late ones may come");
        let Some(Ended { end: End::Phased(samples, None), .. }) = trains.pop(at(10_000)) else { panic!("it is over") };
        samples
    }

    /// How many samples there are by phase, outcome and arrival.
    fn counts(samples: &[Sample]) -> BTreeMap<(&'static str, bool, String), usize> {
        let mut counts = BTreeMap::new();
        for Sample { aspect, outcome, .. } in samples {
            let arrival = aspect.labels.get(&Label::Arrival).map(ToString::to_string).unwrap_or_default();
            *counts.entry((aspect.phase, *outcome == Outcome::Reply, arrival)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn each_packet_is_told_once_with_how_it_came_back() {
        // The second overtakes the first, the third comes twice, the fourth is late, the fifth never comes.
        let samples = run(5, &[(1, 60), (0, 61), (2, 80), (2, 85), (3, 1500)]);
        let count = |phase, reply, arrival: &str, count| ((phase, reply, arrival.to_owned()), count);
        let expected = [
            count(JITTER, true, "", 1),
            count(TRAIN, true, "", 1),
            count(TRAIN, true, "reordered", 1),
            count(TRAIN, true, "duplicate", 1),
            count(TRAIN, false, "late", 1),
            count(TRAIN, false, "", 1),
        ];
        assert_eq!(counts(&samples), BTreeMap::from(expected));
    }

    #[test]
    fn an_even_train_has_no_jitter_and_an_uneven_one_that_of_the_rfc() {
        let of = |samples: &[Sample]| samples.iter().find(|it| it.aspect.phase == JITTER).map(|it| it.duration);
        let even: Vec<_> = (0..50).map(|place| (place, u64::from(place) * 20 + 30)).collect();
        assert_eq!(of(&run(50, &even)), Some(Duration::ZERO));
        let uneven: Vec<_> =
            (0..50).map(|place| (place, u64::from(place) * 20 + 30 + u64::from(place % 2) * 8)).collect();
        // 8 ms times one less 15/16 to the 49th.
        let jitter = of(&run(50, &uneven)).unwrap().as_secs_f64() * 1e3;
        assert!((jitter - 8.0 * (1.0 - (15.0_f64 / 16.0).powi(49))).abs() < 1e-6, "{jitter}");
        assert_eq!(of(&run(3, &[(1, 50)])), None);
    }

    #[test]
    fn an_answer_from_elsewhere_is_not_the_trains() {
        let mut trains = Trains::default();
        trains.begin(due(), plan().get(ProbeIndex(0)), Way(0), 1);
        assert_eq!(trains.send(at(0), |_, _| (Token(0), Ok(at(0)))), []);
        let elsewhere = Errand::VoicePing("192.0.2.9:50000".parse().unwrap());
        assert!(!trains.hear(&answer(0, elsewhere, 30)));
        assert!(!trains.hear(&answer(1, errand(), 30)));
        assert!(trains.hear(&answer(0, errand(), 30)));
    }

    #[test]
    fn what_could_not_be_sent_is_missed_and_in_no_sample() {
        let mut trains = Trains::default();
        trains.begin(due(), plan().get(ProbeIndex(0)), Way(0), 2);
        let missed = trains.send(at(20), |_, _| (Token(0), Err(SendFault::Busy)));
        assert_eq!(missed, [(ProbeIndex(0), SendFault::Busy); 2]);
        let Some(Ended { end: End::Phased(samples, _), .. }) = trains.pop(at(5000)) else { panic!("it is over") };
        assert_eq!(samples, []);
    }
}
