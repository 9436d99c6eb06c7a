//! `peerup ping`: one request per round trip, so that every answer is shown as it comes and Ctrl-C gets its summary.
//! Without a daemon a node in this process asks, and what is printed has the same shape.

use std::time::Duration;

use peerup_control::{
    Runtime,
    api::{OverviewClass, PingReply, PingReport, PingRequest, PingStats, Row},
};
use peerup_trust::authorized_keys::AuthorizedKeys;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    Context, block_on,
    local::{Purpose, with_runtime},
};
use crate::{
    args::Ping,
    failure::{Exit, Failure},
    place::{NodeFiles, read_keys_text},
    render::{name_of, path, short_id},
};

/// Replies that the statistics remember; a run that goes on for days keeps the latest.
const MAX_REPLIES: usize = 100_000;
/// How often `--until-direct` tries when nobody says how often.
const UNTIL_DIRECT: u32 = 30;

pub fn run(context: &Context, args: &Ping) -> Result<Exit, Failure> {
    check(args)?;
    let node = context.place.load_node()?;
    let replies = block_on(with_runtime(&node, Purpose::Visit, async |runtime| {
        ping(context, args, limit(args), &node, runtime).await
    }))?;
    finish(context, args, &replies)
}

/// `peerup daemon ping`: asks the daemon or nobody, and ends by itself.
pub fn through_daemon(context: &Context, args: &Ping) -> Result<Exit, Failure> {
    check(args)?;
    let count = if args.count == 0 { PingRequest::DEFAULT_COUNT } else { args.count };
    let replies = block_on(async {
        let client = context.place.daemon().await?;
        ping(context, args, count, &context.place.load_node()?, &client).await
    })?;
    finish(context, args, &replies)
}

fn check(args: &Ping) -> Result<(), Failure> {
    match args.interval < Duration::from_millis(10) {
        true => Err(Failure::usage("the interval is at least 10ms")),
        false => Ok(()),
    }
}

/// 0: until Ctrl-C.
fn limit(args: &Ping) -> u32 {
    if args.until_direct && args.count == 0 { UNTIL_DIRECT } else { args.count }
}

async fn ping(
    context: &Context,
    args: &Ping,
    count: u32,
    node: &NodeFiles,
    runtime: &dyn Runtime,
) -> Result<Vec<PingReply>, Failure> {
    let mut replies: Vec<PingReply> = Vec::new();
    let mut ticks = interval_at(Instant::now(), args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seq = 0;
    while count == 0 || seq < count {
        seq += 1;
        let once = async {
            ticks.tick().await;
            runtime.ping(request(args)).await
        };
        let report = tokio::select! {
            report = once => report?,
            _ = tokio::signal::ctrl_c() => break,
        };
        if seq == 1 {
            header(context, args, node, &report)?;
        }
        let Some(reply) = report.results.first().map(|reply| PingReply { seq, ..reply.clone() }) else {
            continue;
        };
        show(context, args, &reply, replies.last())?;
        if replies.len() == MAX_REPLIES {
            replies.remove(0);
        }
        let enough = args.until_direct && is_direct(&reply);
        replies.push(reply);
        if enough {
            break;
        }
    }
    Ok(replies)
}

fn finish(context: &Context, args: &Ping, replies: &[PingReply]) -> Result<Exit, Failure> {
    let stats = PingStats::of(replies);
    summary(context, args, &stats)?;
    Ok(match stats.received {
        0 => Exit::Failure,
        _ if args.until_direct && !replies.last().is_some_and(is_direct) => Exit::Degraded,
        _ => Exit::Ok,
    })
}

fn request(args: &Ping) -> PingRequest {
    PingRequest { peer: args.peer.clone(), count: 1, interval_ms: 1 }
}

fn header(context: &Context, args: &Ping, node: &NodeFiles, report: &PingReport) -> Result<(), Failure> {
    if args.json {
        return Ok(());
    }
    let name = name_of(report.name.as_deref(), &report.peer_id);
    let address = report.address.map_or_else(|| short_id(&report.peer_id), |address| address.to_string());
    context.terminal.note(format_args!("PING {name} ({address}){}", badge(node, report)))
}

/// Whether somebody compared the short string with the peer's owner.
fn badge(node: &NodeFiles, report: &PingReport) -> &'static str {
    let Ok(text) = read_keys_text(&node.config.security.authorized_keys_file) else { return "" };
    let (keys, _) = AuthorizedKeys::parse_lenient(&text);
    match keys.get(&report.peer_id).map(|entry| entry.verified().is_some()) {
        Some(true) => " [VERIFIED]",
        Some(false) => " [UNVERIFIED]",
        None => "",
    }
}

