//! HTTP, HTTPS, TCP and TLS at one nginx, against `blackbox_exporter`, which is asked at `/probe` as Prometheus would ask. It
//! opens a connection for each probe, so ours does too where the comparison is; what ours costs as it comes, over a connection
//! that is held, is told beside it. Both check the certificate against the same authority.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ureq::Agent as Client;

use super::super::agent::{Agent, Plan};
use super::super::arena::Arena;
use super::super::program::{Core, Program};
use super::super::table::{Goal, Line};

pub(super) use server::{HTTP, HTTPS, Server};

mod server;

const EXPORTER: &str = "127.0.0.1:18115";
const TARGETS: usize = 40;
const EVERY: Duration = Duration::from_millis(100);
const CLIENTS: u32 = 8;
const WARM_UP: Duration = Duration::from_secs(1);

/// A comparison, by what each side is told to do.
struct Kind {
    what: &'static str,
    address: &'static str,
    probe: String,
    /// The exporter's module and target. `None`: it has nothing like it.
    theirs: Option<(&'static str, String)>,
}

pub(super) fn compare(arena: &Arena) -> anyhow::Result<Vec<Line>> {
    let server = Server::start(arena)?;
    let mut exporter = exporter(arena, &server.authority())?;
    let mut lines = Vec::new();
    // What `blackbox_exporter` costs, for the line that follows: ours over a held connection.
    let mut last = None;
    for kind in kinds(&server.authority()) {
        let plan = Plan::default().add(std::iter::repeat_n(kind.address.to_owned(), TARGETS), &kind.probe, EVERY);
        let ours = Agent::start(arena, &plan)?.measure(arena.watch, 0.01)?.cpu_us;
        if let Some((module, target)) = &kind.theirs {
            last = Some(theirs(&mut exporter, module, target, arena.watch)?);
        }
        let theirs = last.context("nothing to compare with")?;
        lines.push(Line::new(
            format!("{}, CPU µs a probe", kind.what),
            ours,
            ("blackbox_exporter", theirs),
            Goal::Times(1.0 / 3.0),
        ));
    }
    exporter.stop()?;
    server.stop()?;
    Ok(lines)
}

fn kinds(authority: &Path) -> [Kind; 6] {
    let trusted = format!("ca_file = \"{}\"", authority.display());
    // Before the next probe is due, the connection of the one before is too old.
    let anew = "reconnect_every = \"10ms\"";
    let (http, https) = ("kind = \"http\"\ntls = false", format!("kind = \"http\"\n{trusted}"));
    let kind = |what, address, probe, theirs: Option<(&'static str, &str)>| {
        let theirs = theirs.map(|(module, target)| (module, target.to_owned()));
        Kind { what, address, probe, theirs }
    };
    let (http_url, https_url) = (format!("http://{HTTP}/"), format!("https://{HTTPS}/"));
    [
        kind("http, a connection each", HTTP, format!("{http}\n{anew}"), Some(("http", &http_url))),
        kind("http, held", HTTP, http.to_owned(), None),
        kind("https, a connection each", HTTPS, format!("{https}\n{anew}"), Some(("http", &https_url))),
        kind("https, held", HTTPS, https, None),
        kind("tcp", HTTP, "kind = \"tcp\"".to_owned(), Some(("tcp", HTTP))),
        kind("tls", HTTPS, format!("kind = \"tls\"\n{trusted}"), Some(("tls", HTTPS))),
    ]
}

fn exporter(arena: &Arena, authority: &Path) -> anyhow::Result<Program> {
    let trusted = format!("tls_config: {{ca_file: {}}}", authority.display());
    let config = format!(
        "modules:\n  \
         http: {{prober: http, timeout: 2s, http: {{preferred_ip_protocol: ip4, {trusted}}}}}\n  \
         tcp: {{prober: tcp, timeout: 2s, tcp: {{preferred_ip_protocol: ip4}}}}\n  \
         tls: {{prober: tcp, timeout: 2s, tcp: {{preferred_ip_protocol: ip4, tls: true, {trusted}}}}}\n"
    );
    let file = arena.dir.path().join("blackbox.yml");
    std::fs::write(&file, config).context("write the exporter's configuration")?;
    let args = [
        format!("--config.file={}", file.display()),
        format!("--web.listen-address={EXPORTER}"),
        "--log.level=error".to_owned(),
    ];
    let name = "prometheus-blackbox-exporter";
    let program = Program::start(Core::Measured, (name, name.as_ref()), args, arena.dir.path())?;
    e2e::until("an answer from the exporter", Duration::from_secs(10), || {
        e2e::http::get_text(&format!("http://{EXPORTER}/")).ok()
    })?;
    Ok(program)
}

/// CPU microseconds for each probe, at the pace of ours.
fn theirs(exporter: &mut Program, module: &str, target: &str, watch: Duration) -> anyhow::Result<f64> {
    let url = format!("http://{EXPORTER}/probe?module={module}&target={target}");
    ask(&url, WARM_UP)?;
    let (spent, probes) = exporter.during(|| ask(&url, watch))?;
    Ok(spent.cpu.as_secs_f64() * 1e6 / f64::from(probes))
}

/// Asks from a few clients at an even pace; answers how many probes succeeded, which is all of them.
fn ask(url: &str, length: Duration) -> anyhow::Result<u32> {
    let every = EVERY * CLIENTS / TARGETS as u32;
    let begin = Instant::now();
    let one = |number: u32| -> anyhow::Result<u32> {
        let client: Client = Client::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        let first = begin + EVERY / TARGETS as u32 * number;
        let dues = (0..).map(|turn| first + every * turn).take_while(|due| *due < begin + length);
        let mut probes = 0;
        for due in dues {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut answer = client.get(url).call().with_context(|| format!("get {url}"))?;
            let text = answer.body_mut().read_to_string().context("read what the exporter says")?;
            anyhow::ensure!(text.contains("\nprobe_success 1"), "the exporter's probe failed: {url}");
            probes += 1;
        }
        Ok(probes)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || one(number))).collect();
        let ended =
            clients.into_iter().map(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?);
        ended.sum()
    })
}
