//! What the node looks like from outside: answers to status questions.

use std::{net::IpAddr, time::Instant};

use peerup_control::{
    ApiError, ErrorKind,
    api::{
        ConfigReport, HealthItem, Overview, PathOverview, PathRow, PeerOverview, PeerRow, Reachability,
        ReachabilityGrade, RelayOverview, RelayState, ResolveSource, SCHEMA, SelfOverview, Severity,
        StatusReport, Timestamp,
    },
};
use peerup_node::{PeerView, RelayUse};
use peerup_path::{Opened, ReservationState};
use peerup_reach::Report;
use peerup_trust::parse_peer_id;
use peerup_types::{CarrierKind, NatMapping, PathClass, PeerId};

use crate::{
    api::Target,
    controller::{Controller, relaying_overview},
    netcheck::global_address,
};

pub fn overview(node: &Controller) -> Overview {
    Overview {
        schema: SCHEMA,
        this: SelfOverview {
            id: node.swarm.local_peer(),
            name: node.node.name().map(ToString::to_string),
            ips: node.node.membership().own_addrs().iter().collect(),
            version: node.version.to_owned(),
            uptime_s: uptime(node),
            reachability: reachability(&node.report()),
        },
        peers: node.node.peers().iter().map(|peer| peer_overview(node, peer)).collect(),
        relays: relays(node),
        relaying: relaying_overview(node),
        health: health(node),
        proxies: node.services.proxies.rows(|peer| display_name(node, peer)),
    }
}

/// What a path looks like; `since` is a monotonic instant and is told as wall-clock time.
pub fn path_overview(path: &Opened, since: Option<Instant>, started: Instant) -> PathOverview {
    let since = wall_clock(since.unwrap_or(started));
    PathOverview::live(path.kind, path.remote.to_string(), path.relay, since)
}

fn peer_overview(node: &Controller, peer: &PeerView) -> PeerOverview {
    let counters = node.counters.get(&peer.peer);
    let path = match &peer.path {
        Some(path) => Some(path_overview(path, peer.since, node.started)),
        None if peer.connecting => Some(PathOverview::connecting(wall_clock(peerup_clock::now()))),
        None => None,
    };
    PeerOverview {
        id: peer.peer,
        name: Some(display_name(node, &peer.peer)),
        ips: peer.addresses.iter().collect(),
        path,
        rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        loss: peer.loss,
        rx_bytes: counters.map_or(0, |counters| counters.rx_bytes.get()),
        tx_bytes: counters.map_or(0, |counters| counters.tx_bytes.get()),
        last_seen: node.last_seen.get(&peer.peer).copied().map(Timestamp::from_unix),
        reason: node.node.summary(&peer.peer, peerup_clock::now()),
    }
}

fn relays(node: &Controller) -> Vec<RelayOverview> {
    let overview = |relay: peerup_node::RelayView| {
        let connected = node.paths.values().any(|path| path.handle.peer == relay.relay);
        let state = match (relay.state, relay.used) {
            (_, RelayUse::Active) => RelayState::Reserved,
            (_, RelayUse::Standby) => RelayState::Standby,
            (_, RelayUse::Candidate) => RelayState::Candidate,
            (ReservationState::Held, RelayUse::Sought) => RelayState::Standby,
            (ReservationState::Requested, RelayUse::Sought) => RelayState::Connected,
            (ReservationState::Connecting, RelayUse::Sought) if connected => RelayState::Connected,
            (ReservationState::Connecting, RelayUse::Sought) => RelayState::Connecting,
            (ReservationState::Down, RelayUse::Sought) => RelayState::Offline,
        };
        RelayOverview {
            id: relay.relay,
            name: node
                .files
                .config
                .names
                .iter()
                .find(|(_, peer)| **peer == relay.relay)
                .map(|(n, _)| n.to_string()),
            addr: relay.addresses.first().map(ToString::to_string),
            state,
            rtt_ms: None,
            reason: match state {
                RelayState::Reserved | RelayState::Standby => None,
                RelayState::Candidate => Some("not needed while two others hold reservations".into()),
                RelayState::Connected => {
                    Some("no reservation granted; is this node authorized there?".into())
                }
                RelayState::Connecting => Some("connecting".into()),
                RelayState::Offline => Some("not reachable; trying again".into()),
            },
        }
    };
    node.node.relays().into_iter().map(overview).collect()
}

