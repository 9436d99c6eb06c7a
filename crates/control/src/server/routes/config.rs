//! The configuration of the running node.

use crate::{
    api::ConfigReport,
    server::{
        answer::{Node, READ_LIMIT, Reply, within},
        endpoint::{Endpoint, Group},
    },
};

pub(super) fn group() -> Group {
    Group::default()
        .on(Endpoint::get::<ConfigReport>("/v1/config", "The configuration the node follows"), config)
}

async fn config(node: Node) -> Reply<ConfigReport> {
    within(READ_LIMIT, node.config()).await
}
