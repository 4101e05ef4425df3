//! A small running planet, who asks its endpoints, and plain HTTP for its control port.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use planet::authority::Authority;
use planet::control::{self, Control};
use planet::site::Site;
use planet::{Planet, Seed, endpoints};
use protocols::gateway::Kind;
use runtime::{Clock, Tasks};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Running {
    pub(crate) control: Arc<Control>,
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) tokio: Runtime,
    tasks: Tasks,
}

/// Three regions, of which iad and sin hold servers.
pub(crate) fn start() -> Running {
    start_with(Kind::Answering)
}

pub(crate) fn start_with(kind: Kind) -> Running {
    let tokio = Runtime::new().unwrap();
    let tasks = Tasks::default();
    let planet = Arc::new(Planet::new(3, Seed(5)).unwrap());
    let site = Site::bind(&planet).unwrap();
    let control = Arc::new(Control::new(planet, site.addresses.clone()));
    let authority = Authority::new().unwrap();
    let entered = tokio.enter();
    let listener = tokio.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();

    endpoints::start(&tasks, &control, site, &authority, kind).unwrap();
    tasks.spawn("control", control::serve(listener, Arc::clone(&control), tasks.shutdown()));
    drop(entered);
    Running { control, address, authority, tokio, tasks }
}

impl Running {
    pub(crate) fn target(&self, id: &str) -> SocketAddr {
        let place = self.control.planet.targets().iter().position(|target| target.id.as_str() == id).unwrap();
        self.control.addresses[place]
    }

    pub(crate) fn source(&self, region: &str) -> UdpSocket {
        asker(self.region(region))
    }

    fn region(&self, name: &str) -> Ipv4Addr {
        self.control.planet.regions().iter().find(|known| known.name.as_str() == name).unwrap().address
    }

    /// A connection from that region, after its handshake.
    pub(crate) async fn dial(&self, region: &str, target: &str, alpn: &[&[u8]]) -> TlsStream<tokio::net::TcpStream> {
        let address = self.target(target);
        // The doors open a moment after the planet starts.
        wait_until("the door is open", || std::net::TcpStream::connect(address).is_ok());
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.region(region), 0).into()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut config = ClientConfig::clone(&self.authority.client().unwrap());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config)).connect(address.ip().into(), stream).await.unwrap()
    }

    /// The least that a round trip takes.
    pub(crate) fn least(&self, source: &str, target: &str) -> Duration {
        let truth = self.get("/truth");
        let path = stated(&truth, source, target);
        let (median, jitter) = (path["rtt_ms"]["p50"].as_f64().unwrap(), path["jitter_ms"].as_f64().unwrap());
        Duration::from_secs_f64((median - jitter * std::f64::consts::LN_2) / 1e3)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        http(self.address, "GET", path, "").1
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, Value) {
        http(self.address, "POST", path, body)
    }

    pub(crate) fn delete(&self, path: &str) -> (u16, Value) {
        http(self.address, "DELETE", path, "")
    }

    /// Waits until the row in that list of `/counts` says so: an answer may arrive a moment before it is counted.
    pub(crate) fn wait_for_count(&self, list: &str, row: &Value, expected: u64) {
        wait_until(&format!("{list} {row} is {expected}"), || self.count(list, row) == expected);
    }

    fn count(&self, list: &str, row: &Value) -> u64 {
        let row = row.as_object().unwrap();
        let counts = self.get("/counts");
        let rows = counts[list].as_array().unwrap();
        let found = rows.iter().find(|known| row.iter().all(|(key, value)| known[key] == *value));
        found.map_or(0, |found| found["count"].as_u64().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.shutdown().cancel();
    }
}

pub(crate) fn asker(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Asks, and waits for the answer.
pub(crate) fn ask(socket: &UdpSocket, target: SocketAddr, question: &[u8]) -> Vec<u8> {
    socket.send_to(question, target).unwrap();
    let mut answer = [0; 128];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(from, target);
    answer[..length].to_vec()
}

pub(crate) fn stated<'a>(truth: &'a Value, source: &str, target: &str) -> &'a Value {
    truth["paths"].as_array().unwrap().iter().find(|path| path["source"] == source && path["target"] == target).unwrap()
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !holds() {
        assert!(clock.mono().since(runtime::Mono(0)) < DEADLINE, "not in time: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: planet\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status >= 400 {
        assert!(head.contains("application/problem+json"), "{head}");
    }
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}
