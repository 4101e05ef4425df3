//! `GET /openapi.json`: what is answered here, told by those who answer it. What holds for all of them is written here: what
//! may be `null` is there all the same, what fails answers a problem document, and a parameter is left out, never `null`.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::schema::{Array, Object, Schema, SchemaType, Type};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::{agents, alerts, paths, regions, stream};
use crate::hints::HintDocument;
use crate::problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Isochrone",
        description = "Region health and routing hints. Names carry their units, ratios are 0–1, times are RFC 3339 in UTC; \
            a quantile of nothing is null, and what is unknown is never healthy.",
    ),
    components(schemas(
        agents::Item,
        paths::Item,
        regions::Item,
        stream::Cell,
        problem::Document<'_>,
        stream::Document<regions::Item>,
        stream::Document<stream::Cell>,
        stream::Document<HintDocument>,
        stream::Document<alerts::AlertItem>,
    ))
)]
struct Head;

/// The document, rendered.
#[derive(Clone)]
pub(super) struct Document(Bytes);

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "readOpenApi", responses((status = 200, body = Object)))]
pub(super) async fn read(State(Document(text)): State<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// Serves routes together with their document.
pub(super) fn serve(routes: OpenApiRouter<Document>) -> Router {
    let (router, described) = routes.split_for_parts();
    let mut document = Head::openapi();
    document.merge(described);
    complete(&mut document);
    // It is text, lists and numbers, which is all that JSON asks.
    let text = document.to_json().unwrap_or_default();
    router.with_state(Document(text.into()))
}

/// Of what has a name of its own. (A generic type's derive would write it out where it is used.)
pub(super) fn array_of<T: ToSchema>() -> Array {
    Array::new(Ref::from_schema_name(T::name()))
}

fn complete(document: &mut utoipa::openapi::OpenApi) {
    document.components.iter_mut().flat_map(|components| components.schemas.values_mut()).for_each(require_nullable);
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete];
        operations.into_iter().flatten().for_each(complete_operation);
    }
}

fn complete_operation(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(object))), .. }) = parameter {
            object.schema_type = without_null(&object.schema_type);
        }
    }
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(Response { description, .. }) = answer
            && description.is_empty()
        {
            "What was asked for.".clone_into(description);
        }
    }
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let problem = Response::builder().description("What went wrong.").content("application/problem+json", problem);
    operation.responses.responses.insert("default".to_owned(), problem.build().into());
}

fn require_nullable(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let nullable = object.properties.iter().filter(|(_, property)| is_nullable(property));
            object.required.extend(nullable.map(|(name, _)| name.clone()));
        }
        RefOr::T(Schema::AllOf(parts)) => parts.items.iter_mut().for_each(require_nullable),
        _ => {}
    }
}

fn is_nullable(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(Object { schema_type, .. }) | Schema::Array(Array { schema_type, .. })) => {
            match schema_type {
                SchemaType::Array(types) => types.contains(&Type::Null),
                SchemaType::Type(kind) => *kind == Type::Null,
                SchemaType::AnyValue => false,
            }
        }
        RefOr::T(Schema::OneOf(parts)) => parts.items.iter().any(is_nullable),
        _ => false,
    }
}

fn without_null(kind: &SchemaType) -> SchemaType {
    match kind {
        SchemaType::Array(types) => types.iter().find(|kind| **kind != Type::Null).cloned().unwrap_or_default().into(),
        other => other.clone(),
    }
}
