//! UDP round trips: our STAMP probes at our reflector, irtt at its server. Both take the time that the server needed out of
//! the round trip. Our schedule's shortest interval is 10 ms, so 1 ms apart is ten targets at one address, by chance nearer
//! and further apart; irtt's are even. An agent watches many targets where irtt needs a process for each: that is compared too.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use protocols::stamp::{self, Ntp, Test};
use serde_json::Value;

use super::super::agent::{Agent, Plan};
use super::super::arena::Arena;
use super::super::program::{Core, Program};
use super::super::table::{Goal, Line};
use super::quantile;

const REFLECTOR: &str = "127.0.0.1:18862";
const SERVER: &str = "127.0.0.1:18112";
const EVERY: Duration = Duration::from_millis(10);
const WARM_UP: Duration = Duration::from_secs(1);

/// The same probes, from one agent and from so many of irtt's clients.
struct Load {
    what: &'static str,
    targets: u32,
    clients: u32,
}

const LOADS: [Load; 3] = [
    Load { what: "udp every 10ms", targets: 1, clients: 1 },
    Load { what: "udp every 1ms", targets: 10, clients: 1 },
    Load { what: "udp, 30 targets every 10ms each", targets: 30, clients: 30 },
];

struct Seen {
    cpu: f64,
    p50: f64,
    p99: f64,
}

pub(super) fn compare(arena: &Arena) -> anyhow::Result<Vec<Line>> {
    let reflector = reflector(arena)?;
    let server = Program::start(
        Core::Other,
        ("irtt-server", "irtt".as_ref()),
        ["server", "-b", SERVER, "-i", "50us", "-d", "10m"],
        arena.dir.path(),
    )?;
    let mut lines = Vec::new();
    for Load { what, targets, clients } in LOADS {
        let apart = EVERY / targets;
        let (ours, theirs) = (ours(arena, targets as usize)?, irtt(arena, clients, EVERY * clients / targets)?);
        let name = |of| format!("{what}, {of}");
        lines.push(Line::new(name("CPU µs a probe"), ours.cpu, ("irtt", theirs.cpu), Goal::Times(0.1)));
        let floor = ("a bare loop", floor(apart, arena.watch)?);
        lines.push(Line::new(name("CPU µs a probe, beside a bare loop"), ours.cpu, floor, Goal::Told));
        lines.push(Line::new(name("RTT p50 µs"), ours.p50, ("irtt", theirs.p50), Goal::Times(1.0)));
        lines.push(Line::new(name("RTT p99 µs"), ours.p99, ("irtt", theirs.p99), Goal::Times(1.0)));
    }
    server.stop()?;
    reflector.stop()?;
    Ok(lines)
}

/// Ours, with no limit to speak of.
pub(super) fn reflector(arena: &Arena) -> anyhow::Result<Program> {
    let program = arena.programs.join("isochrone-agent");
    let args = ["reflect", "--listen", REFLECTOR, "--limit", "1000000"];
    Program::start(Core::Other, ("reflector", &program), args, arena.dir.path())
}

pub(super) fn stamped(plan: Plan, targets: usize) -> Plan {
    plan.add(std::iter::repeat_n(REFLECTOR.to_owned(), targets), "kind = \"stamp\"", EVERY)
}

fn ours(arena: &Arena, targets: usize) -> anyhow::Result<Seen> {
    let ours = Agent::start(arena, &stamped(Plan::default(), targets))?.measure(arena.watch, 0.001)?;
    let at = |q| ours.told.quantile_us("stamp rtt", q);
    Ok(Seen { cpu: ours.cpu_us, p50: at(0.5)?, p99: at(0.99)? })
}

/// What no prober that sends each probe when it is due can go below on this machine: a thread that sleeps, sends and receives,
/// and does nothing else.
fn floor(apart: Duration, length: Duration) -> anyhow::Result<f64> {
    let bare = move || -> anyhow::Result<f64> {
        Core::Measured.pin()?;
        let socket = UdpSocket::bind("127.0.0.1:0").context("open a socket")?;
        socket.set_nonblocking(true).context("open a socket")?;
        let (begin, before, mut probes) = (Instant::now(), thread_cpu()?, 0_u32);
        while begin.elapsed() < length {
            thread::sleep((begin + apart * probes).saturating_duration_since(Instant::now()));
            let test = Test { sequence: probes, sent: Ntp(1 << 63), session: 1 };
            socket.send_to(&stamp::request(test), REFLECTOR).context("send")?;
            // The answer to the one before.
            socket.recv_from(&mut [0; 128]).ok();
            probes += 1;
        }
        Ok((thread_cpu()?.saturating_sub(before)).as_secs_f64() * 1e6 / f64::from(probes))
    };
    thread::spawn(bare).join().map_err(|_| anyhow::anyhow!("the bare loop panicked"))?
}

fn thread_cpu() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read a thread's CPU time")?.into())
}

/// So many clients, each with a probe that often.
fn irtt(arena: &Arena, clients: u32, every: Duration) -> anyhow::Result<Seen> {
    let (every, length) =
        (format!("{}us", every.as_micros()), format!("{}ms", (WARM_UP * 3 + arena.watch).as_millis()));
    let mut running = Vec::new();
    for number in 0..clients {
        let (name, dir) = (format!("irtt-{number}"), arena.dir.path());
        let file = dir.join(format!("{name}.json"));
        let args = ["client", "-Q", "-i", &every, "-d", &length, "-l", "64", "-o"].map(AsRef::as_ref);
        let args = args.into_iter().chain([file.as_os_str(), SERVER.as_ref()]);
        let program = (name.as_str(), Path::new("irtt"));
        running.push(if running.is_empty() {
            Program::start(Core::Measured, program, args, dir)?
        } else {
            Program::start_beside(Core::Measured, program, args, dir)?
        });
    }
    thread::sleep(WARM_UP);
    let spent = Program::watch_all(&mut running, arena.watch)?;
    let (mut rtts, mut per_second) = (Vec::new(), 0.0);
    for (number, client) in running.into_iter().enumerate() {
        let (status, said) = client.end()?;
        anyhow::ensure!(status.success(), "irtt ended with {status}:\n{said}");
        let (its_rtts, its_pace) = read(&arena.dir.path().join(format!("irtt-{number}.json")))?;
        rtts.extend(its_rtts);
        per_second += its_pace;
    }
    let cpu = spent.per_probe(per_second);
    let mut at = |q| quantile(&mut rtts, q).context("irtt told no RTT");
    Ok(Seen { cpu, p50: at(0.5)?, p99: at(0.99)? })
}

/// The round trips in microseconds, and how many were sent each second.
fn read(file: &Path) -> anyhow::Result<(Vec<f64>, f64)> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let told: Value = serde_json::from_str(&text).context("read what irtt told")?;
    let trips = told["round_trips"].as_array().context("no round trips")?;
    let rtts = trips.iter().filter_map(|trip| Some(trip["delay"]["rtt"].as_f64()? / 1e3)).collect();
    let stats = &told["stats"];
    let (sent, nanos) = (stats["packets_sent"].as_f64(), stats["duration"].as_f64());
    let (sent, nanos) = sent.zip(nanos).context("no count, or no duration")?;
    Ok((rtts, sent / (nanos / 1e9)))
}
