//! A gateway: one WebSocket on each connection. Its messages are those of [`protocols::gateway`]; here they only get their time.
//!
//! The 101 and every answer to a heartbeat come after a round trip of their own, in the order of what they answer; HELLO comes
//! right after the 101.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesOrdered;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocols::gateway::{self, Answer, Close, Hello, Kind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::counts::Event;
use crate::model::Service;
use crate::visit::Visit;

/// As chat gateways have it.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(41_250);
/// Longer than the longest text for which the protocol has a close code of its own.
const LONGEST_MESSAGE: usize = 64 << 10;

pub async fn serve(visit: &Visit, stream: impl AsyncRead + AsyncWrite + Unpin, kind: Kind) {
    let upgraded = AtomicBool::new(false);
    let service = service_fn(|request| upgrade(visit, request, &upgraded));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).without_shutdown().await;
    let Ok(parts) = served else { return };
    if !upgraded.load(Ordering::Relaxed) {
        return;
    }
    let config = WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE));
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.into());
    let socket = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
    // However it ends, it is the client's to tell.
    converse(visit, socket, kind).await.ok();
}

async fn upgrade(
    visit: &Visit,
    request: Request<Incoming>,
    upgraded: &AtomicBool,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    if visit.is_first() {
        visit.count(Event::Secured(Service::Gateway));
    }
    visit.round_trip().await;
    let Ok(response) = create_response_with_body(&request, Empty::new) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::UPGRADE_REQUIRED;
        refusal.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Ok(refusal);
    };
    upgraded.store(true, Ordering::Relaxed);
    visit.count(Event::Upgraded);
    Ok(response)
}

async fn converse<S>(visit: &Visit, mut socket: WebSocketStream<S>, kind: Kind) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = Hello { heartbeat_interval: HEARTBEAT_INTERVAL, trace: vec![visit.path().target.id.to_string()] };
    socket.send(Message::text(hello.text())).await?;
    visit.count(Event::Greeted);

    let mut patience = pin!(patience(kind));
    let mut answers = FuturesOrdered::new();
    loop {
        tokio::select! {
            Some(answer) = answers.next() => match answer {
                Answer::Ack => {
                    socket.send(Message::text(gateway::ack())).await?;
                    visit.count(Event::Beaten);
                }
                Answer::Close(why) => return close(socket, why).await,
            },
            said = socket.next() => match said.transpose()? {
                None => return Ok(()),
                Some(Message::Text(text)) => {
                    let (round_trip, answer) = (visit.round_trip(), gateway::answer(&text, kind));
                    answers.push_back(async move {
                        round_trip.await;
                        answer
                    });
                }
                // The socket has its pong ready, and sends it with the next thing that it does.
                Some(Message::Ping(_)) => {
                    visit.round_trip().await;
                    socket.flush().await?;
                    visit.count(Event::Beaten);
                }
                Some(_) => {}
            },
            () = &mut patience => return close(socket, Close::TimedOut).await,
        }
    }
}

async fn patience(kind: Kind) {
    match kind.patience() {
        Some(patience) => tokio::time::sleep(patience).await,
        None => pending().await,
    }
}

/// Says why, and waits for the client to hang up.
async fn close<S>(mut socket: WebSocketStream<S>, why: Close) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.close(Some(CloseFrame { code: why.code().into(), reason: "".into() })).await?;
    while socket.next().await.transpose()?.is_some() {}
    Ok(())
}
