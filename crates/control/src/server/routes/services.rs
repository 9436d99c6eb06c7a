//! Services of this node, and proxies to those of others.

use axum::extract::Path;

use crate::{
    api::{ConnectReport, ConnectRequest, ExposeRequest, ProxyRow, ServiceRow, StatusWord},
    server::{
        answer::{Asked, Node, READ_LIMIT, Reply, Shown, WRITE_LIMIT, Wanted, done, within},
        endpoint::{Endpoint, Form, Group},
    },
};

pub(super) fn group() -> Group {
    Group::default()
        .on(
            Endpoint::get::<Vec<ServiceRow>>("/v1/services", "Services this node offers")
                .form(Form::DataOrText),
            services,
        )
        .on(
            Endpoint::post::<StatusWord>("/v1/expose", "Offer a service, until the daemon stops or for good")
                .takes::<ExposeRequest>(),
            expose,
        )
        .on(
            Endpoint::delete::<StatusWord>("/v1/expose/{name}", "Withdraw a service that was exposed"),
            unexpose,
        )
        .on(
            Endpoint::get::<Vec<ProxyRow>>("/v1/connect", "Proxies to services of peers")
                .form(Form::DataOrText),
            proxies,
        )
        .on(
            Endpoint::post::<ConnectReport>("/v1/connect", "Listen here for a service of a peer")
                .takes::<ConnectRequest>(),
            connect,
        )
        .on(
            Endpoint::delete::<StatusWord>("/v1/connect/{id}", "Stop listening; open connections go on"),
            disconnect,
        )
}

async fn services(node: Node, wanted: Wanted) -> Shown<Vec<ServiceRow>> {
    wanted.show(within(READ_LIMIT, node.services()).await)
}

async fn expose(node: Node, Asked(request): Asked<ExposeRequest>) -> Reply<StatusWord> {
    done("exposed", node.expose(request)).await
}

async fn unexpose(node: Node, Path(name): Path<String>) -> Reply<StatusWord> {
    done("unexposed", node.unexpose(name)).await
}

async fn proxies(node: Node, wanted: Wanted) -> Shown<Vec<ProxyRow>> {
    wanted.show(within(READ_LIMIT, node.proxies()).await)
}

async fn connect(node: Node, Asked(request): Asked<ConnectRequest>) -> Reply<ConnectReport> {
    within(WRITE_LIMIT, node.connect(request)).await
}

async fn disconnect(node: Node, Path(id): Path<String>) -> Reply<StatusWord> {
    done("disconnected", node.disconnect(id)).await
}
