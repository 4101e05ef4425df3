//! Scenarios are data: strips of what each path saw, a character a second, and what must be concluded when.
//!
//! `.` a reply, `x` a loss, `s` a reply 80 ms late, `_` nothing sent; `X` a loss whose confirming burst is lost at once, `d` one
//! whose burst comes back, `?` a loss while the agent is unwell, `p` a reply while its agent says that a sixteenth of its ports
//! loses, `q` one as it says that none does. `60.` is sixty of them. The last matching line of `[paths]`
//! counts; `*` stands for every region. `[layers]` has strips of other probes, such as `"icmp/rtt"`. `[rtt]` gives a path's round trip in ms, 50 where it says nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use collector::cells::CellKey;
use collector::entry::{Batch, Entry, LosingPorts, Point, Report, Vitals};
use collector::hints::HintDocument;
use collector::policy::{HealthPolicy, HintPolicy, Mode, Policy, Receiver, Region, Service, Target};
use collector::snapshot;
use collector::state::{Effect, State};
use serde::Deserialize;
use telemetry::emodel::Codec;
use telemetry::geo::Coordinates;
use telemetry::histogram::Scratch;
use telemetry::{AgentId, Boot, FailureKind, Histogram, Origin, Outcome, RegionName, Sequence, Series, Standing, Wall};

/// Wall time at second 0, at a window's begin.
const BEGIN: Wall = Wall::from_secs(1_800_000_000);
/// A loss is known when its probe times out.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    says: String,
    regions: Vec<RegionName>,
    #[serde(default)]
    rtt: BTreeMap<String, f64>,
    paths: Vec<(String, String)>,
    #[serde(default)]
    layers: BTreeMap<String, Vec<(String, String)>>,
    #[serde(default)]
    dwell_s: Option<u64>,
    /// From which second on a source's agent is another one.
    #[serde(default)]
    replaced: BTreeMap<RegionName, u64>,
    expect: BTreeMap<String, Expected>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    cells: BTreeMap<String, String>,
    /// A part of what a cell says.
    says: BTreeMap<String, String>,
    regions: BTreeMap<RegionName, String>,
    /// The first place of each source.
    first: BTreeMap<RegionName, RegionName>,
    basis: BTreeMap<RegionName, String>,
    /// How often the first place has changed since it was first measured.
    changes: BTreeMap<RegionName, usize>,
    reason: BTreeMap<RegionName, String>,
    /// What the newest alert about a region is: `firing`, `critical`, and why.
    alerts: BTreeMap<RegionName, String>,
    /// What receivers were told about a region so far: `warning critical resolved`, or `nothing`.
    told: BTreeMap<RegionName, String>,
}

