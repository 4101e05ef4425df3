//! Echoes answered by more than the kernel: a raw socket, where this machine has one for us, adds answers that are none.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use protocols::icmp::{ECHO_BYTES, Mark, Version, after_ip_header, parse_quoted, request};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::by_hand::probe;

/// Of this machine like all of 127/8, and probed by no other test.
const TARGET: Ipv4Addr = Ipv4Addr::new(127, 0, 77, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 77, 2);
/// The echoes that are answered wrongly too; after them the kernel's answers are alone.
const ANSWERED: usize = 10;

/// `None`: this machine lets us have none.
fn raw(address: Ipv4Addr) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).ok()?;
    socket.bind(&SocketAddr::new(address.into(), 0).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    Some(socket)
}

struct Echo {
    mark: Mark,
    identifier: u16,
    from: SocketAddr,
}

/// The next echo that is asked of the target.
fn asked(mut socket: &Socket) -> Option<Echo> {
    let mut bytes = [0; 256];
    let length = socket.read(&mut bytes).ok()?;
    let from = Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[12..16]).ok()?);
    let message = after_ip_header(&bytes[..length]).ok()?;
    let mark = parse_quoted(Version::V4, message).ok()?;
    let identifier = u16::from_be_bytes([message[4], message[5]]);
    Some(Echo { mark, identifier, from: SocketAddr::new(from.into(), 0) })
}

/// A reply of that length, under a good checksum.
fn reply(mark: Mark, identifier: u16, length: usize) -> Vec<u8> {
    let mut message = request(Version::V4, identifier, mark).to_vec();
    message.resize(length, 0);
    (message[0], message[2], message[3]) = (0, 0, 0);
    let words = message.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    message[2..4].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    message
}

/// Again, cut, grown, to what was not asked, and to another process, which is nobody's business.
fn answer_wrongly(socket: &Socket, stranger: &Socket, echo: &Echo) {
    let Echo { mark, identifier, from } = *echo;
    let unasked = Mark { number: mark.number ^ 1 << 30, ..mark };
    let others = Mark { cookie: !mark.cookie, ..mark };
    for (mark, length) in
        [(mark, ECHO_BYTES), (mark, 40), (mark, 400), (unasked, ECHO_BYTES), (others, ECHO_BYTES), (others, 40)]
    {
        socket.send_to(&reply(mark, identifier, length), &from.into()).unwrap();
    }
    // It has ended by then, and its answer is still a stranger's.
    stranger.send_to(&reply(mark, identifier, ECHO_BYTES), &from.into()).unwrap();
}

#[test]
fn icmp_takes_no_wrong_answer_for_a_reply() {
    let Some((socket, stranger)) = raw(TARGET).zip(raw(STRANGER)) else { return };
    let over = Arc::new(AtomicBool::new(false));
    let stop = over.clone();
    let answering = thread::spawn(move || {
        let mut answered = 0;
        while !stop.load(Ordering::Relaxed) {
            let Some(echo) = asked(&socket).filter(|_| answered < ANSWERED) else { continue };
            answer_wrongly(&socket, &stranger, &echo);
            answered += 1;
        }
    });
    let (told, _) = probe(&["icmp", &TARGET.to_string(), "--count", "40", "--every", "50ms", "--timeout", "10s"]);
    over.store(true, Ordering::Relaxed);
    answering.join().unwrap();
    assert_eq!((&told["sent"], &told["received"], &told["lost"]), (&40.into(), &40.into(), &0.into()), "{told}");
    assert_eq!((&told["errors"], &told["phases"]["rtt"]["count"]), (&json!({}), &40.into()), "{told}");
    let expected = json!({ "double": ANSWERED, "stranger": ANSWERED, "malformed": 2 * ANSWERED, "unasked": ANSWERED });
    assert_eq!(told["noise"], expected, "{told}");
}
