//! The collector's door for agents: it stands behind the router, and what comes through it goes on to where the collector
//! listens. Who does not find the collector there is reset.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::time::Duration;

use runtime::Shutdown;
use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub async fn run(listener: StdTcpListener, collector: SocketAddr, shutdown: Shutdown) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // One that is gone again is no fault of ours.
                let Ok((agent, _)) = accepted else { continue };
                connections.spawn(pass(agent, collector));
            }
            Some(_) = connections.join_next() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

async fn pass(mut agent: TcpStream, collector: SocketAddr) {
    let passed = async {
        let mut onward = TcpStream::connect(collector).await?;
        agent.set_nodelay(true)?;
        onward.set_nodelay(true)?;
        copy_bidirectional(&mut agent, &mut onward).await
    };
    if passed.await.is_err() {
        // To close it now is to reset it.
        drop(SockRef::from(&agent).set_linger(Some(Duration::ZERO)));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::TcpStream;
    use std::thread;

    use super::*;

    /// A relay to that address, and what comes of asking through it.
    fn ask(collector: SocketAddr) -> io::Result<String> {
        let door = StdTcpListener::bind("127.0.0.1:0")?;
        let address = door.local_addr()?;
        let (shutdown, tokio) = (Shutdown::new(), tokio::runtime::Runtime::new()?);
        let _entered = tokio.enter();
        let relay = JoinSet::from_iter([run(door, collector, shutdown.clone())]);
        let mut agent = TcpStream::connect(address)?;
        let answer = agent.write_all(b"ping").and_then(|()| agent.shutdown(std::net::Shutdown::Write));
        let answer = answer.and_then(|()| io::read_to_string(&mut agent));
        shutdown.cancel();
        tokio.block_on(relay.join_all());
        answer
    }

    #[test]
    fn what_is_said_reaches_the_collector_and_its_answer_comes_back() {
        let collector = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let address = collector.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = collector.accept().unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            stream.write_all(format!("{said} pong").as_bytes()).unwrap();
        });
        assert_eq!(ask(address).unwrap(), "ping pong");
        answering.join().unwrap();
    }

    #[test]
    fn where_there_is_no_collector_who_comes_is_reset() {
        let closed = StdTcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let kind = ask(closed).unwrap_err().kind();
        // Whether it is noticed while writing or while reading.
        assert!(
            matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected),
            "{kind:?}"
        );
    }
}