#[test]
fn every_scenario_concludes_what_it_says() {
    let mut faults = String::new();
    let mut files: Vec<_> = std::fs::read_dir("tests/scenarios").unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the scenarios are gone");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for fault in check(&scenario) {
            writeln!(faults, "{}: {} — but {fault}", file.display(), scenario.says).unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn a_restart_from_a_snapshot_changes_no_byte_of_a_hint() {
    let text = std::fs::read_to_string("tests/scenarios/region-dies-and-heals.toml").unwrap();
    let scenario: Scenario = toml::from_str(&text).unwrap();
    let (mut straight, mut restarted) = (Run::new(&scenario), Run::new(&scenario));
    restarted.restart_every = Some(7);
    for second in 1..300 {
        straight.until(second);
        restarted.until(second);
        let [one, other] = [&straight, &restarted].map(|run| serde_json::to_string(&run.hints).unwrap());
        assert_eq!(one, other, "at {second}s");
    }
}

#[test]
fn a_clock_of_the_collector_set_an_hour_forward_and_back_changes_no_byte_of_a_hint() {
    let text = std::fs::read_to_string("tests/scenarios/region-dies-and-heals.toml").unwrap();
    let scenario: Scenario = toml::from_str(&text).unwrap();
    let (mut straight, mut set) = (Run::new(&scenario), Run::new(&scenario));
    set.restart_every = Some(7);
    for second in 1..300 {
        set.clock_ahead = Duration::from_hours(u64::from((50..200).contains(&second)));
        straight.until(second);
        set.until(second);
        let [one, other] = [&straight, &set].map(|run| serde_json::to_string(&run.hints).unwrap());
        assert_eq!(one, other, "at {second}s");
    }
    assert_eq!((set.state.tally, set.state.clock.leaps), (straight.state.tally, 2));
    assert_eq!((set.state.tally.late_points, set.state.tally.early_points, set.state.tally.moved_points), (0, 0, 0));
}

#[test]
fn agents_whose_clocks_are_an_hour_off_are_concluded_of_as_the_others_are() {
    for (file, ahead) in [("region-dies-and-heals", 3600), ("path-gets-slow", 7200)] {
        let text = std::fs::read_to_string(format!("tests/scenarios/{file}.toml")).unwrap();
        let scenario: Scenario = toml::from_str(&text).unwrap();
        let mut run = Run::new(&scenario);
        run.agents_ahead = Duration::from_secs(ahead);
        let faults = run.check();
        assert!(faults.is_empty(), "{file}: {faults:?}");
        let tally = run.state.tally;
        assert_eq!((tally.late_points, tally.early_points, tally.moved_points), (0, 0, tally.points));
    }
}

fn check(scenario: &Scenario) -> Vec<String> {
    Run::new(scenario).check()
}

fn seconds(at: &str) -> u64 {
    humantime::parse_duration(at.trim_start_matches("at ")).unwrap().as_secs()
}

struct Run<'a> {
    scenario: &'a Scenario,
    state: State,
    /// By source, region, and probe with phase.
    strips: BTreeMap<(RegionName, RegionName, String), Vec<char>>,
    second: u64,
    hints: BTreeMap<RegionName, Arc<HintDocument>>,
    changes: BTreeMap<RegionName, usize>,
    /// Seconds from one restart, from a snapshot, to the next.
    restart_every: Option<u64>,
    /// By which the collector's clock is ahead now, and the agents' are always.
    clock_ahead: Duration,
    agents_ahead: Duration,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut state = State::default();
        state.apply(&Entry::Config { at: BEGIN, policy: Arc::new(policy(scenario)) });
        let voice = std::iter::once(("voice/rtt", &scenario.paths));
        let layers: Vec<_> =
            voice.chain(scenario.layers.iter().map(|(layer, paths)| (layer.as_str(), paths))).collect();
        let mut strips = BTreeMap::new();
        for (from, to) in scenario.regions.iter().flat_map(|from| scenario.regions.iter().map(move |to| (from, to))) {
            for (layer, paths) in &layers {
                strips.insert((from.clone(), to.clone(), (*layer).to_owned()), strip(paths, from, to));
            }
        }
        Self {
            scenario,
            state,
            strips,
            second: 0,
            hints: BTreeMap::new(),
            changes: BTreeMap::new(),
            restart_every: None,
            clock_ahead: Duration::ZERO,
            agents_ahead: Duration::ZERO,
        }
    }

    fn check(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expected: Vec<_> = self.scenario.expect.iter().map(|(at, expected)| (seconds(at), expected)).collect();
        expected.sort_by_key(|(at, _)| *at);
        for (at, expected) in expected {
            self.until(at);
            faults.extend(self.compare(expected).into_iter().map(|fault| format!("at {at}s {fault}")));
        }
        faults
    }

    fn until(&mut self, second: u64) {
        while self.second < second {
            let at = self.second;
            for source in &self.scenario.regions {
                let batch = self.batch(source, at);
                self.state.apply(&Entry::Batch(batch));
            }
            self.second += 1;
            if self.restart_every.is_some_and(|seconds| self.second.is_multiple_of(seconds)) {
                self.state = snapshot::decode(&snapshot::encode(&self.state).unwrap()).unwrap();
            }
            let now = BEGIN + Duration::from_secs(self.second) + self.clock_ahead;
            for effect in self.state.apply(&Entry::Mark { now }) {
                if let Effect::Hint(hint) = effect {
                    self.note(hint);
                }
            }
        }
    }

    fn note(&mut self, hint: Arc<HintDocument>) {
        let prior = |hint: &HintDocument| serde_json::to_value(hint.basis).unwrap() == "prior";
        let before = self.hints.get(&hint.source).filter(|before| !prior(before));
        let changed = before.is_some_and(|before| before.ranked[0].region != hint.ranked[0].region);
        *self.changes.entry(hint.source.clone()).or_default() += usize::from(changed);
        self.hints.insert(hint.source.clone(), hint);
    }

    /// What an agent learns in this second: replies to what it sent now, losses of what it sent a timeout ago.
    fn batch(&self, source: &RegionName, second: u64) -> Batch {
        let replaced = self.scenario.replaced.get(source).is_some_and(|from| second >= *from);
        let agent = format!("{source}-{}", if replaced { 2 } else { 1 });
        let (mut points, mut losing_ports) = (Vec::new(), Vec::new());
        for ((_, region, layer), strip) in self.strips.iter().filter(|((from, ..), _)| from == source) {
            let point = |source: &RegionName, region: &RegionName, second, outcome, ms| {
                point(&agent, (source, region, layer), second, outcome, ms)
            };
            let at = |second: u64| strip.get(second as usize).or(strip.last()).copied().unwrap_or('_');
            let rtt_ms =
                lookup(&self.scenario.rtt, source, region).copied().unwrap_or(50.0) + (second % 7) as f64 * 0.1;
            match at(second) {
                '.' | 'p' | 'q' => points.push(point(source, region, second, Outcome::Reply, rtt_ms)),
                's' => points.push(point(source, region, second, Outcome::Reply, rtt_ms + 80.0)),
                'x' | 'X' | 'd' | '?' | '_' => {}
                other => panic!("{other:?} is not a mark of a strip"),
            }
            let lost = Outcome::Failure(FailureKind::Timeout);
            let burst = |outcome| {
                let sent = point(source, region, second, outcome, rtt_ms);
                of_standing(Standing::Confirming, Point { histogram: fold(rtt_ms, 5), ..sent })
            };
            match at(second) {
                'X' => points.push(burst(lost)),
                'd' => points.push(burst(Outcome::Reply)),
                mark @ ('p' | 'q') => {
                    let series = point(source, region, second, lost, 0.0).series;
                    let seen = BEGIN + Duration::from_secs(second);
                    losing_ports.push(LosingPorts { series, share: if mark == 'p' { 1.0 / 16.0 } else { 0.0 }, seen });
                }
                _ => {}
            }
            if let Some(sent) = second.checked_sub(TIMEOUT.as_secs()) {
                let loss = point(source, region, sent, lost, 1000.0);
                match at(sent) {
                    'x' | 'X' | 'd' => points.push(loss),
                    '?' => points.push(of_standing(Standing::Suspect, loss)),
                    _ => {}
                }
            }
        }
        let agent: AgentId = agent.parse().unwrap();
        let origin = Origin { agent: agent.clone(), boot: Boot(1), sequence: Sequence(second + 1) };
        let sent = BEGIN + Duration::from_secs(second + 1);
        let (received, made) = (sent + self.clock_ahead, sent + self.agents_ahead);
        for point in &mut points {
            (point.begin, point.end) = (point.begin + self.agents_ahead, point.end + self.agents_ahead);
        }
        for ports in &mut losing_ports {
            ports.seen += self.agents_ahead;
        }
        let vitals = Vitals { at: Some(made), ..Vitals::default() };
        let report = Report { agent, source: source.clone(), version: String::new(), vitals };
        let certificates = Vec::new();
        Batch { origin: Some(origin), received, points, certificates, losing_ports, reports: vec![report] }
    }

    fn compare(&self, expected: &Expected) -> Vec<String> {
        let mut faults = Vec::new();
        let mut same = |what: String, found: String, wanted: &str| {
            if !found.contains(wanted) || wanted.is_empty() {
                faults.push(format!("{what} is {found}, not {wanted}"));
            }
        };
        for (path, wanted) in &expected.cells {
            let (source, region) = ends(path);
            let key = CellKey {
                service: "voice".parse().unwrap(),
                source: source.parse().unwrap(),
                region: region.parse().unwrap(),
            };
            let found = self.state.cells.get(&key).map_or("absent".to_owned(), |cell| cell.state.to_string());
            same(path.clone(), found, wanted);
        }
        for (path, wanted) in &expected.says {
            let (source, region) = ends(path);
            let (service, source) = ("voice".parse().unwrap(), source.parse().unwrap());
            let key = CellKey { service, source, region: region.parse().unwrap() };
            same(format!("{path} says"), self.state.cells.get(&key).unwrap().says(), wanted);
        }
        for (region, wanted) in &expected.regions {
            let health = self.state.regions.get(&"voice".parse().unwrap(), region).unwrap().health;
            same(format!("region {region}"), format!("{health:?}").to_lowercase(), wanted);
        }
        for (source, wanted) in &expected.first {
            same(format!("first of {source}"), self.hints[source].ranked[0].region.to_string(), wanted.as_str());
        }
        for (source, wanted) in &expected.basis {
            let basis = serde_json::to_value(self.hints[source].basis).unwrap();
            same(format!("basis of {source}"), basis.as_str().unwrap().to_owned(), wanted);
        }
        for (source, wanted) in &expected.reason {
            same(format!("reason of {source}"), self.hints[source].ranked[0].reason.clone(), wanted);
        }
        for (region, wanted) in &expected.alerts {
            let alert = self.state.alerts.iter().find(|alert| alert.notice.region == *region);
            let found = alert.map_or("none".to_owned(), |alert| {
                format!("{} {} {}", alert.state.as_str(), alert.notice.severity.as_str(), alert.notice.finding)
            });
            same(format!("alert about {region}"), found, wanted);
        }
        for (region, wanted) in &expected.told {
            let rows = self.state.alerts.outbox.iter().filter(|row| row.notice.region == *region);
            let words = rows.map(|row| row.notice.ended.map_or(row.notice.severity.as_str(), |_| "resolved"));
            let found = words.collect::<Vec<_>>().join(" ");
            let found = if found.is_empty() { "nothing".to_owned() } else { found };
            same(format!("told about {region}"), if found == *wanted { found } else { format!("“{found}”") }, wanted);
        }
        for (source, wanted) in &expected.changes {
            same(format!("changes of {source}"), self.changes[source].to_string(), &wanted.to_string());
        }
        faults
    }
}

