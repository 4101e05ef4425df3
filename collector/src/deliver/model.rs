//! Alerts, their outbox and what carries them, against what receivers remember: whatever is answered, restarts or changes its
//! mind.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use telemetry::emodel::Codec;
use telemetry::{ReceiverName, RegionName, ServiceName, Wall};

use super::flights::{Flights, Letter};
use crate::alerts::{AlertId, Alerts, Lane, Outcome, RowState, Severity, Why};
use crate::entry::{Answer, Attempt, Fault, RowId};
use crate::policy::{HealthPolicy, HintPolicy, Policy, Receiver, Target};
use crate::regions::{Health, RegionHealth};

const EPOCH: Wall = Wall::from_secs(1_800_000_000);
const REGIONS: [&str; 2] = ["fra", "iad"];
const RECEIVERS: [&str; 2] = ["oncall", "archive"];

#[derive(Debug, Clone)]
enum Step {
    Health(usize, Health),
    Configured(usize, bool),
    Receives(usize, bool),
    Pass(u64),
    /// Everything that may go out goes out.
    Send,
    /// One of what is on its way is answered, and the log has it.
    Answered(usize, Answer),
    /// The fold sees the next answer.
    Folded,
    /// What is on its way is forgotten; whether it arrived is not known. What is in the log is folded.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let health = prop::sample::select(vec![Health::Healthy, Health::Degraded, Health::Down, Health::Unknown]);
    prop_oneof![
        4 => (0..REGIONS.len(), health).prop_map(|(region, health)| Step::Health(region, health)),
        1 => (0..REGIONS.len(), any::<bool>()).prop_map(|(region, there)| Step::Configured(region, there)),
        1 => (0..RECEIVERS.len(), any::<bool>()).prop_map(|(receiver, there)| Step::Receives(receiver, there)),
        4 => (1_u64..10).prop_map(Step::Pass),
        6 => Just(Step::Send),
        6 => (any::<usize>(), answer()).prop_map(|(which, answer)| Step::Answered(which, answer)),
        6 => Just(Step::Folded),
        1 => Just(Step::Restart),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let wait = prop::option::weighted(0.2, (0_u64..100).prop_map(Duration::from_secs));
    let status = |code: u16| wait.clone().prop_map(move |retry_after| Answer::Status { code, retry_after });
    prop_oneof![
        4 => status(200),
        2 => status(500),
        1 => status(429),
        1 => status(404),
        1 => Just(Answer::Timeout),
        1 => Just(Answer::Connection(Fault::Connect)),
    ]
}

/// The fold, what carries to each receiver, and what each was sent.
struct World {
    alerts: Alerts,
    now: Wall,
    health: [RegionHealth; 2],
    policy: Policy,
    flights: BTreeMap<ReceiverName, Flights>,
    air: Vec<(Lane, Letter)>,
    /// Durable, and not folded yet.
    log: VecDeque<Attempt>,
    /// By `webhook-id`: the body. One id never has two.
    bodies: BTreeMap<String, Vec<u8>>,
    /// What each lane was sent, in order: of which row, about which alert, its severity, and whether it says the end.
    sent: BTreeMap<Lane, Vec<Sent>>,
    /// The last row that was written before a receiver was removed.
    removed: BTreeMap<ReceiverName, RowId>,
}

type Sent = (RowId, AlertId, Severity, bool);

impl World {
    fn new() -> Self {
        let health = RegionHealth { health: Health::Healthy, since: EPOCH, eligible: 4, bad: 0, down: 0 };
        let policy = Policy {
            window: telemetry::window::DEFAULT_WIDTH,
            regions: BTreeMap::new(),
            services: BTreeMap::new(),
            targets: BTreeMap::new(),
            health: HealthPolicy::default(),
            hints: HintPolicy::default(),
            codec: Codec::default(),
            bounds: crate::policy::Bounds::default(),
            receivers: BTreeMap::new(),
        };
        let mut world = Self {
            alerts: Alerts::default(),
            now: EPOCH,
            health: [health.clone(), health],
            policy,
            flights: BTreeMap::new(),
            air: Vec::new(),
            log: VecDeque::new(),
            bodies: BTreeMap::new(),
            sent: BTreeMap::new(),
            removed: BTreeMap::new(),
        };
        for index in 0..2 {
            world.take(&Step::Configured(index, true));
            world.take(&Step::Receives(index, true));
        }
        world
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Health(region, health) => {
                let stands = &mut self.health[*region];
                if stands.health != *health {
                    *stands = RegionHealth { health: *health, since: self.now, ..stands.clone() };
                }
            }
            Step::Configured(region, there) => {
                let id = format!("{}-voice-1", REGIONS[*region]).parse().unwrap();
                let region = REGIONS[*region].parse().unwrap();
                if *there {
                    let target = Target { service: service(), region, advertise: Vec::new() };
                    self.policy.targets.insert(id, target);
                } else {
                    self.policy.targets.remove(&id);
                }
                self.alerts.adopt(&self.policy);
            }
            Step::Receives(receiver, there) => {
                self.restart();
                let name: ReceiverName = RECEIVERS[*receiver].parse().unwrap();
                if *there {
                    self.policy.receivers.insert(name, Receiver { endpoint: 1 });
                } else {
                    self.policy.receivers.remove(&name);
                    // It is another one if it comes back.
                    self.sent.retain(|lane, _| lane.receiver != name);
                    self.removed.insert(name, RowId(self.alerts.outbox.written()));
                }
                self.alerts.adopt(&self.policy);
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(*seconds),
            Step::Send => self.send(),
            Step::Answered(which, answer) => self.answered(*which, *answer),
            Step::Folded => self.fold(),
            Step::Restart => self.restart(),
        }
        self.judge();
    }

