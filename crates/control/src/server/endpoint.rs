//! One table says everything about an endpoint: its route, its handler and its description. The router, the OpenAPI
//! document and the labels that metrics may use are made from it, so none of them can tell a different story.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::runtime::Runtime;

/// What every handler is given.
pub(super) type Shared = Arc<dyn Runtime>;

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The form of a successful answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `{"data": …}`.
    Data,
    /// `{"data": …}`, or lines of text for whoever asks for `text/plain`.
    DataOrText,
    /// One JSON object per line, for as long as the caller listens.
    Lines,
    /// Status 101, and the connection is no HTTP any more.
    Upgrade,
    /// A JSON document without envelope.
    Document,
}

/// How to ask, and what comes back.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) method: Method,
    /// As axum and OpenAPI both write it: `/v1/auth/{peer_id}`.
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) form: Form,
    pub(super) query: Option<SchemaOf>,
    pub(super) body: Option<SchemaOf>,
    pub(super) answer: SchemaOf,
}

impl Endpoint {
    pub(super) fn get<T: JsonSchema>(path: &'static str, summary: &'static str) -> Self {
        Self::new::<T>(Method::GET, path, summary)
    }

    pub(super) fn post<T: JsonSchema>(path: &'static str, summary: &'static str) -> Self {
        Self::new::<T>(Method::POST, path, summary)
    }

    pub(super) fn delete<T: JsonSchema>(path: &'static str, summary: &'static str) -> Self {
        Self::new::<T>(Method::DELETE, path, summary)
    }

    fn new<T: JsonSchema>(method: Method, path: &'static str, summary: &'static str) -> Self {
        let answer = |generator: &mut SchemaGenerator| generator.subschema_for::<T>();
        Self { method, path, summary, form: Form::Data, query: None, body: None, answer }
    }

    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(|generator| generator.subschema_for::<T>()), ..self }
    }

    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(|generator| T::json_schema(generator)), ..self }
    }

    pub(super) fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    fn filter(&self) -> MethodFilter {
        MethodFilter::try_from(self.method.clone()).expect("get, post and delete have filters")
    }
}

/// The endpoints of one subject.
#[derive(Default)]
pub(super) struct Group {
    router: Router<Shared>,
    endpoints: Vec<Endpoint>,
}

impl Group {
    pub(super) fn on<H, T>(mut self, endpoint: Endpoint, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        self.router = self.router.route(endpoint.path, on(endpoint.filter(), handler));
        self.endpoints.push(endpoint);
        self
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.endpoints.extend(other.endpoints);
        Self { router: self.router.merge(other.router), endpoints: self.endpoints }
    }

    pub(super) fn into_parts(self) -> (Router<Shared>, Vec<Endpoint>) {
        (self.router, self.endpoints)
    }
}
