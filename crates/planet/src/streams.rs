//! Serves who comes to the gateways and the CDN edges: a task for each connection. The server's part of the TLS handshake comes a
//! round trip after the client's; a path that goes down resets its connections.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocols::gateway::Kind;
use runtime::Shutdown;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tracing::warn;

use crate::authority::{self, Authority};
use crate::cdn::{self, Cache};
use crate::control::Control;
use crate::counts::Event;
use crate::crossing::Crossings;
use crate::gateway;
use crate::handshakes::Arrival;
use crate::model::{Planet, Service, Target};
use crate::visit::Visit;

/// What serves at one target.
#[derive(Clone)]
struct Server {
    tls: Arc<ServerConfig>,
    speaks: Speaks,
}

#[derive(Clone)]
enum Speaks {
    Gateway(Kind),
    Http(Arc<Mutex<Cache>>),
}

/// Of the targets, in their order.
#[derive(Clone)]
pub struct Servers {
    servers: Vec<Option<Server>>,
}

impl Servers {
    pub fn new(planet: &Planet, authority: &Authority, kind: Kind) -> Result<Self, authority::Error> {
        let server = |target: &Target| {
            let (alpn, speaks) = match target.service {
                Service::Voice => return Ok(None),
                Service::Gateway => (&[][..], Speaks::Gateway(kind)),
                Service::Cdn => (&cdn::ALPN[..], Speaks::Http(Arc::default())),
            };
            Ok(Some(Server { tls: authority.server(target.address, alpn)?, speaks }))
        };
        Ok(Self { servers: planet.targets().iter().map(server).collect::<Result<_, authority::Error>>()? })
    }
}

pub async fn run(
    control: Arc<Control>,
    servers: Servers,
    crossings: Crossings,
    mut arrivals: UnboundedReceiver<Arrival>,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(Arrival { stream, from, target }) = arrivals.recv() => {
                let Some(server) = servers.servers[target.0].clone() else { continue };
                let source = control.planet.source_at(from.ip());
                let visit = Visit::new(Arc::clone(&control), crossings.clone(), source, target);
                match ready(stream) {
                    Ok(stream) => drop(connections.spawn(until_cut(visit, stream, server))),
                    Err(error) => warn!(%from, %error, "connection not served"),
                }
            }
            Some(_) = connections.join_next() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

fn ready(stream: StdTcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}

async fn until_cut(visit: Visit, mut stream: TcpStream, server: Server) {
    let visit = Arc::new(visit);
    tokio::select! {
        () = serve(&visit, &mut stream, server) => {}
        // To close it now is to reset it.
        () = visit.cut() => drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
    }
}

async fn serve(visit: &Arc<Visit>, stream: &mut TcpStream, server: Server) {
    let Ok(hello) = LazyConfigAcceptor::new(Acceptor::default(), stream).await else {
        return visit.count(Event::Connected);
    };
    let mut more = [0];
    tokio::select! {
        () = visit.round_trip() => {}
        // A client has nothing to add before our answer; a handshake for one that has gone would be in the way of others'.
        Ok(0) | Err(_) = hello.io.peek(&mut more) => return,
    }
    let Ok(stream) = hello.into_stream(server.tls).await else { return };
    match server.speaks {
        Speaks::Gateway(kind) => gateway::serve(visit, stream, kind).await,
        Speaks::Http(cache) => cdn::serve(Arc::clone(visit), stream, cache).await,
    }
}
