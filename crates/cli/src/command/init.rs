//! `peerup init`: identity, configuration and an empty `authorized_keys`, in a directory of their own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;
use peerup_config::{NodeConfig, PeerAddr, RelayInput, Vpn, template::NodeTemplate};
use peerup_netcfg::RangeError;
use peerup_service::files::{create_private_dir, write_private_atomic};
use peerup_types::{DnsLabel, PeerId};

use super::{Context, block_on};
use crate::{
    args::Init,
    failure::{Exit, Failure},
    place::{already_exists, directory, load_or_create_identity},
    render::qr,
    terminal::Terminal,
};

pub const KEYS_HEADER: &str = "\
# Who may connect: one peer ID per line, a comment after #.
# <peer-id> [expires=2030-01-31T12:00:00Z] [ip=10.64.0.9]  # laptop
";

/// What another node on this machine calls its interface; its own range is no conflict.
const OWN_INTERFACE: &str = "peerup0";

pub fn run(context: &Context, args: Init) -> Result<Exit, Failure> {
    let file = target(context, args.dir.as_deref())?;
    if file.exists() {
        return Err(
            already_exists(&file).hint("`peerup config show` prints it; another node needs another --dir")
        );
    }
    let interactive = !args.non_interactive;
    let template = if interactive { asked(&context.terminal, args)? } else { from_flags(args)? };
    check_range(template.cidr.unwrap_or_else(Vpn::default_cidr))?;
    let id = create(&file, &template)?;
    report(context, &file, &template, id, interactive)?;
    Ok(Exit::Ok)
}

/// Writes a new node's files beside `file`; a key or an `authorized_keys` that is there already is kept.
pub fn create(file: &Path, template: &NodeTemplate) -> Result<PeerId, Failure> {
    let text = template.render();
    let dir = directory(file);
    let config = NodeConfig::parse(&text, dir).map_err(Failure::from)?;
    create_private_dir(dir)?;
    let identity = load_or_create_identity(&config.identity.key_file)?;
    let keys = &config.security.authorized_keys_file;
    if !keys.exists() {
        write_private_atomic(keys, KEYS_HEADER.as_bytes())?;
    }
    // Last, so that a file that is there means a node that is complete.
    write_private_atomic(file, text.as_bytes())?;
    Ok(identity.public().to_peer_id())
}

/// What this machine is called unless somebody says otherwise: its host name, as far as that is a label.
pub fn default_name() -> Option<DnsLabel> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    DnsLabel::sanitise(host.trim().split('.').next()?)
}

pub fn parse_name(text: &str) -> Result<DnsLabel, Failure> {
    text.parse().map_err(|error: peerup_types::NameError| {
        let nearest = DnsLabel::sanitise(text).map(|label| format!("`{label}` would do"));
        Failure::of(&error).exit(Exit::Usage).or_hint(nearest)
    })
}

/// One relay as the addresses to dial: a short form stands for TCP and QUIC on that port.
pub fn relay_addresses(text: &str, id: Option<PeerId>) -> Result<Vec<PeerAddr>, Failure> {
    match text.parse()? {
        RelayInput::Full(address) => Ok(vec![address]),
        RelayInput::Socket(socket) => {
            let missing = || {
                Failure::usage(format!("`{text}` does not say the relay's peer ID"))
                    .hint("`peerup relay info` on the relay prints the whole address; --help names the flag for the ID alone")
            };
            Ok(both_transports(socket, id.ok_or_else(missing)?))
        }
    }
}

fn both_transports(socket: SocketAddr, id: PeerId) -> Vec<PeerAddr> {
    vec![PeerAddr::tcp(socket, id), PeerAddr::quic(socket, id)]
}

fn target(context: &Context, dir: Option<&Path>) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => Ok(context.place.resolve(dir).join("config.yaml")),
        None => context.place.new_node_file(),
    }
}