fn show(
    context: &Context,
    args: &Ping,
    reply: &PingReply,
    before: Option<&PingReply>,
) -> Result<(), Failure> {
    if args.json {
        let line = serde_json::to_string(reply).expect("replies have string keys only");
        return context.terminal.line(line);
    }
    context.terminal.line(text(reply, before))
}

fn text(reply: &PingReply, before: Option<&PingReply>) -> String {
    let mut line = reply.line();
    if let Some(via) = &reply.via {
        line.push_str(&format!(" via {}", path::words(Some(via), short_id)));
        let endpoint = via.addr.as_deref().and_then(path::endpoint);
        line.extend(endpoint.map(|endpoint| format!(" {endpoint}")));
    }
    if is_upgrade(reply, before) {
        line.push_str(" (upgraded)");
    }
    line
}

/// The first direct answer after relayed ones.
fn is_upgrade(reply: &PingReply, before: Option<&PingReply>) -> bool {
    let relayed = |reply: &PingReply| reply.via.is_some() && !is_direct(reply);
    is_direct(reply) && before.is_some_and(relayed)
}

fn is_direct(reply: &PingReply) -> bool {
    reply.via.as_ref().is_some_and(|via| via.class == OverviewClass::Direct)
}

fn summary(context: &Context, args: &Ping, stats: &PingStats) -> Result<(), Failure> {
    if args.json {
        return context
            .terminal
            .line(serde_json::to_string(stats).expect("statistics have string keys only"));
    }
    context.terminal.line(format_args!("--- {} ping statistics ---", args.peer))?;
    context.terminal.line(stats.line())
}

#[cfg(test)]
mod tests {
    use peerup_control::api::{PathOverview, Timestamp};
    use peerup_types::{CarrierKind, Family, PathClass, PathKind, PeerId};

    use super::*;

    #[test]
    fn an_answer_names_its_path_and_the_switch_to_a_direct_one() {
        let relayed = reply(1, PathClass::Relay, "/ip4/203.0.113.9/tcp/7777");
        let direct = reply(2, PathClass::Direct, "/ip6/2001:db8::2/udp/41000/quic-v1");
        assert_eq!(
            text(&relayed, None),
            "seq=1 rtt=12.3ms path=[RELAYED] via relay …NSv5bcCx 203.0.113.9:7777"
        );
        assert_eq!(
            text(&direct, Some(&relayed)),
            "seq=2 rtt=12.3ms path=[DIRECT] via direct v6 [2001:db8::2]:41000 (upgraded)"
        );
        assert!(!text(&direct, Some(&direct)).contains("upgraded"));
        assert_eq!(text(&PingReply::lost(3, id(), "timed out"), None), "seq=3 error=timed out");
    }

    fn reply(seq: u32, class: PathClass, addr: &str) -> PingReply {
        let kind = PathKind { class, family: Family::Ipv6, carrier: CarrierKind::QuicStream };
        let relay = (class != PathClass::Direct).then(id);
        PingReply::answered(
            seq,
            id(),
            12.34,
            PathOverview::live(kind, addr.into(), relay, Timestamp::from_unix(0)),
        )
    }

    fn id() -> PeerId {
        "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap()
    }
}
