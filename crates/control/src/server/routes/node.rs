//! What the node knows about itself and its peers.

use axum::extract::{Query, rejection::QueryRejection};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    api::{Overview, PathRow, PeerRow, StatusReport},
    error::ApiError,
    server::{
        answer::{Node, READ_LIMIT, Reply, Shown, Wanted, within},
        endpoint::{Endpoint, Form, Group},
    },
};

pub(super) fn group() -> Group {
    Group::default()
        .on(
            Endpoint::get::<Overview>("/v1/overview", "This node, its peers, its relays and its health"),
            overview,
        )
        .on(
            Endpoint::get::<StatusReport>("/v1/status", "The daemon about itself").form(Form::DataOrText),
            status,
        )
        .on(
            Endpoint::get::<Vec<PeerRow>>("/v1/peers", "Connected hosts")
                .query::<PeersQuery>()
                .form(Form::DataOrText),
            peers,
        )
        .on(Endpoint::get::<Vec<PathRow>>("/v1/paths", "Open paths").form(Form::DataOrText), paths)
}

async fn overview(node: Node) -> Reply<Overview> {
    within(READ_LIMIT, node.overview()).await
}

async fn status(node: Node, wanted: Wanted) -> Shown<StatusReport> {
    wanted.show(within(READ_LIMIT, node.status()).await)
}

#[derive(Deserialize, JsonSchema)]
struct PeersQuery {
    /// Include hosts that are neither peerup nodes nor relays
    #[serde(default)]
    all: bool,
}

async fn peers(
    node: Node,
    wanted: Wanted,
    query: Result<Query<PeersQuery>, QueryRejection>,
) -> Shown<Vec<PeerRow>> {
    let asked = async {
        let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
        within(READ_LIMIT, node.peers(query.all)).await
    };
    wanted.show(asked.await)
}

async fn paths(node: Node, wanted: Wanted) -> Shown<Vec<PathRow>> {
    wanted.show(within(READ_LIMIT, node.paths()).await)
}
