//! What happens, as it happens.

use axum::response::Response;

use crate::{
    api::Event,
    error::ApiError,
    server::{
        answer::{Node, READ_LIMIT, bounded, lines},
        endpoint::{Endpoint, Form, Group},
    },
};

pub(super) fn group() -> Group {
    Group::default().on(
        Endpoint::get::<Event>("/v1/events", "Path changes, peers, relays and health as they happen")
            .form(Form::Lines),
        events,
    )
}

async fn events(node: Node) -> Result<Response, ApiError> {
    bounded(READ_LIMIT, node.events()).await.map(lines)
}