pub fn health(node: &Controller) -> Vec<HealthItem> {
    let mut items = Vec::new();
    let mut add = |code: &str, severity, text: String, fix: Option<&str>| {
        items.push(HealthItem { code: code.to_owned(), severity, text, fix: fix.map(str::to_owned) });
    };
    let relays = node.node.relays();
    if !relays.is_empty() && relays.iter().all(|relay| relay.state != ReservationState::Held) {
        let text = "no relay holds a reservation: peers behind NATs cannot reach this machine";
        add("relay-unreachable", Severity::Warning, text.into(), Some("peerup relay list"));
    }
    if let Some(problem) = &node.keys_problem {
        add(
            "keys-invalid",
            Severity::Error,
            format!("the last good keys are in use: {problem}"),
            Some("peerup auth validate"),
        );
    }
    if let Some(problem) = &node.config_problem {
        add(
            "config-invalid",
            Severity::Error,
            format!("the last good configuration is in use: {problem}"),
            Some("peerup config validate"),
        );
    }
    if let Some(deadline) = node.standing.deadline {
        let left = deadline.saturating_duration_since(peerup_clock::now()).as_secs();
        let text = format!("the configuration is not confirmed: the former one comes back in {left} s");
        add("config-unconfirmed", Severity::Warning, text, Some("peerup config confirm"));
    }
    if !node.standing.waiting.is_empty() {
        let text = format!("changed and in force after a restart: {}", node.standing.waiting.join(", "));
        add("config-waiting", Severity::Info, text, Some("peerup down && peerup up"));
    }
    if node.restarts > 0 {
        let text = format!("the network stack was restarted {}", times(node.restarts));
        add("swarm-restarted", Severity::Warning, text, None);
    }
    if !node.files.config.security.enable_connection_gating {
        let text =
            "connection gating is always on: only authorized peers connect, whatever the configuration says";
        add("gating-always-on", Severity::Info, text.into(), None);
    }
    let refused = refused_packets(node);
    if !refused.is_empty() {
        add("packets-refused", Severity::Warning, format!("packets refused: {refused}"), None);
    }
    if let Some(interface) = &node.interface
        && interface.userspace().is_some()
    {
        let text =
            "no interface: programs here reach peers through `peerup nc`, `peerup socks` and `peerup exec`";
        add("userspace", Severity::Info, text.into(), None);
    }
    if node.interface.is_none() && node.files.config.vpn.enabled {
        add("interface-down", Severity::Warning, "the overlay interface is down".into(), Some("peerup up"));
    }
    items.extend(crate::surroundings::health(&node.report()));
    items.extend(panicked(peerup_telemetry::panics()));
    items
}

