//! Who may connect.

use axum::extract::Path;

use crate::{
    api::{AuthAdd, AuthRow, StatusWord},
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

async fn remove(node: Node, Path(peer): Path<String>) -> Reply<StatusWord> {
    let peer = peer.parse().map_err(|_| ApiError::bad_request(format!("`{peer}` is not a peer ID")))?;
    done("removed", node.auth_remove(peer)).await
}
