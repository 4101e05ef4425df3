//! What was measured is concluded again, by the real command: from the log as it came, and from history.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use collector::config::Config;
use collector::core::{Core, Keep};
use collector::entry::{Encoding, Envelope, Record};
use collector::history;
use collector::log::Log;
use collector::retention::Retention;
use collector::snapshot::{self, Snapshots};
use journal::{Journal, Options, Position, RealDisk};
use serde_json::Value;
use telemetry::{Boot, FailureKind, Origin, Outcome, Sequence, Series, Wall};
use tempfile::TempDir;

use crate::door::{Door, Outcomes, batch, replies};

const CONFIG: &str = "../config/collector.toml";
const BEGIN: Wall = Wall::from_secs(1_800_000_000);
const WIDTH: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
/// In seconds: the voice server in fra is dead, and all ends.
const DEAD: std::ops::Range<u64> = 1200..1500;
const END: u64 = 2700;

fn at(second: u64) -> Wall {
    BEGIN + SECOND * second as u32
}

/// To fra and to iad, in ms.
const AGENTS: [(&str, [u64; 2]); 3] = [("fra", [10, 90]), ("iad", [90, 10]), ("syd", [120, 180])];

fn seen(slot: u64, rtt: u64, is_fra: bool) -> Outcomes {
    if is_fra && DEAD.contains(&slot) {
        let lost = replies(&[1000; 10]).into_values();
        return lost.map(|lost| (Outcome::Failure(FailureKind::Timeout), lost)).collect();
    }
    replies(&[rtt; 10])
}

/// A log of three agents that push when a slot has ended, and of a mark a second.
fn record() -> Vec<Vec<u8>> {
    let policy = Config::load(Path::new(CONFIG)).unwrap().policy;
    let mut records = vec![Record::Config(at(0), policy).encode().unwrap()];
    for second in 0..=END {
        records.push(Record::Mark(at(second)).encode().unwrap());
        if second < 10 || second % 10 != 1 {
            continue;
        }
        let slot = second - 11;
        for (source, rtts) in AGENTS {
            let of = |region: &str| Series {
                agent: format!("{source}-1").parse().unwrap(),
                source: source.parse().unwrap(),
                target: format!("{region}-voice-1").parse().unwrap(),
                region: region.parse().unwrap(),
                ..telemetry::sample::series()
            };
            let series = ["fra", "iad"].into_iter().zip(rtts);
            let series = series.map(|(region, rtt)| (of(region), seen(slot, rtt, region == "fra"))).collect();
            let body = batch(series, at(slot), at(slot) + WIDTH);
            let origin = Origin {
                agent: format!("{source}-1").parse().unwrap(),
                boot: Boot(1),
                sequence: Sequence(slot / 10 + 1),
            };
            let received = at(second) + Duration::from_millis(200);
            let envelope = Envelope { origin: Some(origin), received, encoding: Encoding::Identity };
            records.push(Record::Batch(envelope, &body).encode().unwrap());
        }
    }
    records
}

fn write_log(dir: &Path, mut journal: impl FnMut(RealDisk) -> Journal, records: &[Vec<u8>]) {
    let mut journal = journal(RealDisk::open(dir.join("log")).unwrap());
    for record in records {
        journal.append(record).unwrap();
    }
    journal.sync().unwrap();
}

/// The data of a collector that has its whole log.
fn with_log() -> TempDir {
    let dir = TempDir::new().unwrap();
    write_log(dir.path(), |disk| Journal::open(disk, Options::default()).unwrap(), &record());
    dir
}

/// The same later: history and snapshot have all of it, and the log is cut away behind them.
fn with_history_alone() -> TempDir {
    with_log_from(usize::MAX)
}

/// All is in history, and the log has what came from this record on.
fn with_log_from(first: usize) -> TempDir {
    let dir = with_log();
    let log = Log::open(dir.path()).unwrap();
    let (history, intake, keeper) = history::open(dir.path(), Retention::default()).unwrap();
    let keeper = std::thread::spawn(move || keeper.run());
    let snapshots = Snapshots::open(dir.path()).unwrap();
    let keep = Keep { snapshots: snapshots.clone(), history: intake, due: Arc::default() };
    let core = Core::recover(&log, keep).unwrap();
    let end = core.folded();
    let state = snapshot::encode(&core.state()).unwrap();
    drop(core.end());
    keeper.join().unwrap();
    assert_eq!(history.stored(), end);
    snapshots.save(end, &state).unwrap();
    drop((log, history));
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let records = record();
    let first = first.min(records.len());
    let begin = |disk| Journal::begin(disk, Position(first as u64), Options::default()).unwrap();
    let last = Record::Mark(at(END + 1)).encode().unwrap();
    write_log(dir.path(), begin, &[&records[first..], &[last]].concat());
    dir
}

