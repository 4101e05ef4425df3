//! Stands between agents and the collector: hands every batch on as it came, and writes down what was handed over and what was
//! acknowledged. Told to, it cuts connections, before a batch is handed over or before its answer is.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rand::{RngExt, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::ledger::{Ledger, Name, Refusal};

/// Of all batches, how many are cut off; half of them before they are handed over.
const CUT: f64 = 0.2;
/// Longer than a collector may take that replays its log.
const PATIENCE: Duration = Duration::from_secs(9);

/// It ends with the process.
#[derive(Debug)]
pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    collector: Option<String>,
    mischief: Option<Pcg64Mcg>,
    ledger: Ledger,
    /// By agent, how many batches it has handed over, repeated ones too.
    handed: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    No,
    Request,
    Answer,
}

/// One HTTP message, as it stands on the wire.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Relay {
    /// Until [`Self::lead_to`] says where, nothing gets through.
    pub fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for agents")?;
        let address = listener.local_addr().context("read the port")?;
        let shared = Arc::new(Shared::default());
        let relay = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A connection that breaks is what this is about.
                thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Ok(relay)
    }

    pub fn lead_to(&self, collector: &str) {
        self.shared.state().collector = Some(collector.to_owned());
    }

    /// From now on nothing gets through.
    pub fn part(&self) {
        self.shared.state().collector = None;
    }

    /// From now on some connections are cut.
    pub fn begin_mischief(&self, seed: u64) {
        self.shared.state().mischief = Some(Pcg64Mcg::seed_from_u64(seed));
    }

    pub fn end_mischief(&self) {
        self.shared.state().mischief = None;
    }

    /// Waits until that agent, or any, comes with a batch.
    pub fn wait_for_batch(&self, agent: Option<&str>, deadline: Duration) -> anyhow::Result<()> {
        let handed = |state: &State| match agent {
            Some(agent) => state.handed.get(agent).copied().unwrap_or_default(),
            None => state.handed.values().sum(),
        };
        let state = self.shared.state();
        let before = handed(&state);
        let waited = self.shared.came.wait_timeout_while(state, deadline, |state| handed(state) == before);
        let came = handed(&waited.unwrap_or_else(PoisonError::into_inner).0) > before;
        anyhow::ensure!(came, "no batch of {} within {deadline:?}", agent.unwrap_or("anyone"));
        Ok(())
    }

    pub fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.shared.state().ledger)
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut agent = BufReader::new(stream);
        while let Some(request) = Message::read(&mut agent)? {
            let name = request.name().ok_or(io::ErrorKind::InvalidData)?;
            let Some((collector, cut)) = self.came(&name) else { return Ok(()) };
            if cut == Cut::Request {
                return Ok(());
            }
            let mut collector = TcpStream::connect(collector)?;
            collector.set_nodelay(true)?;
            collector.set_read_timeout(Some(PATIENCE))?;
            self.state().ledger.came(&name, &request.body);
            request.write(&mut collector)?;
            let answer = Message::read(&mut BufReader::new(collector))?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match answer.status().ok_or(io::ErrorKind::InvalidData)? {
                200 => self.state().ledger.acknowledged(&name),
                status => {
                    let retry_after_s = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
                    self.state().ledger.refusals.push(Refusal { status, retry_after_s });
                }
            }
            if cut == Cut::Answer {
                return Ok(());
            }
            answer.write(agent.get_mut())?;
        }
        Ok(())
    }

    /// Where it goes, if anywhere, and what becomes of it.
    fn came(&self, name: &Name) -> Option<(String, Cut)> {
        let mut state = self.state();
        let collector = state.collector.clone()?;
        *state.handed.entry(name.agent.clone()).or_default() += 1;
        self.came.notify_all();
        let cut = match state.mischief.as_mut().map_or(1.0, RngExt::random) {
            chance if chance < CUT / 2.0 => Cut::Request,
            chance if chance < CUT => Cut::Answer,
            _ => Cut::No,
        };
        state.ledger.cuts += u64::from(cut != Cut::No);
        Some((collector, cut))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Message {
    /// `None`: the other side has hung up.
    fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut message = Self { head, body: Vec::new() };
        let length = message.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        message.body = vec![0; length];
        stream.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    fn write(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(self.head.as_bytes())?;
        stream.write_all(&self.body)
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    }

    /// Of an answer.
    fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }

    fn name(&self) -> Option<Name> {
        let header = |name| self.header(name).map(str::to_owned);
        Some(Name {
            agent: header(telemetry::otlp::HEADER_AGENT)?,
            boot: header(telemetry::otlp::HEADER_BOOT)?,
            sequence: header(telemetry::otlp::HEADER_SEQUENCE)?.parse().ok()?,
        })
    }
}
