//! Errors as RFC 9457 problem documents: a stable code and a message for the caller. The cause goes to the log only.

use axum::Json;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
    /// When it may pass.
    pub retry_after_s: Option<u32>,
}

/// RFC 9457.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    /// What was wrong, for people.
    detail: &'a str,
    /// What was wrong, for programs: it stays the same from release to release.
    code: &'a str,
}

impl Problem {
    #[expect(clippy::needless_pass_by_value, reason = "text or an error, whichever the caller has")]
    pub fn new(status: StatusCode, code: &'static str, detail: impl ToString) -> Self {
        Self { status, code, detail: detail.to_string(), retry_after_s: None }
    }

    /// An unknown name; says which are known.
    pub fn unknown<T: ToString>(code: &'static str, name: &str, known: impl IntoIterator<Item = T>) -> Self {
        let known: Vec<_> = known.into_iter().map(|name| name.to_string()).collect();
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        Self::new(StatusCode::NOT_FOUND, code, format!("\"{name}\" is not known; known: {known}"))
    }

    pub fn bad_query(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "query", detail)
    }

    /// A question that is well formed and cannot be answered as it is.
    pub fn unanswerable(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "range", detail)
    }

    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("urn:isochrone:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub(crate) async fn not_found(uri: Uri) -> Problem {
    nothing_at(uri.path())
}

pub(crate) fn nothing_at(path: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-page", format!("nothing is at {path}"))
}

pub(crate) async fn wrong_method(uri: Uri) -> Problem {
    let detail = format!("{} does not take this method", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
}
