//! Stands where the collector stands: takes what an agent pushes, and unpacks it when the agent has ended, so that nothing is
//! computed beside what is measured.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;
use telemetry::histogram::Histogram;
use telemetry::otlp::labels;
use telemetry::otlp::walk::{BadPoint, Point, Value, Visitor, walk};
use telemetry::otlp::{AGENT_LATENESS, PROBE_DURATION};
use telemetry::{AgentId, Outcome, RegionName};

#[derive(Debug)]
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// What an agent told in its life.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By kind and phase, such as `icmp rtt`.
    replies: BTreeMap<String, Histogram>,
    failures: BTreeMap<String, u64>,
    lateness: Histogram,
}

impl Sink {
    pub(super) fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for what the agent pushes")?;
        let address = listener.local_addr().context("read the port")?;
        let bodies = Arc::default();
        let taken = Arc::clone(&bodies);
        // It ends with the bench: nobody connects any more.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&taken);
                thread::spawn(move || drop(serve(stream, &taken)));
            }
        });
        Ok(Self { address, bodies })
    }

    pub(super) fn told(self) -> anyhow::Result<Told> {
        let mut told = Told::default();
        for body in self.bodies.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let body = zstd::decode_all(&body[..]).context("inflate a batch")?;
            walk(&body, &mut told).context("read a batch")?;
        }
        Ok(told)
    }
}

/// One connection: each request is a batch, each batch is taken.
fn serve(stream: TcpStream, taken: &Mutex<Vec<Vec<u8>>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        taken.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer)?;
    }
}

impl Told {
    /// In microseconds, of the replies of that kind and phase. Every quantile is of merged histograms.
    pub(super) fn quantile_us(&self, what: &str, q: f64) -> anyhow::Result<f64> {
        let seconds = self.replies.get(what).and_then(|replies| replies.quantile(q));
        Ok(seconds.with_context(|| format!("no replies of {what}; told: {:?}", self.replies.keys()))? * 1e6)
    }

    pub(super) fn lateness_us(&self, q: f64) -> anyhow::Result<f64> {
        Ok(self.lateness.quantile(q).context("the agent told no lateness")? * 1e6)
    }

    /// How many probes were sent.
    pub(super) fn sent(&self) -> u64 {
        self.lateness.count()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// By kind, phase and what became of them, such as `icmp rtt timeout`.
    pub(super) fn failures(&self) -> &BTreeMap<String, u64> {
        &self.failures
    }
}

impl<'a> Visitor<'a> for Told {
    fn resource(&mut self, _: &'a [u8]) {}

    fn point(&mut self, point: Point<'a>) {
        let Value::Histogram(histogram) = point.value else { return };
        match point.metric {
            AGENT_LATENESS => self.lateness.merge(&histogram),
            PROBE_DURATION => {
                let somebody: (AgentId, RegionName) = ("a".parse().expect("a name"), "r".parse().expect("a name"));
                let Ok((series, outcome)) = labels::series(&point.attributes, &somebody.0, &somebody.1) else { return };
                let what = format!("{} {}", series.probe, series.phase);
                match outcome {
                    Outcome::Reply => self.replies.entry(what).or_default().merge(&histogram),
                    Outcome::Failure(kind) => {
                        *self.failures.entry(format!("{what} {}", kind.as_str())).or_default() += histogram.count();
                    }
                }
            }
            _ => {}
        }
    }

    fn bad_point(&mut self, metric: &'a str, _: std::borrow::Cow<'a, [u8]>, fault: BadPoint) {
        *self.failures.entry(format!("{metric}: {fault}")).or_default() += 1;
    }

    fn other(&mut self, _: &'a str) {}
}
