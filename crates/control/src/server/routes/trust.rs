//! Who may connect.

use axum::extract::{Path, rejection::PathRejection};
use peerup_types::PeerId;

use crate::{
    api::{AuthAdd, AuthEdit, AuthRow, StatusWord},
    error::ApiError,
    server::{
        answer::{Asked, Node, READ_LIMIT, Reply, Shown, Wanted, done, within},
        endpoint::{Endpoint, Form, Group},
    },
};

pub(super) fn group() -> Group {
    Group::default()
        .on(
            Endpoint::get::<Vec<AuthRow>>("/v1/auth", "The entries of authorized_keys")
                .form(Form::DataOrText),
            list,
        )
        .on(Endpoint::post::<StatusWord>("/v1/auth", "Let a peer connect").takes::<AuthAdd>(), add)
        .on(
            Endpoint::post::<StatusWord>("/v1/auth/{peer_id}", "Set or remove attributes of a peer's entry")
                .takes::<AuthEdit>(),
            edit,
        )
        .on(
            Endpoint::delete::<StatusWord>(
                "/v1/auth/{peer_id}",
                "Stop a peer from connecting and close its connections",
            ),
            remove,
        )
}

async fn list(node: Node, wanted: Wanted) -> Shown<Vec<AuthRow>> {
    wanted.show(within(READ_LIMIT, node.auth_list()).await)
}

async fn add(node: Node, Asked(request): Asked<AuthAdd>) -> Reply<StatusWord> {
    done("added", node.auth_add(request)).await
}

async fn edit(
    node: Node,
    peer: Result<Path<String>, PathRejection>,
    Asked(request): Asked<AuthEdit>,
) -> Reply<StatusWord> {
    done("changed", node.auth_edit(peer_id(peer)?, request)).await
}

async fn remove(node: Node, peer: Result<Path<String>, PathRejection>) -> Reply<StatusWord> {
    done("removed", node.auth_remove(peer_id(peer)?)).await
}

fn peer_id(segment: Result<Path<String>, PathRejection>) -> Result<PeerId, ApiError> {
    let Path(text) = segment.map_err(|error| ApiError::bad_request(error.body_text()))?;
    text.parse().map_err(|_| ApiError::bad_request(format!("`{text}` is not a peer ID")))
}
