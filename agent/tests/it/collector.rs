//! A collector made of a script: what it answers, and all that it was sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Router, serve};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    /// When it is through, everything is taken.
    script: VecDeque<Answer>,
    requests: Vec<Request>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Collector {
    /// Listens on a free port until the set is dropped; answers its URL.
    pub(crate) async fn listen(&self, tasks: &mut JoinSet<()>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/metrics", post(take)).with_state(self.clone());
        tasks.spawn(async move { serve(listener, app).await.unwrap() });
        url
    }

    pub(crate) fn will_answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.0.lock().unwrap().script.extend(answers);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.0.lock().unwrap().requests.clone()
    }
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: &[], body: Vec::new() }
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> Response {
    let mut book = collector.0.lock().unwrap();
    book.requests.push(Request { headers, body });
    let Answer { status, headers, body } = book.script.pop_front().unwrap_or_else(|| Answer::status(200));
    let headers = headers.to_vec();
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// Waits for a condition; says what was missing when it does not come.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("{what}: not within 30 s"));
}
