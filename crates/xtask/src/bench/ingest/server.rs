//! Who takes histograms: started with nothing on disk, asked for its own count of what it stored.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use e2e::{http, until};
use serde_json::Value;
use telemetry::Wall;

use super::super::arena::Arena;
use super::super::program::{Core, Program};
use super::fleet::{Fleet, SERVICES};
use super::load::Batch;
use super::{classic, native, otlp};

const START: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Collector,
    Prometheus,
    VictoriaMetrics,
}

#[derive(Debug)]
pub(in super::super) struct Server {
    pub(in super::super) program: Program,
    kind: Kind,
    /// Of everything that it keeps.
    data: PathBuf,
}

impl Kind {
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Collector => "isochrone-collector",
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }

    /// By window, then by agent.
    pub(in super::super) fn encode(self, fleet: &Fleet, first: Wall) -> anyhow::Result<Vec<Vec<Batch>>> {
        let batches = match self {
            Self::Collector => otlp::batches,
            Self::Prometheus => native::batches,
            Self::VictoriaMetrics => classic::batches,
        };
        let mut load: Vec<_> = (0..fleet.windows).map(|_| Vec::new()).collect();
        for agent in &fleet.agents {
            load.iter_mut().zip(batches(agent, first)?).for_each(|(window, batch)| window.push(batch));
        }
        Ok(load)
    }

    fn address(self) -> &'static str {
        match self {
            Self::Collector => "127.0.0.1:18460",
            Self::Prometheus => "127.0.0.1:19090",
            Self::VictoriaMetrics => "127.0.0.1:18428",
        }
    }

    /// Where it answers once it is ready.
    fn ready(self) -> &'static str {
        match self {
            Self::Collector => "/livez",
            Self::Prometheus => "/-/ready",
            Self::VictoriaMetrics => "/health",
        }
    }

    fn args(self, dir: &Path, data: &Path) -> anyhow::Result<Vec<String>> {
        let (address, data) = (self.address(), data.display());
        Ok(match self {
            Self::Collector => {
                let config = dir.join("collector.toml");
                fs::write(&config, format!("listen = \"{address}\"\ndata_dir = \"{data}\"\n{}", policy()))
                    .context("write the collector's configuration")?;
                vec!["run".to_owned(), format!("--config={}", config.display())]
            }
            Self::Prometheus => {
                let config = dir.join("prometheus.yml");
                fs::write(&config, "global: {scrape_interval: 1m}\n").context("write Prometheus' configuration")?;
                vec![
                    format!("--config.file={}", config.display()),
                    format!("--storage.tsdb.path={data}"),
                    format!("--web.listen-address={address}"),
                    "--web.enable-remote-write-receiver".to_owned(),
                    "--web.enable-admin-api".to_owned(),
                    "--enable-feature=native-histograms".to_owned(),
                    "--log.level=warn".to_owned(),
                ]
            }
            Self::VictoriaMetrics => vec![
                format!("-storageDataPath={data}"),
                format!("-httpListenAddr={address}"),
                "-retentionPeriod=1".to_owned(),
            ],
        })
    }
}

impl Server {
    pub(in super::super) fn start(kind: Kind, arena: &Arena) -> anyhow::Result<Self> {
        let data = arena.dir.path().join(kind.name());
        if data.exists() {
            fs::remove_dir_all(&data).context("remove what the last run left")?;
        }
        let program = if kind == Kind::Collector { arena.programs.join(kind.name()) } else { kind.name().into() };
        let args = kind.args(arena.dir.path(), &data)?;
        let program = Program::start(Core::Measured, (kind.name(), &program), args, arena.dir.path())?;
        let server = Self { program, kind, data };
        until(&format!("an answer from {}", kind.name()), START, || http::get_text(&server.url(kind.ready())).ok())?;
        Ok(server)
    }

    /// Where batches go.
    pub(in super::super) fn takes(&self) -> String {
        self.url(if self.kind == Kind::Collector { "/v1/metrics" } else { "/api/v1/write" })
    }

    /// What is asked of it meanwhile.
    pub(in super::super) fn asked(&self) -> Option<String> {
        (self.kind == Kind::Collector).then(|| self.url("/api/v1/hints/region-00/voice"))
    }

    /// By its own count, and of nothing else.
    pub(in super::super) fn has_stored(&self, histograms: usize) -> anyhow::Result<()> {
        let (meter, each) = match self.kind {
            Kind::Collector => (r#"isochrone_fold_points_total{outcome="counted"}"#, 1),
            Kind::Prometheus => (r#"prometheus_tsdb_head_samples_appended_total{type="histogram"}"#, 1),
            Kind::VictoriaMetrics => ("vm_rows_added_to_storage_total", classic::SERIES),
        };
        let text = http::get_text(&self.url("/metrics"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(meter)).with_context(|| format!("no {meter}"))?;
        // From a million on Prometheus writes it with an exponent.
        let stored: f64 = value.trim().parse().with_context(|| format!("read {meter}"))?;
        let stored = stored as usize;
        let sent = histograms * each;
        anyhow::ensure!(stored == sent, "{}: {stored} of {sent} are stored\n{}", self.kind.name(), self.program.log());
        Ok(())
    }

    /// Bytes of what it writes first: a log, or at once what it keeps.
    pub(in super::super) fn logged(&self) -> anyhow::Result<u64> {
        match self.kind {
            Kind::Collector => size(&self.data.join("log")),
            Kind::Prometheus => size(&self.data.join("wal")),
            Kind::VictoriaMetrics => size(&self.data),
        }
    }

    /// Bytes of all samples in the form in which Prometheus keeps them, without their index: the more windows a block has, the
    /// less that is for each. For the others what they write first is what they keep.
    pub(in super::super) fn kept(&self) -> anyhow::Result<Option<u64>> {
        if self.kind != Kind::Prometheus {
            return Ok(None);
        }
        http::post(&self.url("/api/v1/admin/tsdb/snapshot"), &Value::Null)?;
        let blocks = self.data.join("snapshots");
        files(&blocks)?
            .into_iter()
            .filter(|file| file.parent().is_some_and(|parent| parent.ends_with("chunks")))
            .map(|file| Ok(fs::metadata(file).context("weigh a block")?.len()))
            .sum::<anyhow::Result<u64>>()
            .map(Some)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.kind.address())
    }
}

/// Where everything is, and what is judged.
fn policy() -> String {
    let mut policy = String::new();
    for (number, region) in Fleet::regions().enumerate() {
        let lon = number as f64 * 360.0 / 20.0 - 180.0;
        writeln!(policy, "[[region]]\nname = \"{region}\"\nlat = 40.0\nlon = {lon:.1}").expect("a string takes all");
    }
    for (service, primary, _) in SERVICES {
        writeln!(policy, "[[service]]\nname = \"{service}\"\nprimary = \"{primary}\"").expect("a string takes all");
        for region in Fleet::regions() {
            writeln!(
                policy,
                "[[target]]\nid = \"{region}-{service}-0\"\nservice = \"{service}\"\nregion = \"{region}\"\n\
                 advertise = [\"192.0.2.1:443\"]"
            )
            .expect("a string takes all");
        }
    }
    policy
}

fn size(folder: &Path) -> anyhow::Result<u64> {
    files(folder)?.into_iter().map(|file| Ok(fs::metadata(file).context("weigh a file")?.len())).sum()
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        if entry.file_type().context("look at a file")?.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}
