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
