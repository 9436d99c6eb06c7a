//! `peerup ping`: one request per round trip, so that every answer is shown as it comes and Ctrl-C gets its summary.

use std::time::Duration;

use peerup_control::{
    Client, Runtime,
    api::{OverviewClass, PingReply, PingReport, PingRequest, PingStats},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Context, block_on};
use crate::{
    args::Ping,
    failure::{Exit, Failure},
    render::{name_of, path, short_id},
};

/// Replies that the statistics remember; a run that goes on for days keeps the latest.
const MAX_REPLIES: usize = 100_000;

pub fn run(context: &Context, args: &Ping) -> Result<Exit, Failure> {
    if args.interval < Duration::from_millis(10) {
        return Err(Failure::usage("the interval is at least 10ms"));
    }
    let replies = block_on(async {
        let client = context.place.daemon().await?;
        ping(context, args, &client).await
    })?;
    let stats = PingStats::of(&replies);
    summary(context, args, &stats)?;
    Ok(if stats.received > 0 { Exit::Ok } else { Exit::Failure })
}

async fn ping(context: &Context, args: &Ping, client: &Client) -> Result<Vec<PingReply>, Failure> {
    let mut replies: Vec<PingReply> = Vec::new();
    let mut ticks = interval_at(Instant::now(), args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seq = 0;
    while args.count == 0 || seq < args.count {
        seq += 1;
        let once = async {
            ticks.tick().await;
            client.ping(request(args)).await
        };
        let report = tokio::select! {
            report = once => report?,
            _ = tokio::signal::ctrl_c() => break,
        };
        if seq == 1 {
            header(context, args, &report)?;
        }
        let Some(reply) = report.results.first().map(|reply| PingReply { seq, ..reply.clone() }) else {
            continue;
        };
        show(context, args, &reply, replies.last())?;
        if replies.len() == MAX_REPLIES {
            replies.remove(0);
        }
        replies.push(reply);
    }
    Ok(replies)
}

fn request(args: &Ping) -> PingRequest {
    PingRequest { peer: args.peer.clone(), count: 1, interval_ms: 1 }
}

fn header(context: &Context, args: &Ping, report: &PingReport) -> Result<(), Failure> {
    if args.json {
        return Ok(());
    }
    let name = name_of(report.name.as_deref(), &report.peer_id);
    let address = report.address.map_or_else(|| short_id(&report.peer_id), |address| address.to_string());
    context.terminal.note(format_args!("PING {name} ({address})"))
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
    let seq = reply.seq;
    let Some(rtt) = reply.rtt_ms else { return format!("seq={seq} error={}", reply.error) };
    let mut line = format!("seq={seq} rtt={rtt:.1}ms path=[{}]", reply.path);
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
    let direct = |reply: &PingReply| reply.via.as_ref().is_some_and(|via| via.class == OverviewClass::Direct);
    let relayed = |reply: &PingReply| reply.via.is_some() && !direct(reply);
    direct(reply) && before.is_some_and(relayed)
}

fn summary(context: &Context, args: &Ping, stats: &PingStats) -> Result<(), Failure> {
    if args.json {
        return context
            .terminal
            .line(serde_json::to_string(stats).expect("statistics have string keys only"));
    }
    context.terminal.line(format_args!("--- {} ping statistics ---", args.peer))?;
    let PingStats { sent, received, loss_pct, min_ms, avg_ms, max_ms, .. } = stats;
    let rtt = match received {
        0 => String::new(),
        _ => format!(", rtt min/avg/max = {min_ms:.1}/{avg_ms:.1}/{max_ms:.1} ms"),
    };
    context.terminal.line(format_args!("{sent} sent, {received} received, {loss_pct:.1}% loss{rtt}"))
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
