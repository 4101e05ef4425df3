//! A WebSocket gateway, without ever logging in. Every so often one probe opens a connection and waits for its HELLO; in
//! between, others beat on the connection that is open. The next one is opened before the old one is closed with 1000, so
//! that there is always one to beat on.
//!
//! A server that takes no heartbeat before a login closes with 4002 or 4003. That is no outage: from then on the beat is a
//! WebSocket ping, and the label `beat` says so. Without a connection a beat fails of what the connection was lost to, and
//! has the next attempt made, of which only the connection counts: its phases are measured at their own pace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Uri;
use hyper::header::{HeaderValue, USER_AGENT};
use protocols::gateway::{self, Close, Said};
use telemetry::{FailureKind, Label, Outcome};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::dial::{Dialer, Stream};
use super::phases::{Fault, Phases, carry_through};
use super::{Order, Report, SendFault, Token, errno, tcp};
use crate::config;

/// No frame that a probe waits for is nearly as long.
const MESSAGE: usize = 64 << 10;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);
const PROTOCOL: Fault = Fault::Failure(FailureKind::Protocol);
const NOT_CONNECTED: Fault = Fault::Ours(SendFault::NotConnected);

pub struct WebSocket {
    dialer: Dialer,
    url: Uri,
    user_agent: HeaderValue,
    state: Mutex<State>,
    connecting: AtomicBool,
    /// Farewells, and the attempts that beats have made.
    beside: Mutex<JoinSet<()>>,
}

struct State {
    line: Line,
    beat: Beat,
}

enum Line {
    /// There was none yet, or it ended for our own reasons.
    NotYet,
    Open(Box<Connection>),
    /// A beat has it.
    Lent,
    Lost(FailureKind),
}

struct Connection {
    stream: WebSocketStream<Box<dyn Stream>>,
    node: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    Op1,
    Ping,
}

/// What a beat heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Ack,
    LoginWanted,
}

impl WebSocket {
    /// `None`: the configuration's path makes no URL.
    pub fn new(dialer: Dialer, config: &config::WebSocket, user_agent: &str) -> Option<Self> {
        let config::WebSocket { path, tls, .. } = config;
        let scheme = if tls.is_some() { "wss" } else { "ws" };
        let server_name = tls.as_ref().and_then(|secure| secure.server_name.as_ref());
        let url = format!("{scheme}://{}{path}", dialer.authority(server_name)).parse().ok()?;
        let user_agent = user_agent.parse().ok()?;
        let state = Mutex::new(State { line: Line::NotYet, beat: Beat::Op1 });
        let (connecting, beside) = (AtomicBool::new(false), Mutex::new(JoinSet::new()));
        Some(Self { dialer, url, user_agent, state, connecting, beside })
    }

    /// Opens the next connection and then closes the one before.
    pub async fn connect(self: Arc<Self>, order: Order) -> Report {
        let ahead: Vec<_> = self.dialer.phases().chain(["upgrade", "hello"]).collect();
        self.connecting.store(true, Ordering::SeqCst);
        let mut opened = None;
        let open = async |phases: &mut Phases| {
            opened = Some(self.open(phases).await?);
            Ok(())
        };
        let report = carry_through(order, ahead, self.dialer.clock, open).await;
        match opened {
            Some(connection) => self.install(connection),
            None => self.attempt_failed(&report),
        }
        self.connecting.store(false, Ordering::SeqCst);
        report
    }

    /// One beat on the connection that is open.
    pub async fn beat(self: Arc<Self>, order: Order) -> Report {
        let (line, beat) = {
            let mut state = self.state();
            let lent = match &state.line {
                Line::Open(_) | Line::Lent => Line::Lent,
                Line::NotYet => Line::NotYet,
                Line::Lost(kind) => Line::Lost(*kind),
            };
            (std::mem::replace(&mut state.line, lent), state.beat)
        };
        let mut connection = match line {
            Line::Open(connection) => connection,
            Line::Lent => return Report::NotSent { token: order.token, fault: SendFault::Busy },
            Line::NotYet | Line::Lost(_) => {
                self.attempt(order.timeout);
                let fault = if let Line::Lost(kind) = line { Fault::Failure(kind) } else { NOT_CONNECTED };
                return carry_through(order, ["heartbeat"], self.dialer.clock, async move |phases: &mut Phases| {
                    phases.learn(Label::Beat, beat.as_str());
                    Err(fault)
                })
                .await;
            }
        };
        let mut login_wanted = false;
        let ask = async |phases: &mut Phases| {
            phases.learn(Label::Beat, beat.as_str());
            if let Some(node) = &connection.node {
                phases.learn(Label::Node, node);
            }
            match connection.beat(beat, order.token).await? {
                Answer::Ack => {
                    phases.passed();
                    Ok(())
                }
                Answer::LoginWanted => {
                    login_wanted = true;
                    Err(NOT_CONNECTED)
                }
            }
        };
        let report = carry_through(order, ["heartbeat"], self.dialer.clock, ask).await;
        self.give_back(connection, failure(&report), login_wanted.then_some(Beat::Ping));
        if login_wanted {
            self.attempt(order.timeout);
        }
        report
    }

