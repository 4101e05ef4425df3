//! The dashboard, as `npm run build` left it in dashboards/web/dist, embedded. Nothing is loaded from another origin, and the
//! page may not even try. A collector that was built without it says how to build it.
//!
//! What stands under `assets/` carries a hash of its content in its name and is kept for good; everything else is asked for
//! each time, by its entity tag.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{Embed, EmbeddedFile};

use crate::problem::{self, Problem};

#[derive(Embed)]
#[folder = "../dashboards/web/dist"]
#[allow_missing = true]
struct Files;

const NOT_BUILT: &str = include_str!("not_built.html");

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
const ASK_EACH_TIME: &str = "no-cache";

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/{file}", get(top)).route("/assets/{file}", get(asset))
}

async fn index(asked: HeaderMap) -> Response {
    let plain = [(header::CONTENT_TYPE, kind("index.html")), (header::CACHE_CONTROL, ASK_EACH_TIME)];
    answer("index.html", &asked).unwrap_or_else(|| (HEADERS, plain, NOT_BUILT).into_response())
}

async fn top(Path(name): Path<String>, asked: HeaderMap) -> Result<Response, Problem> {
    answer(&name, &asked).ok_or_else(|| problem::nothing_at(&format!("/{name}")))
}

async fn asset(Path(name): Path<String>, asked: HeaderMap) -> Result<Response, Problem> {
    let name = format!("assets/{name}");
    answer(&name, &asked).ok_or_else(|| problem::nothing_at(&format!("/{name}")))
}

/// The file, unless who asks has it already; `None`: there is none of this name.
fn answer(name: &str, asked: &HeaderMap) -> Option<Response> {
    let EmbeddedFile { data, metadata } = Files::get(name)?;
    let tag = entity_tag(&metadata.sha256_hash());
    let keep = if name.starts_with("assets/") { FOR_GOOD } else { ASK_EACH_TIME };
    let head = (HEADERS, [(header::CACHE_CONTROL, HeaderValue::from_static(keep)), (header::ETAG, tag.clone())]);
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| *known == tag);
    Some(if known {
        (StatusCode::NOT_MODIFIED, head).into_response()
    } else {
        (head, [(header::CONTENT_TYPE, kind(name))], data).into_response()
    })
}

/// As much of the hash as two builds of a page will ever need to be told apart.
fn entity_tag(hash: &[u8; 32]) -> HeaderValue {
    let print = hash.first_chunk().copied().map_or(0, u64::from_be_bytes);
    HeaderValue::from_str(&format!("\"{print:016x}\"")).unwrap_or(HeaderValue::from_static(""))
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