fn policy(scenario: &Scenario) -> Policy {
    let at = |index: usize| Coordinates { lat: 0.0, lon: index as f64 * 10.0 };
    let region =
        |(index, name): (usize, &RegionName)| (name.clone(), Region { at: at(index), capacity: 100.0, users: 1 });
    let target = |name: &RegionName| {
        let target =
            Target { service: "voice".parse().unwrap(), region: name.clone(), advertise: vec![format!("{name}:1")] };
        (format!("{name}-voice-1").parse().unwrap(), target)
    };
    let mut hints = HintPolicy::default();
    hints.dwell = scenario.dwell_s.map_or(hints.dwell, Duration::from_secs);
    Policy {
        window: telemetry::window::DEFAULT_WIDTH,
        regions: scenario.regions.iter().enumerate().map(region).collect(),
        services: [("voice".parse().unwrap(), Service { primary: "voice".parse().unwrap(), mode: Mode::Enforce })]
            .into(),
        targets: scenario.regions.iter().map(target).collect(),
        health: HealthPolicy::default(),
        hints,
        codec: Codec::default(),
        bounds: collector::policy::Bounds::default(),
        receivers: [("oncall".parse().unwrap(), Receiver { endpoint: 1 })].into(),
    }
}

/// From, to, and by which probe and phase.
type Path<'a> = (&'a RegionName, &'a RegionName, &'a str);

