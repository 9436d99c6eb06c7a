//! `peerup status`: what the daemon knows; without a daemon, what the files say, and exit code 4.

use std::time::Duration;

use peerup_config::{RelayPeer, RelayService, Relaying};
use peerup_control::{
    ApiError, ErrorKind, Runtime,
    api::{
        HealthItem, Overview, PeerOverview, Reachability, RelayOverview, RelayServiceWord, RelayState,
        RelayingOverview, SCHEMA, SelfOverview, Severity, StatusReport, Timestamp,
    },
};
use peerup_trust::authorized_keys::AuthorizedKeys;
use peerup_types::PeerId;

use super::{Context, block_on};
use crate::{
    args::Status,
    backend,
    failure::{Exit, Failure},
    place::{NodeFiles, read_keys_text},
    render::{name_of, status as render},
    version,
};

/// Between two looks, whatever is asked for.
const MIN_WATCH: Duration = Duration::from_millis(200);

pub fn run(context: &Context, args: &Status) -> Result<Exit, Failure> {
    match args.watch {
        None => once(context, args),
        Some(every) => watch(context, args, every.max(MIN_WATCH)),
    }
}

fn once(context: &Context, args: &Status) -> Result<Exit, Failure> {
    match block_on(ask(context)) {
        Ok((overview, status)) => online(context, args, &overview, &status),
        Err(failure) if failure.exit == Exit::NotRunning => {
            offline(context, args, &context.place.load_node()?)?;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

async fn ask(context: &Context) -> Result<(Overview, StatusReport), Failure> {
    let client = context.place.daemon().await?;
    let (overview, status) = tokio::join!(client.overview(), client.status());
    Ok((overview?, status?))
}

/// Until Ctrl-C. A daemon that goes away is waited for.
fn watch(context: &Context, args: &Status, every: Duration) -> Result<Exit, Failure> {
    block_on(async {
        let mut ticks = tokio::time::interval(every);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
            }
            match ask(context).await {
                Ok((overview, status)) => frame(context, args, &overview, &status)?,
                Err(failure) if failure.exit == Exit::NotRunning && !args.json => {
                    context.terminal.page(&["the daemon is not running".to_owned()])?;
                }
                Err(failure) if failure.exit == Exit::NotRunning => {}
                Err(failure) => return Err(failure),
            }
        }
    })
}

fn frame(
    context: &Context,
    args: &Status,
    overview: &Overview,
    status: &StatusReport,
) -> Result<(), Failure> {
    let compact = |value: serde_json::Result<String>| value.expect("answers have string keys only");
    let peer = args.peer.as_deref().map(|peer| find(overview, peer)).transpose()?;
    match (peer, args.json) {
        (None, true) => context.terminal.line(compact(serde_json::to_string(overview))),
        (Some(peer), true) => context.terminal.line(compact(serde_json::to_string(peer))),
        (peer, false) => context.terminal.page(&text(context, peer, overview, status)),
    }
}

fn text(
    context: &Context,
    peer: Option<&PeerOverview>,
    overview: &Overview,
    status: &StatusReport,
) -> Vec<String> {
    let now = Timestamp::from_unix(peerup_clock::unix());
    match peer {
        None => render::page(overview, status, now, &context.terminal),
        Some(peer) => render::block(overview, peer, now),
    }
}

fn online(
    context: &Context,
    args: &Status,
    overview: &Overview,
    status: &StatusReport,
) -> Result<Exit, Failure> {
    let peer = args.peer.as_deref().map(|peer| find(overview, peer)).transpose()?;
    match (peer, args.json) {
        (None, true) => context.terminal.json(overview)?,
        (Some(peer), true) => context.terminal.json(peer)?,
        (peer, false) => print(context, &text(context, peer, overview, status))?,
    }
    Ok(verdict(overview))
}

/// Degraded as soon as something should be mended.
fn verdict(overview: &Overview) -> Exit {
    let degraded = overview.health.iter().any(|item| item.severity >= Severity::Warning);
    if degraded { Exit::Degraded } else { Exit::Ok }
}

pub fn find<'o>(overview: &'o Overview, text: &str) -> Result<&'o PeerOverview, Failure> {
    let unknown = || ApiError::new(ErrorKind::NotFound, format!("`{text}` is no peer of this node"));
    render::find(overview, text)
        .ok_or_else(|| Failure::from(unknown()).hint("`peerup status` lists names and addresses"))
}

fn offline(context: &Context, args: &Status, node: &NodeFiles) -> Result<(), Failure> {
    let overview = local_overview(node)?;
    if args.json {
        return context.terminal.json(&overview);
    }
    print(context, &local_page(node, &overview))
}