    fn judge(&mut self) {
        let (service, regions) = (service(), REGIONS.map(|name| name.parse::<RegionName>().unwrap()));
        let judged = regions.iter().zip(&self.health).map(|(region, health)| (&service, region, health));
        self.alerts.judge(judged, &self.policy, self.now);
    }

    fn send(&mut self) {
        for receiver in self.policy.receivers.keys() {
            let flights = self.flights.entry(receiver.clone()).or_default();
            for letter in flights.begin(&self.alerts.outbox, receiver, self.now, EPOCH) {
                let row = self.alerts.outbox.waiting(letter.row).unwrap();
                let lane = row.lane();
                assert!(self.air.iter().all(|(busy, _)| *busy != lane), "two of one lane are on their way");
                assert!(self.log.iter().all(|attempt| attempt.row != row.id), "the fold has not seen its last answer");
                let before = self.bodies.insert(letter.id.clone(), letter.body.clone());
                assert!(before.is_none_or(|before| before == letter.body), "one id, two bodies");
                let sent = (row.id, row.alert, row.notice.severity, row.notice.ended.is_some());
                self.sent.entry(lane.clone()).or_default().push(sent);
                self.air.push((lane, letter));
            }
        }
    }

    fn answered(&mut self, which: usize, answer: Answer) {
        if self.air.is_empty() {
            return;
        }
        let (lane, letter) = self.air.swap_remove(which % self.air.len());
        let attempt = Attempt { row: letter.row, number: letter.attempt, at: self.now, answer };
        self.flights.get_mut(&lane.receiver).unwrap().landed(letter.row);
        self.log.push_back(attempt);
    }

    fn fold(&mut self) {
        let Some(attempt) = self.log.pop_front() else { return };
        self.alerts.outbox.learn(&attempt, EPOCH);
        let once = postcard::to_allocvec(&self.alerts).unwrap();
        self.alerts.outbox.learn(&attempt, EPOCH);
        assert_eq!(once, postcard::to_allocvec(&self.alerts).unwrap(), "an answer counts once");
    }

    fn restart(&mut self) {
        self.flights.clear();
        self.air.clear();
        while !self.log.is_empty() {
            self.fold();
        }
        let kept = postcard::to_allocvec(&self.alerts).unwrap();
        self.alerts = postcard::from_bytes(&kept).unwrap();
    }

    /// All is well, and everyone listens, until nothing waits.
    fn settle(&mut self) {
        let ok = Answer::Status { code: 200, retry_after: None };
        for region in 0..REGIONS.len() {
            self.take(&Step::Health(region, Health::Healthy));
        }
        while self.alerts.outbox.iter().any(|row| matches!(row.state, RowState::Waiting { .. })) {
            self.take(&Step::Pass(120));
            self.send();
            while !self.air.is_empty() {
                self.answered(0, ok);
            }
            while !self.log.is_empty() {
                self.fold();
            }
        }
    }
}

fn service() -> ServiceName {
    "voice".parse().unwrap()
}

impl World {
    /// What each receiver was sent, and what it was not sent because too many waited, tells every alert from its begin to its end.
    fn check(&self) {
        for (lane, sent) in &self.sent {
            let order: Vec<_> = sent.iter().map(|(id, ..)| *id).collect();
            assert!(order.is_sorted(), "{lane:?} out of order: {order:?}");
            let mut rows = sent.clone();
            rows.extend(self.unsent(lane));
            rows.sort_by_key(|(id, ..)| *id);
            rows.dedup();
            for (_, alert, ..) in &rows {
                let ends = rows.iter().filter(|(_, of, _, end)| of == alert && *end).count();
                assert_eq!(ends, 1, "{alert:?} in {lane:?}");
            }
            for pair in rows.windows(2) {
                let ((_, one, before, ended), (_, other, after, end)) = (pair[0], pair[1]);
                assert_eq!(one != other, ended, "an alert begins after the one before has ended, and not sooner");
                assert!(one != other || end || before != after, "the same was said twice");
            }
        }
    }

