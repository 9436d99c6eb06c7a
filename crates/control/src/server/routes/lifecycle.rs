//! Interface and process.

use crate::{
    api::{DownReport, StatusWord, UpReport},
    server::{
        answer::{Node, Reply, WRITE_LIMIT, done, within},
        endpoint::{Endpoint, Group},
    },
};

pub(super) fn group() -> Group {
    Group::default()
        .on(
            Endpoint::post::<StatusWord>("/v1/reload", "Read configuration and authorized_keys again"),
            reload,
        )
        .on(Endpoint::post::<UpReport>("/v1/up", "Bring the interface up"), up)
        .on(Endpoint::post::<DownReport>("/v1/down", "Take interface, routes and names away"), down)
        .on(Endpoint::post::<StatusWord>("/v1/shutdown", "Stop the daemon"), shutdown)
}

async fn reload(node: Node) -> Reply<StatusWord> {
    done("reloaded", node.reload()).await
}

async fn up(node: Node) -> Reply<UpReport> {
    within(WRITE_LIMIT, node.up()).await
}

async fn down(node: Node) -> Reply<DownReport> {
    within(WRITE_LIMIT, node.down()).await
}

async fn shutdown(node: Node) -> Reply<StatusWord> {
    done("shutting down", node.shutdown()).await
}