/// A panic that a supervisor caught leaves a process that runs and may lack a part.
fn panicked(panics: u64) -> Option<HealthItem> {
    (panics > 0).then(|| HealthItem {
        code: "panicked".to_owned(),
        severity: Severity::Error,
        text: format!("this daemon panicked {}; its log says where", times(panics)),
        fix: Some("restart it, and report what the log says".to_owned()),
    })
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Packets whose sender did what a well-behaved peer does not do.
fn refused_packets(node: &Controller) -> String {
    const SUSPICIOUS: [&str; 4] = ["spoofed", "malformed", "not-for-us", "frame-malformed"];
    let counts = node.data.counters.reasons().into_iter();
    let suspicious = counts.filter(|(reason, packets)| *packets > 0 && SUSPICIOUS.contains(reason));
    suspicious.map(|(reason, packets)| format!("{reason} {packets}")).collect::<Vec<_>>().join(", ")
}

pub fn reachability(report: &Report) -> Reachability {
    match report.reachable {
        None => Reachability::Unknown,
        Some(true) => Reachability::Public,
        Some(false) => Reachability::Private,
    }
}

/// `/v1/status` in the original's shape.
pub fn status(node: &Controller) -> StatusReport {
    let hosts: Vec<String> = node.node.addresses().host().map(ToString::to_string).collect();
    let report = node.report();
    StatusReport {
        peer_id: node.swarm.local_peer(),
        version: node.version.to_owned(),
        uptime_seconds: uptime(node),
        connected_peers: node.node.peers().iter().filter(|peer| peer.path.is_some()).count() as u32,
        relay_addresses: node
            .node
            .relays()
            .iter()
            .flat_map(|relay| relay.addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
            .collect(),
        services_count: node.services.offers().list().iter().filter(|service| service.enabled).count() as u32,
        has_global_ipv6: global_address(&report.interfaces, true).is_some(),
        has_global_ipv4: global_address(&report.interfaces, false).is_some(),
        listen_addresses: hosts,
        nat_type: Some(report.v4.behaviour)
            .filter(|known| *known != NatMapping::Unknown)
            .map(|it| it.to_string()),
        stun_external_addrs: node.node.addresses().observed_addresses().map(ToString::to_string).collect(),
        reachability: grade(&report),
        is_relaying: relaying_overview(node).active,
        network: node.files.config.discovery.network.as_ref().map(ToString::to_string),
        interface: node.interface.as_ref().map(|interface| interface.name().to_owned()),
        range: Some(node.node.membership().prefix().to_string()),
        mtu: Some(node.files.config.vpn.mtu.into()),
    }
}

pub fn grade(report: &Report) -> ReachabilityGrade {
    ReachabilityGrade {
        grade: report.grade.letter().into(),
        label: report.grade.label().into(),
        description: report.why.into(),
    }
}

pub fn peers(node: &Controller, all: bool) -> Vec<PeerRow> {
    let mut rows: std::collections::BTreeMap<PeerId, PeerRow> = Default::default();
    for known in node.paths.values() {
        let agent = known.agent.clone();
        let ours = agent.as_ref().is_some_and(|a| a.starts_with("peerup/") || a.starts_with("relay-server/"));
        if !all && !ours {
            continue;
        }
        let row = PeerRow { id: known.handle.peer, addresses: Vec::new(), agent_version: agent };
        let row = rows.entry(known.handle.peer).or_insert(row);
        row.addresses.push(known.handle.remote.to_string());
    }
    rows.into_values().collect()
}

/// Every usable path to every member.
pub fn paths(node: &Controller) -> Vec<PathRow> {
    let rows = |peer: PeerView| {
        peer.paths.into_iter().map(move |(path, rtt, since)| PathRow {
            peer_id: peer.peer,
            path_type: if path.kind.class == PathClass::Direct { "DIRECT" } else { "RELAYED" }.to_owned(),
            address: path.remote.to_string(),
            connected_at: wall_clock(since),
            transport: transport(path.kind.carrier).to_owned(),
            ip_version: path.kind.family.as_str().to_owned(),
            last_rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        })
    };
    node.node.peers().into_iter().flat_map(rows).collect()
}

fn transport(carrier: CarrierKind) -> &'static str {
    match carrier {
        CarrierKind::QuicStream | CarrierKind::QuicDatagram => "quic",
        CarrierKind::TcpStream => "tcp",
        CarrierKind::RelayStream => "unknown",
    }
}

pub fn config(node: &Controller) -> ConfigReport {
    ConfigReport {
        file: node.files.config_file.display().to_string(),
        problem: node.config_problem.clone(),
        config: serde_json::to_value(node.files.config.resolved()).unwrap_or_default(),
    }
}

/// A peer by configured name, peer ID, overlay address, or the name that it gave itself.
pub fn resolve(node: &Controller, target: &str) -> Result<Target, ApiError> {
    let membership = node.node.membership();
    let label = target.strip_suffix(".peerup").unwrap_or(target);
    let named = || {
        let (_, peer) = node.files.config.names.iter().find(|(name, _)| name.as_str() == label)?;
        Some((*peer, ResolveSource::LocalConfig))
    };
    let by_id = || Some((parse_peer_id(target).ok()?, ResolveSource::PeerId));
    let by_address = || Some((membership.whois(target.parse().ok()?)?, ResolveSource::Address));
    let introduced = || {
        let peers = node.node.peers();
        let of = |view: &&PeerView| view.name.as_ref().is_some_and(|name| name.as_str() == label);
        let commented =
            || node.keys.entries().find(|entry| entry.comment() == Some(label)).map(|entry| entry.peer());
        let peer = peers.iter().find(of).map(|view| view.peer).or_else(commented)?;
        Some((peer, ResolveSource::Network))
    };
    let (peer, source) = named().or_else(by_id).or_else(by_address).or_else(introduced).ok_or_else(|| {
        let unknown = match target.parse::<IpAddr>() {
            Ok(address) => format!("no peer has the address {address}"),
            Err(_) => format!("no peer is called `{target}`"),
        };
        ApiError::new(ErrorKind::NotFound, unknown).with_hint("`peerup status` lists names and addresses")
    })?;
    let ips = membership.addrs_of(&peer).iter().collect();
    Ok(Target { peer, name: Some(display_name(node, &peer)), ips, source })
}

/// What people call a peer: the configured name, what it called itself, its key's comment, or a short ID.
pub fn display_name(node: &Controller, peer: &PeerId) -> String {
    let configured =
        node.files.config.names.iter().find(|(_, id)| *id == peer).map(|(name, _)| name.to_string());
    let own = || node.node.name().filter(|_| *peer == node.swarm.local_peer()).map(ToString::to_string);
    let introduced = || own().or_else(|| node.node.membership().name_of(peer).map(ToString::to_string));
    let comment = || node.keys.get(peer).and_then(|entry| entry.comment()).map(str::to_owned);
    configured.or_else(introduced).or_else(comment).unwrap_or_else(|| {
        let id = peer.to_string();
        format!("…{}", &id[id.len().saturating_sub(8)..])
    })
}

fn uptime(node: &Controller) -> u64 {
    peerup_clock::now().saturating_duration_since(node.started).as_secs()
}

fn wall_clock(at: Instant) -> Timestamp {
    let ago = peerup_clock::now().saturating_duration_since(at).as_secs();
    Timestamp::from_unix(peerup_clock::unix().saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_until_the_process_ends() {
        assert_eq!(panicked(0), None);
        let item = panicked(1).unwrap();
        assert_eq!((item.code.as_str(), item.severity), ("panicked", Severity::Error));
        assert!(item.text.contains("panicked once;"), "{}", item.text);
        assert!(panicked(2).unwrap().text.contains("panicked 2 times;"));
    }
}
