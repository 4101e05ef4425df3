use std::io::ErrorKind;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use protocols::gateway::{Kind, Said, heartbeat, parse};
use runtime::Clock;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{DEADLINE, Running, start, start_with, wait_until};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Up to the HELLO.
async fn connect(planet: &Running, region: &str, target: &str) -> Socket {
    let stream = planet.dial(region, target, &[]).await;
    let url = format!("wss://{}/?v=10", planet.target(target));
    let (mut socket, _) = client_async(url, stream).await.unwrap();
    let Said::Hello(hello) = parse(&text(hear(&mut socket).await.unwrap())).unwrap() else { panic!("no HELLO") };
    assert_eq!(hello.node().as_deref(), Some(target));
    socket
}

async fn hear(socket: &mut Socket) -> Result<Message, Error> {
    tokio::time::timeout(DEADLINE, socket.next()).await.expect("heard in time").expect("not the end")
}

async fn beat(socket: &mut Socket) -> Said {
    socket.send(Message::text(heartbeat())).await.unwrap();
    parse(&text(hear(socket).await.unwrap())).unwrap()
}

fn text(message: Message) -> String {
    message.into_text().unwrap().to_string()
}

#[test]
fn the_handshake_the_upgrade_and_each_heartbeat_take_a_round_trip_and_are_counted_once() {
    let planet = start();
    let least = planet.least("fra", "sin-gateway");
    assert!(least > Duration::from_millis(100), "Frankfurt is far from Singapore");
    planet.tokio.block_on(async {
        let clock = Clock::start();
        let begun = clock.mono();
        let mut socket = connect(&planet, "fra", "sin-gateway").await;
        let connected = clock.mono();
        assert!(connected.since(begun) >= 2 * least, "{:?}", connected.since(begun));
        for _ in 0..2 {
            assert_eq!(beat(&mut socket).await, Said::Ack);
        }
        assert!(clock.mono().since(connected) >= 2 * least);
    });
    for (phase, count) in [("tls", 1), ("upgrade", 1), ("hello", 1), ("heartbeat", 2)] {
        let row = json!({"source": "fra", "target": "sin-gateway", "probe": "websocket", "phase": phase});
        planet.wait_for_count("items", &row, count);
    }
}

#[test]
fn heartbeats_that_were_said_together_share_one_round_trip() {
    let planet = start();
    let least = planet.least("fra", "sin-gateway");
    planet.tokio.block_on(async {
        let mut socket = connect(&planet, "fra", "sin-gateway").await;
        let clock = Clock::start();
        for _ in 0..50 {
            socket.feed(Message::text(heartbeat())).await.unwrap();
        }
        socket.flush().await.unwrap();
        for _ in 0..50 {
            assert_eq!(parse(&text(hear(&mut socket).await.unwrap())), Ok(Said::Ack));
        }
        assert!(clock.mono().since(runtime::Mono(0)) < 50 * least, "one after the other");
    });
}

#[test]
fn a_strict_gateway_closes_at_a_heartbeat_and_answers_a_ping() {
    let planet = start_with(Kind::Strict);
    let least = planet.least("fra", "sin-gateway");
    planet.tokio.block_on(async {
        let mut socket = connect(&planet, "fra", "sin-gateway").await;
        let clock = Clock::start();
        socket.send(Message::Ping("1".into())).await.unwrap();
        assert_eq!(hear(&mut socket).await.unwrap(), Message::Pong("1".into()));
        assert!(clock.mono().since(runtime::Mono(0)) >= least);
        socket.send(Message::text(heartbeat())).await.unwrap();
        let Message::Close(Some(frame)) = hear(&mut socket).await.unwrap() else { panic!("no close") };
        assert_eq!(u16::from(frame.code), 4003);
    });
    planet.wait_for_count("items", &json!({"source": "fra", "target": "sin-gateway", "phase": "heartbeat"}), 1);
}

#[test]
fn a_gateway_that_goes_down_resets_who_is_connected_and_refuses_who_comes() {
    let planet = start();
    planet.tokio.block_on(async {
        let (mut cut, mut kept) =
            (connect(&planet, "fra", "sin-gateway").await, connect(&planet, "fra", "iad-gateway").await);
        planet.post("/faults", r#"{"kind":"target_down","target":"sin-gateway"}"#);
        let error = hear(&mut cut).await.unwrap_err();
        assert!(matches!(&error, Error::Io(error) if error.kind() == ErrorKind::ConnectionReset), "{error:?}");
        let refused = TcpStream::connect(planet.target("sin-gateway")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(beat(&mut kept).await, Said::Ack);

        planet.delete("/faults/1");
        wait_until("the door is open again", || std::net::TcpStream::connect(planet.target("sin-gateway")).is_ok());
        connect(&planet, "fra", "sin-gateway").await;
    });
}

#[test]
fn a_region_that_goes_down_loses_its_own_connections_to_others_too() {
    let planet = start();
    planet.tokio.block_on(async {
        let (mut cut, mut kept) =
            (connect(&planet, "fra", "iad-gateway").await, connect(&planet, "sin", "iad-gateway").await);
        planet.post("/faults", r#"{"kind":"region_down","region":"fra"}"#);
        assert!(hear(&mut cut).await.is_err());
        assert_eq!(beat(&mut kept).await, Said::Ack);
    });
}

#[test]
fn what_is_lost_on_a_stream_is_not_answered_until_it_comes_through() {
    let planet = start();
    planet.tokio.block_on(async {
        let mut socket = connect(&planet, "fra", "iad-gateway").await;
        planet.post("/faults", r#"{"kind":"uplink","region":"fra","loss":1.0,"extra_ms":0}"#);
        socket.send(Message::text(heartbeat())).await.unwrap();
        let lost = json!({"source": "fra", "target": "iad-gateway", "reason": "lost"});
        planet.wait_for_count("dropped", &lost, 2);
        planet.delete("/faults/1");
        assert_eq!(parse(&text(hear(&mut socket).await.unwrap())), Ok(Said::Ack));
    });
    planet.wait_for_count("items", &json!({"source": "fra", "target": "iad-gateway", "phase": "heartbeat"}), 1);
}

#[test]
fn who_connects_and_says_nothing_came_for_the_connection_alone() {
    let planet = start();
    wait_until("the door is open", || std::net::TcpStream::connect(planet.target("sin-cdn")).is_ok());
    planet.wait_for_count("items", &json!({"target": "sin-cdn", "probe": "tcp", "phase": "connect"}), 1);
}
