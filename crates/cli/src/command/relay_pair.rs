//! `peerup relay pair`: codes with which several machines join one group. They are kept, hashed, in a file beside the
//! relay's configuration; a relay that runs reads it at once, and one that does not will.

use std::{
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::Duration,
};

use peerup_config::RelayStatePaths;
use peerup_control::api::Timestamp;
use peerup_service::files::edit_private;
use peerup_trust::{
    authorized_keys::AuthorizedKeys,
    code::PairingCode,
    pairing::{GroupId, Groups, GroupsError, Order, groups_of},
};
use peerup_types::{Multiaddr, Protocol};
use serde_json::json;

use super::{Context, relay_server};
use crate::{
    args::RelayPair,
    edit::failed,
    failure::{Exit, Failure},
    place::{RelayFiles, read_keys_text, read_private_or_empty},
    render::units,
};

/// A code that is good for weeks is a key under the doormat.
const MAX_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
const FILE_LIMIT: u64 = 1 << 20;

pub fn run(context: &Context, args: &RelayPair) -> Result<Exit, Failure> {
    let relay = context.place.load_relay()?;
    let file = RelayStatePaths::beside(&relay.file).pairing;
    match (args.list, args.revoke) {
        (true, _) => list(context, args, &relay, file),
        (false, Some(group)) => revoke(context, group, file),
        (false, None) => make(context, args, &relay, file),
    }
}

fn make(context: &Context, args: &RelayPair, relay: &RelayFiles, file: PathBuf) -> Result<Exit, Failure> {
    let now = peerup_clock::unix();
    if args.ttl < Duration::from_secs(1) || args.ttl > MAX_TTL {
        return Err(Failure::usage("--ttl takes 1s to 7d"));
    }
    let id = relay_server::identity(relay)?;
    let address = code_address(&relay_server::addresses(relay))?;
    let network = match &args.namespace {
        Some(name) => Some(name.clone()),
        None => relay.config.discovery.network.clone(),
    };
    let until = now + args.ttl.as_secs();
    let members_until = args.expires.map(|after| now.saturating_add(after.as_secs()));
    let order = Order { codes: args.count, until, members_until, network: network.clone() };
    let mut made = None;
    edit_private(&file, FILE_LIMIT, Some(""), |text| {
        let mut groups = Groups::parse(text).map_err(|error| unreadable(&file, error))?;
        let created = groups.create(order, now, &mut rand::rng());
        made = Some(created.map_err(|error| {
            Failure::of(&error).exit(Exit::Usage).hint("`peerup relay pair --list` shows what is open")
        })?);
        Ok(Some(groups.to_text()))
    })
    .map_err(failed)?;
    let Some((group, tokens)) = made else { return Err(Failure::new("no group was made")) };
    let codes: Vec<String> = tokens
        .into_iter()
        .map(|token| {
            PairingCode { token, relay_address: address, relay: id, network: network.clone() }.encode()
        })
        .collect();
    if args.json {
        context.terminal.json(&json!({
            "group_id": group.to_string(),
            "codes": codes,
            "expires_at": Timestamp::from_unix(until),
        }))?;
        return Ok(Exit::Ok);
    }
    for code in &codes {
        context.terminal.line(code)?;
    }
    context.terminal.line(format_args!("Group ID: {group}"))?;
    context.terminal.note(format_args!(
        "Each code lets one machine in, for {}: `peerup join CODE` there. All of them will trust each other.",
        units::duration(args.ttl.as_secs())
    ))?;
    Ok(Exit::Ok)
}

fn list(context: &Context, args: &RelayPair, relay: &RelayFiles, file: PathBuf) -> Result<Exit, Failure> {
    let now = peerup_clock::unix();
    let groups = Groups::parse(&read_private_or_empty(&file, FILE_LIMIT)?)
        .map_err(|error| unreadable(&file, error))?;
    let (keys, _) =
        AuthorizedKeys::parse_lenient(&read_keys_text(&relay.config.security.authorized_keys_file)?);
    let members = |group: GroupId| {
        keys.entries().filter(move |entry| groups_of(entry.group()).any(|other| other == group))
    };
    let open = groups.iter().filter(|(_, group)| group.until > now);
    if args.json {
        let rows: Vec<_> = open
            .map(|(id, group)| {
                let peers: Vec<_> = members(id)
                    .map(|entry| json!({"peer_id": entry.peer().to_string(), "name": entry.comment()}))
                    .collect();
                json!({
                    "id": id.to_string(),
                    "namespace": group.network,
                    "expires_at": Timestamp::from_unix(group.until),
                    "total": group.size(),
                    "used": group.members().count(),
                    "peers": peers,
                })
            })
            .collect();
        context.terminal.json(&rows)?;
        return Ok(Exit::Ok);
    }
    let open: Vec<_> = open.collect();
    if open.is_empty() {
        context.terminal.note("no codes are open; `peerup relay pair` makes some")?;
    }
    for (id, group) in open {
        let (used, size, left) = (group.members().count(), group.size(), units::duration(group.until - now));
        context.terminal.line(format_args!("{id}  {used} of {size} codes used, open for {left}"))?;
        for entry in members(id) {
            let name = entry.comment().map(|comment| format!("  # {comment}")).unwrap_or_default();
            context.terminal.line(format_args!("  {}{name}", entry.peer()))?;
        }
    }
    Ok(Exit::Ok)
}

fn revoke(context: &Context, group: GroupId, file: PathBuf) -> Result<Exit, Failure> {
    edit_private(&file, FILE_LIMIT, Some(""), |text| {
        let mut groups = Groups::parse(text).map_err(|error| unreadable(&file, error))?;
        match groups.revoke(group) {
            true => Ok(Some(groups.to_text())),
            false => Err(Failure::new(format!("no codes of group {group} are open"))
                .hint("`peerup relay pair --list` shows what is")),
        }
    })
    .map_err(failed)?;
    context.terminal.note(format_args!(
        "the open codes of group {group} are void; its members stay: `peerup relay deauthorize` removes them"
    ))?;
    Ok(Exit::Ok)
}

/// Codes hold one IPv4 address and TCP port.
fn code_address(addresses: &[Multiaddr]) -> Result<SocketAddrV4, Failure> {
    let plain = |address: &Multiaddr| match address.iter().collect::<Vec<_>>().as_slice() {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] if *port > 0 => Some(SocketAddrV4::new(*ip, *port)),
        _ => None,
    };
    addresses.iter().find_map(plain).ok_or_else(|| {
        Failure::new("a code names the relay by IPv4 address and TCP port, and this relay announces none")
            .hint("set network.external_addresses, for example to [/ip4/203.0.113.50/tcp/7777]")
    })
}

fn unreadable(file: &Path, error: GroupsError) -> Failure {
    Failure::new(format!("{}: {error}", file.display())).hint("remove the file: its codes are void then")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_takes_the_first_plain_tcp_address() {
        let address = |texts: &[&str]| {
            let addresses: Vec<Multiaddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            code_address(&addresses)
        };
        let found = address(&[
            "/ip6/2001:db8::1/tcp/7777",
            "/ip4/203.0.113.50/udp/7777/quic-v1",
            "/ip4/203.0.113.50/tcp/443/ws",
            "/ip4/203.0.113.50/tcp/7777",
        ]);
        assert_eq!(found.unwrap(), "203.0.113.50:7777".parse().unwrap());
        assert!(address(&["/ip6/2001:db8::1/tcp/7777"]).is_err());
    }
}
