//! The description of the API in OpenAPI 3.1, whose schemas are plain JSON Schema.

use axum::Json;
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::server::endpoint::{Endpoint, Form, Group};

const PATH: &str = "/v1/openapi.json";

pub(super) fn group(endpoints: &[Endpoint]) -> Group {
    let description = describe(endpoints);
    Group::default().on(own(), move || std::future::ready(Json(description.clone())))
}

fn own() -> Endpoint {
    Endpoint::get::<Map<String, Value>>(PATH, "This description").form(Form::Document)
}

pub(super) fn describe(endpoints: &[Endpoint]) -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints.iter().chain([&own()]) {
        let operations = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        operations[endpoint.method.as_str().to_lowercase()] = operation(endpoint, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "peerup daemon",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP/1.1 over the unix socket peerup.sock beside the configuration.",
        },
        "security": [{"cookie": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"cookie": {"type": "http", "scheme": "bearer"}},
            "schemas": generator.take_definitions(false),
        },
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": parameters(endpoint, generator),
        "responses": {
            success(endpoint.form): {"description": "done", "content": content(endpoint, generator)},
            "default": {
                "description": "what was attempted and why it failed",
                "content": {"application/json": {"schema": generator.subschema_for::<crate::error::ApiError>()}},
            },
        },
    });
    if let Some(body) = endpoint.body {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": body(generator)}}});
    }
    operation
}

fn success(form: Form) -> &'static str {
    if form == Form::Upgrade { "101" } else { "200" }
}

fn content(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let answer = (endpoint.answer)(generator);
    let envelope = |answer: &Schema| json!({"schema": {"type": "object", "required": ["data"], "properties": {"data": answer}}});
    match endpoint.form {
        Form::Data => json!({"application/json": envelope(&answer)}),
        Form::DataOrText => {
            json!({"application/json": envelope(&answer), "text/plain": {"schema": {"type": "string"}}})
        }
        Form::Lines => json!({"application/x-ndjson": {"schema": answer}}),
        // The answer has no body; the header carries it.
        Form::Upgrade => json!({"application/json": {"schema": answer}}),
        Form::Document => json!({"application/json": {"schema": answer}}),
    }
}

fn parameters(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if endpoint.form == Form::DataOrText {
        parameters.push(json!({"name": "format", "in": "query", "schema": {"enum": ["json", "text"]}}));
    }
    let query = endpoint.query.map(|schema| schema(generator).to_value());
    let properties = query.as_ref().and_then(|schema| schema["properties"].as_object());
    for (name, schema) in properties.into_iter().flatten() {
        parameters.push(json!({"name": name, "in": "query", "schema": schema}));
    }
    parameters
}
