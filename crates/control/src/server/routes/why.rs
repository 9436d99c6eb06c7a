//! Why packets to a peer take the path they take.

use axum::extract::Path;

use crate::{
    api::{JournalReport, WhyReport},
    server::{
        answer::{Node, READ_LIMIT, Reply, Shown, Wanted, within},
        endpoint::{Endpoint, Form, Group},
    },
};

pub(super) fn group() -> Group {
    Group::default()
        .on(
            Endpoint::get::<WhyReport>("/v1/why/{peer}", "Why packets to a peer take the path they take")
                .form(Form::DataOrText),
            why,
        )
        .on(
            Endpoint::get::<JournalReport>(
                "/v1/why/{peer}/journal",
                "What the choice of path was made from, for a replay",
            ),
            journal,
        )
}

async fn why(node: Node, wanted: Wanted, Path(peer): Path<String>) -> Shown<WhyReport> {
    wanted.show(within(READ_LIMIT, node.why(peer)).await)
}

async fn journal(node: Node, Path(peer): Path<String>) -> Reply<JournalReport> {
    within(READ_LIMIT, node.journal(peer)).await
}