/// The schema of the running node, filled from the files: nobody has a path.
fn local_overview(node: &NodeFiles) -> Result<Overview, Failure> {
    let id = backend::identity(&node.file)?;
    let (keys, _) =
        AuthorizedKeys::parse_lenient(&read_keys_text(&node.config.security.authorized_keys_file)?);
    Ok(Overview {
        schema: SCHEMA,
        this: SelfOverview {
            id,
            name: node.config.name.as_ref().map(ToString::to_string),
            ips: node.config.vpn.address.map(Into::into).into_iter().collect(),
            version: version::VERSION.into(),
            uptime_s: 0,
            reachability: Reachability::Unknown,
        },
        peers: keys.entries().map(|entry| local_peer(node, entry)).collect(),
        relays: node.config.relays().into_iter().map(|relay| local_relay(node, relay)).collect(),
        relaying: local_relaying(&node.config.network.relaying),
        health: vec![HealthItem {
            code: "daemon-not-running".into(),
            severity: Severity::Error,
            text: "the daemon is not running".into(),
            fix: Some("peerup up".into()),
        }],
        proxies: vec![],
    })
}

fn local_relay(node: &NodeFiles, relay: RelayPeer) -> RelayOverview {
    RelayOverview {
        id: relay.peer,
        name: configured_name(node, &relay.peer),
        addr: relay.addresses.first().map(ToString::to_string),
        state: RelayState::Offline,
        rtt_ms: None,
        reason: Some("the daemon is not running".into()),
    }
}

fn local_relaying(config: &Relaying) -> RelayingOverview {
    RelayingOverview {
        service: match config.service {
            RelayService::Auto => RelayServiceWord::Auto,
            RelayService::On => RelayServiceWord::On,
            RelayService::Off => RelayServiceWord::Off,
        },
        reason: Some("the daemon is not running".into()),
        max_reservations: config.max_reservations.into(),
        max_circuits: config.max_circuits.into(),
        max_bytes_per_s: config.max_rate,
        ..RelayingOverview::default()
    }
}

fn configured_name(node: &NodeFiles, peer: &PeerId) -> Option<String> {
    node.config.names.iter().find(|(_, id)| *id == peer).map(|(name, _)| name.to_string())
}

fn local_peer(node: &NodeFiles, entry: &peerup_trust::authorized_keys::Entry) -> PeerOverview {
    PeerOverview {
        id: entry.peer(),
        name: configured_name(node, &entry.peer()).or_else(|| entry.comment().map(str::to_owned)),
        ips: entry.ip().map(Into::into).into_iter().collect(),
        path: None,
        rtt_ms: None,
        loss: 0.0,
        rx_bytes: 0,
        tx_bytes: 0,
        last_seen: None,
        reason: None,
    }
}

fn local_page(node: &NodeFiles, overview: &Overview) -> Vec<String> {
    let (config, keys) = (&node.config, authorized(node));
    let network = config.discovery.network.as_ref().map_or("global", |network| network.as_str());
    let mut lines = vec![
        format!("peerup {}  not running", version::VERSION),
        format!("Peer ID:     {}", overview.this.id),
        format!("Name:        {}", config.name.as_ref().map_or("-", |name| name.as_str())),
        format!("Config:      {}", node.file.display()),
        format!("Key:         {}", config.identity.key_file.display()),
        format!("Network:     {network}"),
        format!("Range:       {}", config.vpn.cidr),
        format!("Relays:      {}", count(config.relay.addresses.len())),
    ];
    lines.extend(config.relay.addresses.iter().map(|relay| format!("  {relay}")));
    lines.push(format!("Peers:       {}", count(overview.peers.len())));
    lines.extend(overview.peers.iter().map(|peer| {
        format!("  {}  {}  {}", peer.id, badge(&keys, peer), name_of(peer.name.as_deref(), &peer.id))
    }));
    lines.push(format!("Services:    {}", count(config.services.len())));
    lines.extend(config.services.iter().map(|(name, service)| {
        format!("  {name}  {}{}", service.local_address, if service.enabled { "" } else { "  (disabled)" })
    }));
    lines.push(format!("Names:       {}", count(config.names.len())));
    lines.extend(config.names.iter().map(|(name, peer)| format!("  {name}  {peer}")));
    lines
}

fn badge(keys: &AuthorizedKeys, peer: &PeerOverview) -> &'static str {
    match keys.get(&peer.id).and_then(|entry| entry.verified()) {
        Some(_) => "[VERIFIED]",
        None => "[UNVERIFIED]",
    }
}

/// What cannot be read authorises nobody here; `auth validate` says why.
fn authorized(node: &NodeFiles) -> AuthorizedKeys {
    let text = read_keys_text(&node.config.security.authorized_keys_file).unwrap_or_default();
    AuthorizedKeys::parse_lenient(&text).0
}

fn count(entries: usize) -> String {
    if entries == 0 { "none".into() } else { entries.to_string() }
}

fn print(context: &Context, lines: &[String]) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| context.terminal.line(line))
}
