//! Alerts and their outbox against what receivers remember: whatever is answered, restarts or changes its mind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use telemetry::{ReceiverName, RegionName, ServiceName, Wall};

use super::{AlertId, Alerts, Lane, Outcome, RowState, Severity, Why, alertmanager};
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
    /// One of what is on its way is answered.
    Answered(usize, Answer),
    /// What is on its way is forgotten; whether it arrived is not known.
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

/// The fold, a driver, and what receivers were sent.
struct World {
    alerts: Alerts,
    now: Wall,
    health: [RegionHealth; 2],
    policy: Policy,
    flying: BTreeMap<Lane, Attempt>,
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
            receivers: BTreeMap::new(),
        };
        let mut world = Self {
            alerts: Alerts::default(),
            now: EPOCH,
            health: [health.clone(), health],
            policy,
            flying: BTreeMap::new(),
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
            Step::Restart => {
                self.flying.clear();
                let kept = postcard::to_allocvec(&self.alerts).unwrap();
                self.alerts = postcard::from_bytes(&kept).unwrap();
            }
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
            let mut lanes = BTreeSet::new();
            for row in self.alerts.outbox.due(receiver, self.now) {
                assert!(lanes.insert(row.lane()), "two rows of one lane are due");
                if self.flying.contains_key(&row.lane()) {
                    continue;
                }
                let body = alertmanager::body(receiver.as_str(), &row.notice).unwrap();
                let before = self.bodies.insert(row.id.name(EPOCH), body.clone());
                assert!(before.is_none_or(|before| before == body), "one id, two bodies");
                let sent = (row.id, row.alert, row.notice.severity, row.notice.ended.is_some());
                self.sent.entry(row.lane()).or_default().push(sent);
                let attempt = Attempt { row: row.id, number: row.attempts + 1, at: self.now, answer: Answer::Timeout };
                self.flying.insert(row.lane(), attempt);
            }
        }
    }

    fn answered(&mut self, which: usize, answer: Answer) {
        if self.flying.is_empty() {
            return;
        }
        let lane = self.flying.keys().nth(which % self.flying.len()).cloned().unwrap();
        let attempt = Attempt { at: self.now, answer, ..self.flying.remove(&lane).unwrap() };
        self.alerts.outbox.learn(&attempt, EPOCH);
        let once = postcard::to_allocvec(&self.alerts).unwrap();
        self.alerts.outbox.learn(&attempt, EPOCH);
        assert_eq!(once, postcard::to_allocvec(&self.alerts).unwrap(), "an answer counts once");
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
            while !self.flying.is_empty() {
                self.answered(0, ok);
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
            for step in steps.iter().filter(|step| !matches!(step, Step::Restart)) {
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
    let gone = Answer::Status { code: 410, retry_after: None };
    let first: ReceiverName = RECEIVERS[0].parse().unwrap();
    let lane = world.flying.keys().find(|lane| lane.receiver == first).cloned().unwrap();
    let attempt = Attempt { answer: gone, ..world.flying.remove(&lane).unwrap() };
    world.alerts.outbox.learn(&attempt, EPOCH);
    world.take(&Step::Health(1, Health::Down));
    assert_eq!(world.alerts.outbox.due(&first, world.now).count(), 0);
    assert!(world.alerts.outbox.counts().any(|it| it == (&first, Outcome::Dead(Why::Gone), 2)));
    world.policy.receivers.insert(first.clone(), Receiver { endpoint: 2 });
    world.alerts.adopt(&world.policy);
    world.judge();
    assert_eq!(world.alerts.outbox.due(&first, world.now).count(), 2, "both alerts still fire");
}
