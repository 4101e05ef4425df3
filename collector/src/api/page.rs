//! The dashboard, embedded. Nothing is loaded from another origin, and the page may not even try.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{Embed, EmbeddedFile};

use crate::problem::{self, Problem};

#[derive(Embed)]
#[folder = "../dashboards/web"]
struct Files;

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
];

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/{file}", get(file))
}

async fn index() -> Result<Response, Problem> {
    file(Path("index.html".to_owned())).await
}

async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    match Files::get(&name) {
        Some(EmbeddedFile { data, .. }) => Ok((HEADERS, [(header::CONTENT_TYPE, kind(&name))], data).into_response()),
        None => Err(problem::nothing_at(&format!("/{name}"))),
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
