//! `peerup status`: what the daemon knows; without a daemon, what the files say, and exit code 4.

use peerup_control::{
    ApiError, ErrorKind, Runtime,
    api::{
        HealthItem, Overview, PeerOverview, Reachability, SCHEMA, SelfOverview, Severity, StatusReport,
        Timestamp,
    },
};
use peerup_trust::authorized_keys::AuthorizedKeys;

use super::{Context, block_on};
use crate::{
    args::Status,
    backend,
    failure::{Exit, Failure},
    place::{NodeFiles, read_keys_text},
    render::{name_of, status as render},
    version,
};

pub fn run(context: &Context, args: &Status) -> Result<Exit, Failure> {
    let asked = block_on(async {
        let client = context.place.daemon().await?;
        Ok((client.overview().await?, client.status().await?))
    });
    match asked {
        Ok((overview, status)) => online(context, args, &overview, &status),
        Err(failure) if failure.exit == Exit::NotRunning => {
            offline(context, args, &context.place.load_node()?)?;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

fn online(
    context: &Context,
    args: &Status,
    overview: &Overview,
    status: &StatusReport,
) -> Result<Exit, Failure> {
    let now = Timestamp::from_unix(peerup_clock::unix());
    match (&args.peer, args.json) {
        (None, true) => context.terminal.json(overview)?,
        (None, false) => {
            let page = render::page(overview, status, now, context.terminal.width());
            print(context, &page)?;
        }
        (Some(peer), json) => {
            let peer = find(overview, peer)?;
            if json {
                context.terminal.json(peer)?;
            } else {
                print(context, &render::block(overview, peer, now))?;
            }
        }
    }
    Ok(verdict(overview))
}

/// Degraded as soon as something should be mended.
fn verdict(overview: &Overview) -> Exit {
    let degraded = overview.health.iter().any(|item| item.severity >= Severity::Warning);
    if degraded { Exit::Degraded } else { Exit::Ok }
}

fn find<'o>(overview: &'o Overview, text: &str) -> Result<&'o PeerOverview, Failure> {
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
        relays: vec![],
        health: vec![HealthItem {
            code: "daemon-not-running".into(),
            severity: Severity::Error,
            text: "the daemon is not running".into(),
            fix: Some("peerup up".into()),
        }],
        proxies: vec![],
    })
}

fn local_peer(node: &NodeFiles, entry: &peerup_trust::authorized_keys::Entry) -> PeerOverview {
    let name =
        node.config.names.iter().find(|(_, id)| **id == entry.peer()).map(|(name, _)| name.to_string());
    PeerOverview {
        id: entry.peer(),
        name: name.or_else(|| entry.comment().map(str::to_owned)),
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
    let config = &node.config;
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
    lines.extend(
        overview
            .peers
            .iter()
            .map(|peer| format!("  {}  {}", peer.id, name_of(peer.name.as_deref(), &peer.id))),
    );
    lines
}

fn count(entries: usize) -> String {
    if entries == 0 { "none".into() } else { entries.to_string() }
}

fn print(context: &Context, lines: &[String]) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| context.terminal.line(line))
}
