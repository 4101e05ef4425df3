//! UDP with what the kernel knows about each datagram: when it came, and with which TTL.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::Wall;

/// Longer than any packet that probes and reflectors speak: what fills it is none.
const LONGEST: usize = 2048;

/// Asks the kernel to stamp what that socket receives.
pub fn stamp(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &true)?)
}

/// Asks the kernel to tell the TTL, or IPv6's hop limit, of what that socket receives.
pub fn tell_ttl(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
    }
    // A socket of both families tells an IPv4 peer's TTL by this one.
    Ok(setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?)
}

#[derive(Debug)]
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    pub from: SocketAddr,
    /// By the wall clock: a clock that was set meanwhile shows here.
    pub stamped: Option<Wall>,
    pub ttl: Option<u8>,
}

/// Where datagrams are received, one after the other.
#[derive(Debug)]
pub struct Inbox {
    bytes: Box<[u8; LONGEST]>,
    control: Vec<u8>,
}

impl Inbox {
    /// The next one; `WouldBlock`: there is none now.
    pub fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<Datagram<'_>> {
        let (length, address, stamped, ttl) = loop {
            let mut parts = [IoSliceMut::new(&mut *self.bytes)];
            let control = Some(&mut self.control[..]);
            match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, control, MsgFlags::MSG_DONTWAIT) {
                Ok(message) => {
                    let (mut stamped, mut ttl) = (None, None);
                    for told in message.cmsgs().into_iter().flatten() {
                        match told {
                            ControlMessageOwned::ScmTimestampns(at) => {
                                stamped = Some(Wall(telemetry::time::nanos(Duration::from(at))));
                            }
                            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                                ttl = u8::try_from(hops).ok();
                            }
                            _ => {}
                        }
                    }
                    break (message.bytes, message.address, stamped, ttl);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let from = address.and_then(socket_address).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Datagram { bytes: &self.bytes[..length], from, stamped, ttl })
    }
}

impl Default for Inbox {
    fn default() -> Self {
        // Both families' TTL: a socket of both may tell either.
        Self { bytes: Box::new([0; LONGEST]), control: nix::cmsg_space!(TimeSpec, i32, i32) }
    }
}

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|&address| SocketAddrV4::from(address).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|&address| SocketAddrV6::from(address).into()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::Clock;
    use crate::timer::Poller;

    fn received(listen: &str) -> Option<(Vec<u8>, bool, bool, Option<u8>)> {
        let socket = UdpSocket::bind(listen).ok()?;
        let address = socket.local_addr().unwrap();
        stamp(&socket).unwrap();
        tell_ttl(&socket, address).unwrap();
        let sender = UdpSocket::bind(listen).unwrap();
        let (clock, mut inbox) = (Clock::start(), Inbox::default());
        assert_eq!(inbox.receive(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let before = clock.wall();
        sender.send_to(b"ping", address).unwrap();
        Poller::new([socket.as_fd()]).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
        let datagram = inbox.receive(&socket).unwrap();
        let stamped = datagram.stamped.is_some_and(|at| before <= at && at <= clock.wall());
        Some((datagram.bytes.to_vec(), datagram.from == sender.local_addr().unwrap(), stamped, datagram.ttl))
    }

    #[test]
    fn a_datagram_comes_with_its_sender_its_stamp_and_its_ttl_over_either_family() {
        let expected = (b"ping".to_vec(), true, true, Some(64));
        assert_eq!(received("127.0.0.1:0"), Some(expected.clone()));
        if let Some(over_ipv6) = received("[::1]:0") {
            assert_eq!(over_ipv6, expected);
        }
    }
}
