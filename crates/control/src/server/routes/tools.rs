//! Measuring, and looking things up.

use std::time::Duration;

use crate::{
    api::{
        NetcheckReport, PingReport, PingRequest, ResolveReport, ResolveRequest, TraceReport, TraceRequest,
    },
    server::{
        answer::{Asked, Node, READ_LIMIT, Shown, Wanted, within},
        endpoint::{Endpoint, Form, Group},
    },
};

/// Relays that are gone take six seconds to be found out, names included.
const NETCHECK_LIMIT: Duration = Duration::from_secs(20);
/// A ping may have to connect first.
const PING_MARGIN: Duration = Duration::from_secs(30);

pub(super) fn group() -> Group {
    Group::default()
        .on(
            Endpoint::post::<PingReport>("/v1/ping", "Round trips to a peer, and the path each one took")
                .takes::<PingRequest>()
                .form(Form::DataOrText),
            ping,
        )
        .on(
            Endpoint::post::<TraceReport>("/v1/traceroute", "The machines that packets to a peer pass")
                .takes::<TraceRequest>()
                .form(Form::DataOrText),
            trace,
        )
        .on(
            Endpoint::post::<ResolveReport>("/v1/resolve", "The peer behind a name, an address or an ID")
                .takes::<ResolveRequest>()
                .form(Form::DataOrText),
            resolve,
        )
        .on(
            Endpoint::get::<NetcheckReport>("/v1/netcheck", "What kind of network the node is on")
                .form(Form::DataOrText),
            netcheck,
        )
}

async fn ping(node: Node, wanted: Wanted, Asked(request): Asked<PingRequest>) -> Shown<PingReport> {
    let request = request.normalised();
    let run = Duration::from_millis(request.interval_ms) * request.count;
    wanted.show(within(run + PING_MARGIN, node.ping(request)).await)
}

async fn netcheck(node: Node, wanted: Wanted) -> Shown<NetcheckReport> {
    wanted.show(within(NETCHECK_LIMIT, node.netcheck()).await)
}

async fn trace(node: Node, wanted: Wanted, Asked(request): Asked<TraceRequest>) -> Shown<TraceReport> {
    wanted.show(within(PING_MARGIN, node.trace(request)).await)
}

async fn resolve(node: Node, wanted: Wanted, Asked(request): Asked<ResolveRequest>) -> Shown<ResolveReport> {
    wanted.show(within(READ_LIMIT, node.resolve(request)).await)
}
