use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::super::bench::{Authority, closed, dialer, labels, listener, order, plan, told};
use super::*;
use crate::plan::Purpose;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

/// How a gateway takes those who do not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    AnswersBeats,
    WantsLogin,
    /// Says hello and nothing more.
    SaysHello,
    SaysNothing,
    RefusesUpgrade,
}

/// Tells of each connection how its client ended it.
async fn gateway(tasks: &mut JoinSet<()>, manner: Manner) -> (SocketAddr, UnboundedReceiver<Option<u16>>) {
    let (listener, address) = listener().await;
    let (ended, ends) = unbounded_channel();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(talk(stream, manner, ended.clone()));
        }
    });
    (address, ends)
}

async fn talk(mut stream: TcpStream, manner: Manner, ended: UnboundedSender<Option<u16>>) {
    if manner == Manner::RefusesUpgrade {
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        return;
    }
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    if manner != Manner::SaysNothing {
        let hello = r#"{"op":10,"d":{"heartbeat_interval":41250,"_trace":["gateway-1"]}}"#;
        socket.send(Message::text(hello)).await.unwrap();
    }
    while let Some(Ok(message)) = socket.next().await {
        match (message, manner) {
            (Message::Text(_), Manner::AnswersBeats) => socket.send(Message::text(r#"{"op":11}"#)).await.unwrap(),
            (Message::Text(_), Manner::WantsLogin) => {
                let frame = CloseFrame { code: CloseCode::from(4003), reason: "not authenticated".into() };
                socket.close(Some(frame)).await.unwrap();
            }
            (Message::Close(frame), _) => {
                ended.send(frame.map(|frame| frame.code.into())).ok();
                return;
            }
            _ => {}
        }
    }
}

fn prober(address: &str, keys: &str) -> Arc<WebSocket> {
    let plan = plan(address, "websocket", keys);
    let planned = &plan.probes()[0];
    let Purpose::GatewayConnection(config) = &planned.dial.as_ref().unwrap().purpose else { panic!("no gateway") };
    Arc::new(WebSocket::new(dialer(planned), config, "test").unwrap())
}

/// Beats until one is counted; those before the first connection are missed.
async fn counted_beat(gateway: &Arc<WebSocket>, timeout: Duration) -> Report {
    loop {
        let report = gateway.clone().beat(order(timeout)).await;
        if matches!(report, Report::Phased { .. }) {
            return report;
        }
        tokio::task::yield_now().await;
    }
}

const OPENED: [&str; 3] = ["connect reply", "upgrade reply", "hello reply"];

#[tokio::test]
async fn beats_go_over_the_connection_that_is_open_and_the_next_is_opened_before_the_old_is_closed() {
    let mut tasks = JoinSet::new();
    let (address, mut ends) = gateway(&mut tasks, Manner::AnswersBeats).await;
    let prober = prober(&address.to_string(), "tls = false\npath = \"/?v=10\"");
    let first = prober.clone().connect(order(LONG)).await;
    assert_eq!(told(&first), OPENED);
    assert_eq!(labels(&first), ["node=gateway-1"]);
    for _ in 0..3 {
        let beat = prober.clone().beat(order(LONG)).await;
        assert_eq!(told(&beat), ["heartbeat reply"]);
        assert_eq!(labels(&beat), ["beat=op1", "node=gateway-1"]);
    }
    assert!(ends.try_recv().is_err());
    assert_eq!(told(&prober.clone().connect(order(LONG)).await), OPENED);
    assert_eq!(ends.recv().await, Some(Some(1000)));
    assert_eq!(told(&prober.clone().beat(order(LONG)).await), ["heartbeat reply"]);
}

#[tokio::test]
async fn over_tls_the_handshake_is_a_phase_of_its_own() {
    let (mut tasks, authority) = (JoinSet::new(), Authority::new());
    let ((listener, address), acceptor) = (listener().await, authority.acceptor(&[]));
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(acceptor.accept(stream).await.unwrap()).await.unwrap();
        socket.send(Message::text(r#"{"op":10,"d":{"heartbeat_interval":41250}}"#)).await.unwrap();
        std::future::pending::<()>().await;
    });
    let prober = prober(&format!("localhost:{}", address.port()), &authority.trusted());
    let report = prober.connect(order(LONG)).await;
    assert_eq!(told(&report), ["dns reply", "connect reply", "tls reply", "upgrade reply", "hello reply"]);
}

#[tokio::test]
async fn before_the_first_connection_a_beat_is_missed_and_has_one_made() {
    let mut tasks = JoinSet::new();
    let (address, _ends) = gateway(&mut tasks, Manner::AnswersBeats).await;
    let prober = prober(&address.to_string(), "tls = false");
    let missed = prober.clone().beat(order(LONG)).await;
    assert!(matches!(missed, Report::NotSent { fault: SendFault::NotConnected, .. }), "{missed:?}");
    assert_eq!(told(&counted_beat(&prober, LONG).await), ["heartbeat reply"]);
}

#[tokio::test]
async fn a_close_that_wants_a_login_is_no_outage_and_makes_the_beat_a_ping() {
    let mut tasks = JoinSet::new();
    let (address, _ends) = gateway(&mut tasks, Manner::WantsLogin).await;
    let prober = prober(&address.to_string(), "tls = false");
    prober.clone().connect(order(LONG)).await;
    let missed = prober.clone().beat(order(LONG)).await;
    assert!(matches!(missed, Report::NotSent { fault: SendFault::NotConnected, .. }), "{missed:?}");
    let beat = counted_beat(&prober, LONG).await;
    assert_eq!(told(&beat), ["heartbeat reply"]);
    assert_eq!(labels(&beat), ["beat=ping", "node=gateway-1"]);
}

#[tokio::test]
async fn a_beat_that_times_out_ends_the_connection_and_the_next_one_has_another_made() {
    let mut tasks = JoinSet::new();
    let (address, _ends) = gateway(&mut tasks, Manner::SaysHello).await;
    let prober = prober(&address.to_string(), "tls = false");
    prober.clone().connect(order(LONG)).await;
    assert_eq!(told(&prober.clone().beat(order(SHORT)).await), ["heartbeat timeout"]);
    assert!(matches!(prober.state().line, Line::Lost(FailureKind::Timeout)));
    assert_eq!(told(&prober.clone().beat(order(LONG)).await), ["heartbeat timeout"], "of the connection before");
    while !matches!(prober.state().line, Line::Open(_)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_a_connection_a_beat_fails_as_the_last_attempt_did() {
    let prober = prober(&closed().await.to_string(), "tls = false");
    let attempt = prober.clone().connect(order(LONG)).await;
    assert_eq!(told(&attempt), ["connect refused", "upgrade refused", "hello refused"]);
    assert_eq!(told(&prober.clone().beat(order(LONG)).await), ["heartbeat refused"]);
}

#[tokio::test]
async fn a_refused_upgrade_is_a_status_and_a_missing_hello_a_timeout() {
    let mut tasks = JoinSet::new();
    let (full, _) = gateway(&mut tasks, Manner::RefusesUpgrade).await;
    let report = prober(&full.to_string(), "tls = false").connect(order(LONG)).await;
    assert_eq!(told(&report), ["connect reply", "upgrade status", "hello status"]);
    let (mute, _ends) = gateway(&mut tasks, Manner::SaysNothing).await;
    let report = prober(&mute.to_string(), "tls = false").connect(order(Duration::from_millis(200))).await;
    assert_eq!(told(&report), ["connect reply", "upgrade reply", "hello timeout"]);
}