    fn unsent(&self, lane: &Lane) -> impl Iterator<Item = Sent> {
        let since = self.removed.get(&lane.receiver).copied();
        let rows = self.alerts.outbox.iter().filter(move |row| row.lane() == *lane && Some(row.id) > since);
        let dead = rows.filter(|row| row.state == RowState::Dead(Why::TooMany));
        dead.map(|row| (row.id, row.alert, row.notice.severity, row.notice.ended.is_some()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whoever_is_told_of_an_alert_is_told_of_its_end_once_and_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.settle();
        world.check();
    }

    #[test]
    fn the_same_log_gives_the_same_outbox(steps in prop::collection::vec(step(), 1..60)) {
        let [one, other] = [&steps, &steps].map(|steps| {
            let mut world = World::new();
            for step in steps {
                world.take(step);
            }
            (postcard::to_allocvec(&world.alerts).unwrap(), world.bodies)
        });
        prop_assert_eq!(one, other);
    }
}

#[test]
fn a_receiver_that_has_gone_gets_nothing_until_it_has_another_url_and_then_what_fires() {
    let mut world = World::new();
    world.take(&Step::Health(0, Health::Down));
    world.take(&Step::Send);
    let first: ReceiverName = RECEIVERS[0].parse().unwrap();
    let which = world.air.iter().position(|(lane, _)| lane.receiver == first).unwrap();
    world.take(&Step::Answered(which, Answer::Status { code: 410, retry_after: None }));
    world.take(&Step::Folded);
    world.take(&Step::Health(1, Health::Down));
    assert_eq!(world.alerts.outbox.due(&first, world.now).count(), 0);
    assert!(world.alerts.outbox.counts().any(|it| it == (&first, Outcome::Dead(Why::Gone), 2)));
    world.policy.receivers.insert(first.clone(), Receiver { endpoint: 2 });
    world.alerts.adopt(&world.policy);
    world.judge();
    assert_eq!(world.alerts.outbox.due(&first, world.now).count(), 2, "both alerts still fire");
}

#[test]
fn a_retry_after_holds_back_everything_for_that_receiver_and_nothing_for_another() {
    let mut world = World::new();
    world.take(&Step::Health(0, Health::Down));
    world.take(&Step::Send);
    let [first, other] = RECEIVERS.map(|name| name.parse::<ReceiverName>().unwrap());
    let which = world.air.iter().position(|(lane, _)| lane.receiver == first).unwrap();
    let wait = Some(Duration::from_secs(90));
    world.take(&Step::Answered(which, Answer::Status { code: 503, retry_after: wait }));
    world.take(&Step::Folded);
    world.take(&Step::Health(1, Health::Down));
    for (seconds, due) in [(0, 0), (89, 0), (1, 2)] {
        world.take(&Step::Pass(seconds));
        assert_eq!(world.alerts.outbox.due(&first, world.now).count(), due);
        assert_eq!(world.alerts.outbox.due(&other, world.now).count(), 2);
    }
}

#[test]
fn a_row_is_tried_for_a_day_at_growing_distances_and_then_given_up() {
    let mut world = World::new();
    world.take(&Step::Receives(1, false));
    world.take(&Step::Health(0, Health::Down));
    let receiver: ReceiverName = RECEIVERS[0].parse().unwrap();
    let mut waits = Vec::new();
    while let Some(RowState::Waiting { until }) = world.alerts.outbox.waiting(RowId(1)).map(|row| row.state) {
        waits.push(until.since(world.now));
        world.now = until;
        world.take(&Step::Send);
        world.take(&Step::Answered(0, Answer::Timeout));
        world.take(&Step::Folded);
    }
    let doubled = |attempt: u32| Duration::from_secs(1 << attempt.min(16)).min(Duration::from_mins(5));
    for (attempt, wait) in (0..).zip(&waits[1..]) {
        assert!((doubled(attempt) / 2..=doubled(attempt)).contains(wait), "{attempt}: {wait:?}");
    }
    assert!(world.now.since(EPOCH) >= Duration::from_hours(24), "{:?}", world.now.since(EPOCH));
    assert!(world.alerts.outbox.counts().any(|it| it == (&receiver, Outcome::Dead(Why::TooOld), 1)));
}
