//! `probe` where there is IPv6 alone: every kind reaches `[::1]`, and says so by the address that it was given.

use axum::routing::get;
use axum::{Router, serve};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::by_hand::probe;
use crate::commands::reflector;

/// Ten probes, of which each came back; answers what was told.
fn reached(kind: &str, address: &str, phase: &str, more: &[&str]) -> Value {
    let paces = ["--count", "10", "--every", "20ms", "--timeout", "10s"];
    let (told, code) = probe(&[&[kind, address], &paces[..], more].concat());
    assert_eq!((&told["sent"], &told["received"], &told["lost"]), (&10.into(), &10.into(), &0.into()), "{told}");
    assert_eq!((&told["address"], &told["phases"][phase]["count"]), (&address.into(), &10.into()), "{told}");
    assert_eq!(code, Some(0));
    told
}

#[tokio::test]
async fn a_reflector_on_ipv6_alone_answers_each_kind_that_it_knows() {
    let folder = TempDir::new().unwrap();
    let (_reflect, address) = reflector(&folder, "[::1]:0").await;
    assert!(address.starts_with("[::1]:"), "{address}");
    for kind in ["voice", "stun", "stamp"] {
        reached(kind, &address, "rtt", &[]);
    }
}

/// The server answers on another thread while this one waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_and_requests_reach_a_server_on_ipv6_alone() {
    let (listener, mut outside) = (TcpListener::bind("[::1]:0").await.unwrap(), JoinSet::new());
    let address = listener.local_addr().unwrap().to_string();
    outside.spawn(async move { serve(listener, Router::new().route("/", get(async || "here"))).await.unwrap() });
    reached("tcp", &address, "connect", &[]);
    let told = reached("http", &address, "first_byte", &["--no-tls"]);
    assert_eq!(told["labels"]["version"], "1.1", "{told}");
}

#[test]
fn echoes_reach_ipv6_wherever_this_machine_lets_them_be_sent() {
    let open = |kind| Socket::new(Domain::IPV6, kind, Some(Protocol::ICMPV6)).is_ok();
    if open(Type::DGRAM) || open(Type::RAW) {
        reached("icmp", "[::1]", "rtt", &[]);
    } else {
        let (told, code) = probe(&["icmp", "[::1]", "--count", "2", "--every", "10ms"]);
        assert_eq!((&told["missed"]["no-socket"], &told["lost"]), (&2.into(), &0.into()), "{told}");
        assert_eq!(code, Some(1));
    }
}
