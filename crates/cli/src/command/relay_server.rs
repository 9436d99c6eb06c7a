//! The relay server's side: running it, and who may use it. Edits take effect at once: the server watches the file.

use std::net::IpAddr;

use peerup_config::{PeerAddr, RelayConfig};
use peerup_trust::{authorized_keys::AuthorizedKeys, code::Code};
use peerup_types::{Multiaddr, PeerId, Protocol};
use serde_json::json;

use super::{Context, auth, daemon::init_logging};
use crate::{
    args::Json,
    backend,
    failure::{Exit, Failure},
    place::{RelayFiles, edit_keys, read_identity, read_keys_text},
    render::units,
};

pub fn serve(context: &Context) -> Result<Exit, Failure> {
    let relay = context.place.load_relay()?;
    init_logging()?;
    let terminal = context.terminal;
    backend::serve_relay(relay.file, |peer_id, addresses| {
        // A reader that has gone does not stop the relay.
        let _ = terminal.line(format_args!("Relay Peer ID: {peer_id}"));
        for address in addresses {
            let _ = terminal.line(format_args!("{address}/p2p/{peer_id}"));
        }
    })?;
    Ok(Exit::Ok)
}

pub fn authorize(context: &Context, peer: PeerId, comment: &str) -> Result<Exit, Failure> {
    let relay = context.place.load_relay()?;
    let comment = Some(comment).filter(|comment| !comment.is_empty());
    edit_keys(&relay.config.security.authorized_keys_file, |keys| {
        keys.add(peer, comment)
            .map_err(|error| Failure::from(error).hint("`peerup relay list-peers` shows who is"))
    })?;
    context.terminal.note(format_args!("{peer} may use this relay"))?;
    Ok(Exit::Ok)
}

pub fn deauthorize(context: &Context, peer: PeerId) -> Result<Exit, Failure> {
    let relay = context.place.load_relay()?;
    edit_keys(&relay.config.security.authorized_keys_file, |keys| {
        keys.remove(&peer).map_err(|error| Failure::of(&error).hint("`peerup relay list-peers` shows who is"))
    })?;
    context.terminal.note(format_args!("{peer} may no longer use this relay"))?;
    Ok(Exit::Ok)
}

pub fn list_peers(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let relay = context.place.load_relay()?;
    let file = &relay.config.security.authorized_keys_file;
    let (keys, problems) = AuthorizedKeys::parse_lenient(&read_keys_text(file)?);
    if args.json {
        context.terminal.json(&keys.entries().map(auth::row).collect::<Vec<_>>())?;
    } else {
        context.terminal.line(format_args!("Authorized peers ({}):", keys.entries().count()))?;
        for entry in keys.entries() {
            context.terminal.line(format_args!("  {entry}"))?;
        }
    }
    for problem in problems {
        context.terminal.warn(format_args!("warning: {}: {problem}", file.display()))?;
    }
    Ok(Exit::Ok)
}

pub fn info(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let relay = context.place.load_relay()?;
    let id = identity(&relay)?;
    let (keys, _) =
        AuthorizedKeys::parse_lenient(&read_keys_text(&relay.config.security.authorized_keys_file)?);
    let addresses: Vec<Multiaddr> =
        addresses(&relay).into_iter().map(|address| address.with(Protocol::P2p(id))).collect();
    let authorized = keys.entries().count();
    if args.json {
        print_json(context, &relay, id, authorized, &addresses)?;
    } else {
        print_info(context, &relay, id, authorized, &addresses)?;
    }
    Ok(Exit::Ok)
}

/// Who the relay is. Its key is never made here.
pub fn identity(relay: &RelayFiles) -> Result<PeerId, Failure> {
    let key = &relay.config.identity.key_file;
    let missing =
        || Failure::new(format!("{} does not exist", key.display())).hint("`peerup relay setup` creates it");
    Ok(read_identity(key)?.ok_or_else(missing)?.public().to_peer_id())
}

/// Where others find it.
pub fn addresses(relay: &RelayFiles) -> Vec<Multiaddr> {
    announced(&relay.config, &peerup_service::interface_addresses().unwrap_or_default())
}

