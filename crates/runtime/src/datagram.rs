//! Datagrams with what the kernel knows about each: when it came, with which TTL, and which of those that were sent came to
//! nothing.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::Wall;

/// Longer than any packet that probes and reflectors speak: what fills it is none.
const LONGEST: usize = 2048;

/// Asks the kernel to stamp what that socket receives.
pub fn stamp(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(())
}

/// Asks the kernel to tell the TTL, or IPv6's hop limit, of what that socket receives.
pub fn tell_ttl(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
    }
    // A socket of both families tells an IPv4 peer's TTL by this one.
    setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
    Ok(())
}

/// Asks the kernel to keep the errors that come back for what that socket, bound to that address, sends: see [`Inbox::bounce`].
pub fn keep_bounces(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// What came back with an error.
#[derive(Debug)]
pub struct Bounce<'a> {
    /// As much of what was sent as the error tells.
    pub quoted: &'a [u8],
    pub to: SocketAddr,
    pub errno: Errno,
    pub stamped: Option<Wall>,
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
        let (length, from, told) = self.take(socket, MsgFlags::MSG_DONTWAIT)?;
        let from = from.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Datagram { bytes: &self.bytes[..length], from, stamped: told.stamped, ttl: told.ttl })
    }

    /// The next error about something that was sent; `WouldBlock`: there is none now.
    pub fn bounce(&mut self, socket: &impl AsRawFd) -> io::Result<Bounce<'_>> {
        let (length, to, told) = self.take(socket, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE)?;
        let (to, errno) = to.zip(told.errno).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Bounce { quoted: &self.bytes[..length], to, errno, stamped: told.stamped })
    }

    fn take(&mut self, socket: &impl AsRawFd, flags: MsgFlags) -> io::Result<(usize, Option<SocketAddr>, Told)> {
        loop {
            let mut parts = [IoSliceMut::new(&mut *self.bytes)];
            let control = Some(&mut self.control[..]);
            match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, control, flags) {
                Ok(message) => {
                    let told = Told::by(message.cmsgs().into_iter().flatten());
                    return Ok((message.bytes, message.address.and_then(socket_address), told));
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What stands beside a datagram.
#[derive(Debug, Default)]
struct Told {
    stamped: Option<Wall>,
    ttl: Option<u8>,
    errno: Option<Errno>,
}

impl Told {
    fn by(messages: impl Iterator<Item = ControlMessageOwned>) -> Self {
        let mut told = Self::default();
        for message in messages {
            match message {
                ControlMessageOwned::ScmTimestampns(at) => {
                    told.stamped = Some(Wall(telemetry::time::nanos(Duration::from(at))));
                }
                ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                    told.ttl = u8::try_from(hops).ok();
                }
                ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                    told.errno = Some(Errno::from_raw(error.ee_errno.cast_signed()));
                }
                _ => {}
            }
        }
        told
    }
}

impl Default for Inbox {
    fn default() -> Self {
        let control = nix::cmsg_space!(TimeSpec, i32, i32, libc::sock_extended_err, libc::sockaddr_in6);
        Self { bytes: Box::new([0; LONGEST]), control }
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

    #[test]
    fn what_a_closed_port_sends_back_is_told_with_what_was_sent() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        keep_bounces(&socket, socket.local_addr().unwrap()).unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        socket.send_to(b"ping", closed).unwrap();
        Poller::new([socket.as_fd()]).wait(Some(Duration::from_secs(5))).map(drop).unwrap();
        let mut inbox = Inbox::default();
        let bounce = inbox.bounce(&socket).unwrap();
        assert_eq!((bounce.quoted, bounce.to, bounce.errno), (&b"ping"[..], closed, Errno::ECONNREFUSED));
        assert_eq!(inbox.bounce(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
