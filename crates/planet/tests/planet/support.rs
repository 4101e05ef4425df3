//! A small running planet, who asks its endpoints, and plain HTTP for its control port.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use planet::control::{self, Control};
use planet::site::Site;
use planet::{Planet, Seed, crossing, driver, handshakes};
use runtime::{Clock, Tasks};
use serde_json::Value;
use tokio::runtime::Runtime;

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Running {
    pub(crate) control: Arc<Control>,
    pub(crate) address: SocketAddr,
    tasks: Tasks,
    _tokio: Runtime,
}

/// Three regions, of which iad and sin hold servers.
pub(crate) fn start() -> Running {
    let tokio = Runtime::new().unwrap();
    let tasks = Tasks::default();
    let planet = Arc::new(Planet::new(3, Seed(5)).unwrap());
    let Site { reflectors, mut doors, addresses } = Site::bind(&planet).unwrap();
    let control = Arc::new(Control::new(planet, addresses));
    let _entered = tokio.enter();
    let listener = tokio.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();

    let (_crossings, asked) = crossing::channel().unwrap();
    let (shared, shutdown) = (Arc::clone(&control), tasks.shutdown());
    tasks.thread("reflectors", move || driver::run(&shared, &reflectors, &asked, &shutdown)).unwrap();
    let (shared, shutdown) = (Arc::clone(&control), tasks.shutdown());
    tasks.thread("handshakes", move || handshakes::run(&shared, &mut doors, &shutdown)).unwrap();
    tasks.spawn("control", control::serve(listener, Arc::clone(&control), tasks.shutdown()));
    Running { control, address, tasks, _tokio: tokio }
}

impl Running {
    pub(crate) fn target(&self, id: &str) -> SocketAddr {
        let place = self.control.planet.targets().iter().position(|target| target.id.as_str() == id).unwrap();
        self.control.addresses[place]
    }

    pub(crate) fn source(&self, region: &str) -> UdpSocket {
        let address = self.control.planet.regions().iter().find(|known| known.name.as_str() == region).unwrap().address;
        asker(address)
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