fn print_json(
    context: &Context,
    relay: &RelayFiles,
    id: PeerId,
    authorized: usize,
    addresses: &[Multiaddr],
) -> Result<(), Failure> {
    let resources = &relay.config.resources;
    context.terminal.json(&json!({
        "peer_id": id.to_string(),
        "connection_gating": relay.config.security.enable_connection_gating,
        "authorized_peers": authorized,
        "multiaddrs": addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "network": relay.config.discovery.network,
        "vouching": relay.config.relay.vouching,
        "limits": {
            "max_reservations": resources.max_reservations,
            "max_circuits": resources.max_circuits,
            "reservation_ttl_s": resources.reservation_ttl.as_secs(),
            "session_duration_s": resources.session_duration.as_secs(),
            "session_data_limit": resources.session_data_limit,
        },
    }))
}

fn print_info(
    context: &Context,
    relay: &RelayFiles,
    id: PeerId,
    authorized: usize,
    addresses: &[Multiaddr],
) -> Result<(), Failure> {
    let (terminal, config) = (&context.terminal, &relay.config);
    let gating = if config.security.enable_connection_gating { "enabled" } else { "DISABLED" };
    terminal.line(format_args!("Peer ID: {id}"))?;
    terminal.line(format_args!(
        "Network: {}",
        config.discovery.network.as_ref().map_or("global", |n| n.as_str())
    ))?;
    terminal.line(format_args!("Connection gating: {gating}"))?;
    terminal.line(format_args!("Vouching: {}", if config.relay.vouching { "on" } else { "off" }))?;
    terminal.line(format_args!("Authorized peers: {authorized}"))?;
    terminal.line(format_args!("Limits: {}", limits(config)))?;
    terminal.line("Multiaddrs:")?;
    for address in addresses {
        terminal.line(format_args!("  {address}"))?;
    }
    let Some(first) = addresses.first() else {
        return terminal.warn("warning: no address to announce; set network.external_addresses");
    };
    terminal.note(format_args!("\nOn each machine:\n  peerup init --relay {first}"))
}

fn limits(config: &RelayConfig) -> String {
    let resources = &config.resources;
    let data = resources
        .session_data_limit
        .map_or("no data limit".to_owned(), |bytes| format!("{bytes} bytes each way"));
    format!(
        "{} reservations, {} circuits of {}, {data}",
        resources.max_reservations,
        resources.max_circuits,
        units::duration(resources.session_duration.as_secs())
    )
}

/// Where others find the relay: what the configuration says, else its listeners on this machine's addresses.
fn announced(config: &RelayConfig, interfaces: &[(String, IpAddr)]) -> Vec<Multiaddr> {
    if !config.network.external_addresses.is_empty() {
        return config.network.external_addresses.clone();
    }
    let interfaces: Vec<IpAddr> = interfaces.iter().map(|(_, ip)| *ip).collect();
    backend::announced(&config.network.listen_addresses, &interfaces)
}

/// The relay that a pairing code names.
pub fn from_code(code: &Code) -> PeerAddr {
    match code {
        Code::Invite(code) => PeerAddr::tcp(code.relay_address.into(), code.relay),
        Code::Pairing(code) => PeerAddr::tcp(code.relay_address.into(), code.relay),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn wildcard_listeners_become_this_machines_public_addresses() {
        let text = "version: 1\nnetwork:\n  listen_addresses: [/ip4/0.0.0.0/tcp/7777, /ip6/::/udp/7777/quic-v1, /ip4/192.0.2.1/tcp/1]\n";
        let config = RelayConfig::parse(text, Path::new("/r")).unwrap();
        let interfaces = interfaces(&["10.0.0.5", "100.64.3.3", "203.0.113.50", "2001:db8::50", "fd00::1"]);
        let shown: Vec<_> = announced(&config, &interfaces).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["/ip4/203.0.113.50/tcp/7777", "/ip6/2001:db8::50/udp/7777/quic-v1", "/ip4/192.0.2.1/tcp/1"]
        );
    }

    #[test]
    fn configured_external_addresses_are_the_only_ones() {
        let text = "version: 1\nnetwork:\n  external_addresses: [/ip4/198.51.100.7/tcp/7777]\n";
        let config = RelayConfig::parse(text, Path::new("/r")).unwrap();
        assert_eq!(announced(&config, &interfaces(&["203.0.113.50"])).len(), 1);
    }

    fn interfaces(ips: &[&str]) -> Vec<(String, IpAddr)> {
        ips.iter().map(|ip| ("eth0".to_owned(), ip.parse().unwrap())).collect()
    }
}