    async fn open(&self, phases: &mut Phases) -> Result<Box<Connection>, Fault> {
        let stream = self.dialer.dial(phases).await?.stream;
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
        let request = self.request().map_err(|error| self.failed(&error))?;
        let upgraded = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        let (mut stream, _) = upgraded.map_err(|error| self.failed(&error))?;
        phases.passed();
        loop {
            match stream.next().await.ok_or(PROTOCOL)?.map_err(|error| self.failed(&error))? {
                Message::Text(text) => {
                    let hello = match gateway::parse(&text) {
                        Ok(Said::Hello(hello)) => hello,
                        Ok(_) => continue,
                        Err(error) => return Err(self.dialer.why.fault(FailureKind::Protocol, error)),
                    };
                    let node = hello.node();
                    if let Some(node) = &node {
                        phases.learn(Label::Node, node);
                    }
                    phases.passed();
                    return Ok(Box::new(Connection { stream, node }));
                }
                Message::Close(frame) => {
                    let reason =
                        frame.map_or_else(|| "closed without a word".to_owned(), |frame| format!("closed: {frame}"));
                    return Err(self.dialer.why.fault(FailureKind::Protocol, reason));
                }
                _ => {}
            }
        }
    }

    fn failed(&self, error: &Error) -> Fault {
        self.dialer.why.fault(failure_of(error), error)
    }

    fn request(&self) -> Result<Request, Error> {
        let mut request = self.url.clone().into_client_request()?;
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        Ok(request)
    }

    fn install(&self, connection: Box<Connection>) {
        let before = std::mem::replace(&mut self.state().line, Line::Open(connection));
        if let Line::Open(old) = before {
            self.beside(old.farewell());
        }
    }

    fn attempt_failed(&self, report: &Report) {
        let mut state = self.state();
        if let (Line::NotYet | Line::Lost(_), Some(kind)) = (&state.line, failure(report)) {
            state.line = Line::Lost(kind);
        }
    }

    /// After a beat: the connection is open again, lost, or replaced in the meantime.
    fn give_back(&self, connection: Box<Connection>, failure: Option<FailureKind>, instead: Option<Beat>) {
        let mut state = self.state();
        state.beat = instead.unwrap_or(state.beat);
        let replaced = !matches!(state.line, Line::Lent);
        match (failure, instead) {
            (None, None) if replaced => self.beside(connection.farewell()),
            _ if replaced => {}
            (Some(kind), _) => state.line = Line::Lost(kind),
            (None, Some(_)) => state.line = Line::NotYet,
            (None, None) => state.line = Line::Open(connection),
        }
    }

    /// Has a connection made, unless one is being made.
    fn attempt(self: &Arc<Self>, timeout: Duration) {
        if self.connecting.swap(true, Ordering::SeqCst) {
            return;
        }
        let order =
            Order { token: Token(0), errand: crate::plan::Errand::Nowhere, timeout, way: crate::probe::Way::default() };
        let connecting = self.clone().connect(order);
        self.beside(async move { drop(connecting.await) });
    }

    fn beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        while beside.try_join_next().is_some() {}
        beside.spawn(task);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    async fn beat(&mut self, beat: Beat, token: Token) -> Result<Answer, Fault> {
        let number = token.0.to_be_bytes();
        let asked = match beat {
            Beat::Op1 => Message::text(gateway::heartbeat()),
            Beat::Ping => Message::Ping(number.to_vec().into()),
        };
        self.stream.send(asked).await.map_err(|error| fault(&error))?;
        loop {
            match self.stream.next().await.ok_or(PROTOCOL)?.map_err(|error| fault(&error))? {
                Message::Text(text) if beat == Beat::Op1 && gateway::parse(&text) == Ok(Said::Ack) => {
                    return Ok(Answer::Ack);
                }
                Message::Pong(pong) if beat == Beat::Ping && pong[..] == number => return Ok(Answer::Ack),
                Message::Close(Some(frame)) if beat == Beat::Op1 && Close::refuses_heartbeats(frame.code.into()) => {
                    return Ok(Answer::LoginWanted);
                }
                Message::Close(_) => return Err(PROTOCOL),
                _ => {}
            }
        }
    }

    async fn farewell(mut self: Box<Self>) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // Whether the other side heard it changes nothing.
        tokio::time::timeout(FAREWELL, self.stream.close(Some(frame))).await.ok();
    }
}

impl Beat {
    fn as_str(self) -> &'static str {
        match self {
            Self::Op1 => "op1",
            Self::Ping => "ping",
        }
    }
}

/// What the last phase failed of.
fn failure(report: &Report) -> Option<FailureKind> {
    let Report::Phased { samples, .. } = report else { return None };
    match samples.last()?.outcome {
        Outcome::Reply => None,
        Outcome::Failure(kind) => Some(kind),
    }
}

fn fault(error: &Error) -> Fault {
    Fault::Failure(failure_of(error))
}

fn failure_of(error: &Error) -> FailureKind {
    match error {
        Error::Http(_) => FailureKind::Status,
        Error::Io(error) => tcp::failure(errno(error)).unwrap_or(FailureKind::Other),
        _ => FailureKind::Protocol,
    }
}

#[cfg(test)]
mod tests;