fn collector(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_isochrone-collector")).args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn replay(dir: &Path, more: &[&str]) -> String {
    let (from, to) = (at(600).to_string(), at(END).to_string());
    let args = ["replay", "--data", dir.to_str().unwrap(), "--from", &from, "--to", &to];
    told(&collector(&[&args[..], more].concat()))
}

/// What was concluded, without times and reasons; and when, in seconds.
fn concluded(json: &str, kinds: &[&str]) -> Vec<(Value, u64)> {
    let lines = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line["kind"].as_str().is_some_and(|kind| kinds.contains(&kind)));
    let split = lines.map(|mut line| {
        let at: Wall = line["at"].as_str().unwrap().parse().unwrap();
        line.as_object_mut().unwrap().retain(|key, _| key != "at" && key != "reason");
        (line, at.since(BEGIN).as_secs())
    });
    split.collect()
}

#[test]
fn history_alone_tells_what_the_log_told_up_to_a_window_later_and_always_the_same() {
    let (logged, kept) = (with_log(), with_history_alone());
    let [logged, again, kept] = [&logged, &logged, &kept].map(|dir| replay(dir.path(), &["--json"]));
    assert!(logged == again, "the same data gave something else");
    let kinds = ["region", "alert"];
    let (by_log, by_rows) = (concluded(&logged, &kinds), concluded(&kept, &kinds));
    let said: Vec<_> = by_log.iter().map(|(what, at)| format!("{at} {what}")).collect();
    // Down and told of; degraded on the way back, which is not told; well again and told of.
    assert!(by_log.len() >= 4, "{said:#?}");
    let (down, at) = &by_log[0];
    assert!(down["health"] == "down" && down["region"] == "fra" && (1211..1223).contains(at), "{said:#?}");
    assert_eq!(by_log.iter().map(|it| &it.0).collect::<Vec<_>>(), by_rows.iter().map(|it| &it.0).collect::<Vec<_>>());
    for ((what, by_log), (_, by_rows)) in by_log.iter().zip(&by_rows) {
        assert!(by_log.abs_diff(*by_rows) <= 10, "{what}: at {by_log} by the log, at {by_rows} by history");
    }
    let moves = |json: &str| -> Vec<_> {
        let hints = concluded(json, &["hint"]);
        let moved = hints.into_iter().filter(|(hint, _)| hint["was"] != hint["ranked"][0]["region"]);
        moved.map(|(hint, _)| (hint["source"].clone(), hint["ranked"][0]["region"].clone())).collect()
    };
    assert!(moves(&logged).contains(&("fra".into(), "iad".into())), "{:?}", moves(&logged));
    assert_eq!(moves(&logged), moves(&kept));
}

#[test]
fn where_the_log_takes_over_from_history_nothing_is_counted_twice_or_left_out() {
    // Where the outage ends, so that what cells say then is of windows from both. Of ten seconds' records three are batches.
    let half = with_log_from(1 + 1500 + 1500 / 10 * 3);
    let [whole, half] = [&with_log(), &half].map(|dir| replay(dir.path(), &[]));
    let later = |text: &str| -> Vec<_> {
        let lines = text.lines().filter(|line| line.contains("  cell ") || line.contains("  region "));
        let lines = lines.filter(|line| line[..] > *at(1500).to_string());
        lines.map(|line| line.split_once("  ").unwrap().1.to_owned()).collect()
    };
    assert!(later(&whole).len() >= 6, "{whole}");
    assert_eq!(later(&whole), later(&half));
}

#[test]
fn what_the_last_mark_brought_is_told_where_no_end_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let records = record();
    let silent = records.iter().position(|it| *it == Record::Mark(at(1212)).encode().unwrap()).unwrap();
    let open = |disk| Journal::open(disk, Options::default()).unwrap();
    write_log(dir.path(), open, &records[..=silent]);
    let args = ["replay", "--data", dir.path().to_str().unwrap(), "--from", "1800000600", "--json"];
    let told = concluded(&told(&collector(&args)), &["region"]);
    assert!(told.len() == 1 && told[0].0["health"] == "down" && told[0].1 == 1212, "{told:?}");
}

