//! Waits that end on time, for a thread that owns its clock and its sockets. Tokio's sleeps overrun by a millisecond or two;
//! these by some ten microseconds.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;

/// Asks the kernel to wake the calling thread when its waits end, not up to 50 µs later.
pub fn fine_timers() -> io::Result<()> {
    Ok(prctl::set_timerslack(1)?)
}

/// A fixed set of descriptors that one thread waits on.
#[derive(Debug)]
pub struct Poller<'fd> {
    fds: Vec<PollFd<'fd>>,
}

impl<'fd> Poller<'fd> {
    pub fn new(fds: impl IntoIterator<Item = BorrowedFd<'fd>>) -> Self {
        Self { fds: fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect() }
    }

    /// Waits until a descriptor has something to read, an error included, or `timeout` has passed: `None` is for ever, zero
    /// only looks. Answers which, by their place in the set. A signal ends the wait early, with none.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = usize>> {
        let count = match ppoll(&mut self.fds, timeout.map(TimeSpec::from_duration), None) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        // After a signal the kernel has not written the results: those of the last wait still stand there.
        let fds = if count > 0 { self.fds.as_slice() } else { &[] };
        Ok(fds.iter().enumerate().filter(|(_, fd)| fd.any().unwrap_or(true)).map(|(place, _)| place))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;
    use crate::Clock;

    #[test]
    fn a_wait_names_the_sockets_with_something_to_read() {
        let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut poller = Poller::new(sockets.iter().map(AsFd::as_fd));
        sockets[0].send_to(b"ping", sockets[2].local_addr().unwrap()).unwrap();
        assert_eq!(poller.wait(None).unwrap().collect::<Vec<_>>(), [2]);
        sockets[2].recv(&mut [0; 8]).unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap().count(), 0);
    }

    #[test]
    fn a_wait_for_nothing_ends_no_sooner_than_it_should() {
        fine_timers().unwrap();
        let clock = Clock::start();
        assert_eq!(Poller::new([]).wait(Some(Duration::from_micros(700))).unwrap().count(), 0);
        assert!(clock.mono() >= crate::Mono(700_000));
    }
}