/// Refuses a range that this host uses for something else; `up` looks again. A host whose routes cannot be read is
/// left to `up`.
fn check_range(range: Ipv4Net) -> Result<(), Failure> {
    match block_on(async { Ok(peerup_netcfg::check_range(range, OWN_INTERFACE).await) })? {
        Ok(()) | Err(RangeError::Network(_)) => Ok(()),
        Err(RangeError::Conflict(conflict)) => {
            let free = conflict
                .free
                .map(|free| format!("use a free range, the same on every machine: --range {free}"));
            Err(Failure::of(&conflict).exit(Exit::Conflict).or_hint(free))
        }
    }
}

fn from_flags(args: Init) -> Result<NodeTemplate, Failure> {
    let name = args.name.as_deref().map(parse_name).transpose()?.or_else(default_name);
    let relays: Vec<_> =
        args.relay.iter().map(|text| relay_addresses(text, args.relay_id)).collect::<Result<_, _>>()?;
    Ok(NodeTemplate { name, relays: relays.concat(), network: args.network, cidr: args.range })
}

/// Asks for what the flags leave open.
fn asked(terminal: &Terminal, args: Init) -> Result<NodeTemplate, Failure> {
    let (no_name, no_relay) = (args.name.is_none(), args.relay.is_empty());
    let mut template = from_flags(args)?;
    if no_name {
        template.name = ask_name(terminal, template.name)?;
    }
    if no_relay {
        template.relays = ask_relay(terminal)?;
    }
    Ok(template)
}

fn ask_name(terminal: &Terminal, default: Option<DnsLabel>) -> Result<Option<DnsLabel>, Failure> {
    let shown = default.as_ref().map(|name| format!(" [{name}]")).unwrap_or_default();
    match terminal.ask(&format!("Name of this machine{shown}:"))?.as_str() {
        "" => Ok(default),
        name => parse_name(name).map(Some),
    }
}

fn ask_relay(terminal: &Terminal) -> Result<Vec<PeerAddr>, Failure> {
    terminal.note("A relay lets machines behind NAT meet and pair; on one LAN they meet without.")?;
    let text = terminal.ask("Relay address (IP:PORT or a whole multiaddr, empty for none):")?;
    if text.is_empty() {
        return Ok(vec![]);
    }
    let id = match text.parse()? {
        RelayInput::Full(_) => None,
        RelayInput::Socket(_) => Some(ask_relay_id(terminal)?),
    };
    relay_addresses(&text, id)
}

fn ask_relay_id(terminal: &Terminal) -> Result<PeerId, Failure> {
    let text = terminal.ask("Peer ID of the relay:")?;
    peerup_trust::parse_peer_id(&text).map_err(|error| Failure::of(&error).exit(Exit::Usage))
}

fn report(
    context: &Context,
    file: &Path,
    template: &NodeTemplate,
    id: PeerId,
    interactive: bool,
) -> Result<(), Failure> {
    let terminal = &context.terminal;
    terminal.line(format_args!("Peer ID:  {id}"))?;
    terminal.line(format_args!("Config:   {}", file.display()))?;
    if interactive && let Some(code) = qr(&id.to_string()) {
        terminal.note(format_args!("\n{code}"))?;
    }
    terminal.note("\nNext:")?;
    if template.relays.is_empty() {
        terminal.note("  peerup relay add ADDRESS   a relay, which pairing by code and NATs need")?;
    } else {
        terminal.note(format_args!(
            "  peerup relay authorize {id}   on the relay, once for your first machine"
        ))?;
    }
    terminal.note("  peerup up                  bring the interface up (with sudo, or CAP_NET_ADMIN)")?;
    terminal.note("  peerup invite              pair another machine, which says `peerup join CODE`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

    #[test]
    fn a_short_relay_address_stands_for_tcp_and_quic() {
        let addresses = relay_addresses("203.0.113.50", ID.parse().ok()).unwrap();
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                format!("/ip4/203.0.113.50/tcp/7777/p2p/{ID}"),
                format!("/ip4/203.0.113.50/udp/7777/quic-v1/p2p/{ID}")
            ]
        );
        assert_eq!(relay_addresses("203.0.113.50", None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn create_keeps_a_key_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("config.yaml"), dir.path().join("other.yaml"));
        let first = create(&one, &NodeTemplate::default()).unwrap();
        assert_eq!(create(&two, &NodeTemplate::default()).unwrap(), first);
    }
}
