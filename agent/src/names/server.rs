//! A name server within a test: it answers any question as it is told to at that moment.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Says {
    /// With a time to live of so many seconds.
    Addresses(Vec<IpAddr>, u32),
    NoSuchName,
    ServFail,
    Nothing,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<u64>>,
}

impl Server {
    /// Until the set is dropped.
    pub(crate) async fn start(says: Says, tasks: &mut JoinSet<()>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = Self { address, says: Arc::new(Mutex::new(says)), asked: Arc::default() };
        let serving = server.clone();
        tasks.spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                *serving.asked.lock().unwrap() += 1;
                let says = serving.says.lock().unwrap().clone();
                if let Some(answer) = answer(&query[..length], &says) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        server
    }

    pub(crate) fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    pub(crate) fn asked(&self) -> u64 {
        *self.asked.lock().unwrap()
    }
}

/// Of one question without compression, as stub resolvers ask it (RFC 1035, 4.1).
fn answer(query: &[u8], says: &Says) -> Option<Vec<u8>> {
    let mut end = 12;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    let question = &query[12..end + 5];
    let aaaa = question[question.len() - 3] == 28;
    let (code, addresses, ttl): (u8, &[IpAddr], u32) = match says {
        Says::Addresses(addresses, ttl) => (0, addresses, *ttl),
        Says::NoSuchName => (3, &[], 0),
        Says::ServFail => (2, &[], 0),
        Says::Nothing => return None,
    };
    let addresses: Vec<_> = addresses.iter().filter(|address| address.is_ipv6() == aaaa).collect();
    let mut packet = query[..2].to_vec();
    packet.extend([0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    packet.extend(question);
    for address in addresses {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        packet.extend([0xc0, 12, 0, if aaaa { 28 } else { 1 }, 0, 1]);
        packet.extend(ttl.to_be_bytes());
        packet.extend((bytes.len() as u16).to_be_bytes());
        packet.extend(bytes);
    }
    Some(packet)
}