#[test]
fn what_the_log_alone_has_is_exported_as_what_history_has() {
    let export = |dir: &TempDir| {
        let args = ["export", "--format", "otlp", "--from", "1800000000", "--data", dir.path().to_str().unwrap()];
        told(&collector(&args))
    };
    let killed = export(&with_log());
    assert_eq!(killed.lines().count(), 6, "six series");
    assert!(killed == export(&with_history_alone()));
    // More than a pipe holds.
    assert!(killed.len() > 1 << 17);
    let dir = with_history_alone();
    for command in ["export", "replay"] {
        let mut args = vec![command, "--from", "1800000000", "--data", dir.path().to_str().unwrap()];
        args.extend(["--format", "otlp"].into_iter().filter(|_| command == "export"));
        let mut reader = Command::new(env!("CARGO_BIN_EXE_isochrone-collector"));
        let mut reader = reader.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(reader.stdout.take());
        let said = reader.wait_with_output().unwrap();
        assert!(
            said.status.success() && said.stderr.is_empty(),
            "{command}: who reads no further is no fault: {said:?}"
        );
    }
}

#[test]
fn a_backup_of_it_tells_the_same_once_it_is_restored() {
    let (dir, place) = (with_history_alone(), TempDir::new().unwrap());
    let before = replay(dir.path(), &[]);
    let (shelf, data) = (place.path().join("shelf"), place.path().join("data"));
    let backup = told(&collector(&["backup", "--data", dir.path().to_str().unwrap(), "--to", shelf.to_str().unwrap()]));
    let backup = PathBuf::from(backup.trim());
    let refused = collector(&["replay", "--data", backup.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is a backup"), "{refused:?}");
    told(&collector(&["restore", backup.to_str().unwrap(), "--data", data.to_str().unwrap()]));
    assert_eq!(replay(&data, &[]), before);
    assert_eq!(replay(dir.path(), &[]), before);
}

#[test]
fn another_configuration_is_told_beside_the_recorded_one_where_it_differs() {
    let dir = with_history_alone();
    let same = replay(dir.path(), &["--config", CONFIG]);
    assert!(same.lines().any(|line| line.starts_with("  ")), "{same}");
    assert!(!same.lines().any(|line| line.starts_with("- ") || line.starts_with("+ ")), "{same}");
    let file = dir.path().join("patient.toml");
    let patient = fs::read_to_string(CONFIG).unwrap().replace("dwell = \"10m\"", "dwell = \"20m\"");
    fs::write(&file, patient).unwrap();
    let json = replay(dir.path(), &["--json", "--config", file.to_str().unwrap()]);
    let back: BTreeMap<_, _> = concluded(&json, &["hint"])
        .into_iter()
        .filter(|(hint, _)| hint["source"] == "fra" && hint["was"] == "iad" && hint["ranked"][0]["region"] == "fra")
        .map(|(hint, at)| (hint["under"].as_str().unwrap().to_owned(), at))
        .collect();
    assert!(back["recorded"] + 300 < back["other"] && back["other"] < END, "{back:?}");
    let summary: Value = serde_json::from_str(json.lines().next_back().unwrap()).unwrap();
    assert_eq!(summary["summary"]["recorded"]["alerts_fired"], 1, "{summary}");
    assert_eq!(summary["summary"]["other"]["alerts_fired"], 1, "{summary}");
    let text = replay(dir.path(), &["--config", file.to_str().unwrap()]);
    let says =
        |mark: &str| text.lines().any(|line| line.starts_with(mark) && line.contains("hint    voice from fra: fra"));
    assert!(says("- ") && says("+ "), "{text}");
}

#[tokio::test]
async fn what_cannot_be_replayed_says_why() {
    let door = Door::open(TempDir::new().unwrap()).await;
    let running = door.dir.as_ref().unwrap().path().to_str().unwrap();
    for (args, said) in
        [(&["--data", running][..], "a collector runs on"), (&["--data", "/nowhere"], "holds no data of a collector")]
    {
        let refused = collector(&[&["replay"][..], args].concat());
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && stderr.contains(said), "{stderr}");
    }
    let dir = with_history_alone();
    let data = dir.path().to_str().unwrap();
    let refused = collector(&["replay", "--data", data, "--from", "1800000100", "--to", "1800000000"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ends before it begins"), "{refused:?}");
    let refused = collector(&["replay", "--data", data, "--config", "tests/bad/five-faults.toml"]);
    assert_eq!(refused.status.code(), Some(64));
}
