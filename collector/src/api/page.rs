//! The dashboard, as `npm run build` left it in dashboards/web/dist, embedded. Nothing is loaded from another origin, and the
//! page may not even try. A collector that was built without it says how to build it.
//!
//! What stands under `assets/` carries a hash of its content in its name and is kept for good; everything else is asked for
//! each time, by its entity tag. Who takes gzip gets gzip: the script is a third of its size.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{Embed, EmbeddedFile};

use crate::problem::{self, Problem};

#[derive(Embed)]
#[folder = "../dashboards/web/dist"]
#[allow_missing = true]
struct Files;

/// Every file, packed once.
static PACKED: LazyLock<BTreeMap<String, Bytes>> = LazyLock::new(|| {
    let files = Files::iter().filter_map(|name| Some((name.to_string(), Files::get(&name)?)));
    files.filter_map(|(name, file)| Some((name, pack(&file.data).ok()?.into()))).collect()
});

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
    let packed = PACKED.get(name).filter(|_| mentions(asked, &header::ACCEPT_ENCODING, "gzip"));
    let tag = entity_tag(&metadata.sha256_hash(), packed.is_some());
    let keep = if name.starts_with("assets/") { FOR_GOOD } else { ASK_EACH_TIME };
    let head = [(header::CACHE_CONTROL, keep), (header::VARY, "accept-encoding"), (header::ETAG, tag.as_str())];
    if mentions(asked, &header::IF_NONE_MATCH, &tag) {
        return Some((StatusCode::NOT_MODIFIED, HEADERS, head).into_response());
    }
    let kind = [(header::CONTENT_TYPE, kind(name))];
    Some(match packed {
        Some(packed) => (HEADERS, head, kind, [(header::CONTENT_ENCODING, "gzip")], packed.clone()).into_response(),
        None => (HEADERS, head, kind, data).into_response(),
    })
}

fn mentions(asked: &HeaderMap, header: &HeaderName, word: &str) -> bool {
    asked.get(header).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(word))
}

fn pack(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data)?;
    encoder.finish()
}

/// As much of the hash as two builds of a page will ever need to be told apart; each coding has its own.
fn entity_tag(hash: &[u8; 32], packed: bool) -> String {
    let print = hash.first_chunk().copied().map_or(0, u64::from_be_bytes);
    format!("\"{print:016x}{}\"", if packed { "-gzip" } else { "" })
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