fn point(agent: &str, (source, region, layer): Path<'_>, second: u64, outcome: Outcome, ms: f64) -> Point {
    let (probe, phase) = layer.split_once('/').unwrap();
    let series = Series {
        agent: agent.parse().unwrap(),
        source: source.clone(),
        target: format!("{region}-voice-1").parse().unwrap(),
        region: region.clone(),
        probe: probe.parse().unwrap(),
        phase: phase.parse().unwrap(),
        ..telemetry::sample::series()
    };
    let histogram = fold(ms, 1);
    let begin = BEGIN + Duration::from_secs(second);
    Point { series: Arc::new(series), outcome, begin, end: begin + Duration::from_secs(1), histogram }
}

fn fold(ms: f64, count: usize) -> Histogram {
    Scratch::default().fold(std::iter::repeat_n(Duration::from_secs_f64(ms / 1e3), count))
}

fn of_standing(standing: Standing, point: Point) -> Point {
    Point { series: Arc::new(Series { standing, ..(*point.series).clone() }), ..point }
}

fn strip(paths: &[(String, String)], from: &RegionName, to: &RegionName) -> Vec<char> {
    let mut matching = paths.iter().filter(|(path, _)| matches(path, from, to));
    let (_, text) = matching.next_back().unwrap_or_else(|| panic!("no strip for {from} → {to}"));
    let mut marks = Vec::new();
    let mut count = String::new();
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        if c.is_ascii_digit() {
            count.push(c);
        } else {
            marks.extend(std::iter::repeat_n(c, std::mem::take(&mut count).parse().unwrap_or(1)));
        }
    }
    marks
}

fn lookup<'a>(table: &'a BTreeMap<String, f64>, from: &RegionName, to: &RegionName) -> Option<&'a f64> {
    table
        .iter()
        .filter(|(path, _)| matches(path, from, to))
        .max_by_key(|(path, _)| !path.contains('*'))
        .map(|(_, ms)| ms)
}

fn matches(path: &str, from: &RegionName, to: &RegionName) -> bool {
    let (a, b) = ends(path);
    (a == "*" || a == from.as_str()) && (b == "*" || b == to.as_str())
}

fn ends(path: &str) -> (&str, &str) {
    path.split_once(" → ").unwrap_or_else(|| panic!("a path is written \"fra → iad\", not {path:?}"))
}
