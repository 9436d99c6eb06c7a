//! Inviting and joining.

use std::time::Duration;

use axum::response::Response;

use crate::{
    api::{InviteEvent, InviteRequest, JoinReport, JoinRequest},
    error::ApiError,
    server::{
        answer::{Asked, Node, Reply, bounded, lines, within},
        endpoint::{Endpoint, Form, Group},
    },
};

/// Opening an invite reaches a relay; joining also finds the inviter there.
const PAIRING_LIMIT: Duration = Duration::from_secs(90);

pub(super) fn group() -> Group {
    Group::default()
        .on(
            Endpoint::post::<InviteEvent>("/v1/invite", "Open an invite; hanging up withdraws it")
                .takes::<InviteRequest>()
                .form(Form::Lines),
            invite,
        )
        .on(
            Endpoint::post::<JoinReport>("/v1/join", "Pair with the machine that made the code")
                .takes::<JoinRequest>(),
            join,
        )
}

async fn invite(node: Node, Asked(request): Asked<InviteRequest>) -> Result<Response, ApiError> {
    bounded(PAIRING_LIMIT, node.invite(request)).await.map(lines)
}

async fn join(node: Node, Asked(request): Asked<JoinRequest>) -> Reply<JoinReport> {
    within(PAIRING_LIMIT, node.join(request)).await
}
