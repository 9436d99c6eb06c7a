//! `peerup service`: what this machine offers. The configuration's text is edited in place, comments kept, and a
//! running daemon follows.

use peerup_config::{HostPort, NodeConfig, Problem, Service as Entry, edit::Edited, service_name};
use peerup_control::{Client, ClientError, Runtime, api::ServiceRow};
use peerup_trust::parse_peer_id;
use peerup_types::{DnsLabel, PeerId};
use peerup_wire::protocol;

use super::{Context, block_on};
use crate::{
    args::{Json, Service},
    edit::edit_node,
    failure::{Exit, Failure},
    place::NodeFiles,
    render::table::Table,
};

const LIST: &str = "peerup service list";

pub fn run(context: &Context, command: Service) -> Result<Exit, Failure> {
    match command {
        Service::Add { name, address, allow, protocol } => {
            add(context, &name, &address, &allow, protocol.as_deref())
        }
        Service::List(args) => list(context, &args),
        Service::Remove { name } => remove(context, &name),
        Service::Enable { name } => switch(context, &name, true),
        Service::Disable { name } => switch(context, &name, false),
    }
}

fn add(
    context: &Context,
    name: &str,
    address: &str,
    allow: &[String],
    protocol: Option<&str>,
) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let name = parse_name(name)?;
    let allowed = allow.iter().map(|peer| find_peer(&node.config, peer)).collect::<Result<Vec<_>, _>>()?;
    let entry = Entry {
        enabled: true,
        local_address: local_address(address)?,
        protocol: protocol.map(str::parse).transpose().map_err(|problem| usage(&problem))?,
        allowed_peers: (!allowed.is_empty()).then_some(allowed),
    };
    let changed = edit_node(&node, |text, config| match config.services.get(&name) {
        Some(known) if *known == entry => Ok(Edited::Unchanged),
        Some(known) => Err(taken(&name, known)),
        None => Ok(entry.set(text, &name)?),
    })?;
    let what = if changed { "offered" } else { "already there" };
    context.terminal.note(format_args!("{what}: {name} at {}", entry.local_address))?;
    Ok(Exit::Ok)
}

fn taken(name: &DnsLabel, known: &Entry) -> Failure {
    Failure::new(format!("`{name}` is a service already, at {}", known.local_address))
        .exit(Exit::Conflict)
        .hint(format!("`peerup service remove {name}` makes room"))
}

/// The daemon's list, which has what was exposed for a while; the configuration's when none runs.
fn list(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let rows = block_on(async {
        match Client::connect(&node.state.socket, &node.state.cookie).await {
            Ok(client) => Ok(client.services().await?),
            Err(ClientError::NotRunning { .. }) => Ok(configured(&node)),
            Err(error) => Err(error.into()),
        }
    })?;
    if args.json {
        context.terminal.json(&rows)?;
    } else if rows.is_empty() {
        context.terminal.note("no service; `peerup service add NAME HOST:PORT` adds one")?;
    } else {
        print(context, &node.config, rows)?;
    }
    Ok(Exit::Ok)
}

fn print(context: &Context, config: &NodeConfig, rows: Vec<ServiceRow>) -> Result<(), Failure> {
    let mut table = Table::new(&["NAME", "ADDRESS", "STATE", "FOR"], 3);
    for row in rows {
        let state = match (row.enabled, row.exposed) {
            (_, true) => "exposed",
            (true, false) => "enabled",
            (false, false) => "disabled",
        };
        let called = |peer: &PeerId| {
            let named = config.names.iter().find(|(_, id)| *id == peer);
            named.map_or_else(|| peer.to_string(), |(name, _)| name.to_string())
        };
        let allowed = row.allowed_peers.map(|peers| peers.iter().map(called).collect::<Vec<_>>().join(" "));
        let allowed = allowed.unwrap_or_else(|| "every authorised peer".to_owned());
        table.row([row.name, row.local_address, state.to_owned(), allowed]);
    }
    table.show(&context.terminal)
}

fn configured(node: &NodeFiles) -> Vec<ServiceRow> {
    let row = |(name, entry): (&DnsLabel, &Entry)| ServiceRow {
        name: name.to_string(),
        protocol: protocol::service(name),
        local_address: entry.local_address.to_string(),
        enabled: entry.enabled,
        allowed_peers: entry.allowed_peers.clone(),
        exposed: false,
    };
    node.config.services.iter().map(row).collect()
}

fn remove(context: &Context, name: &str) -> Result<Exit, Failure> {
    let (node, name) = (context.place.load_node()?, parse_name(name)?);
    edit_node(&node, |text, config| {
        known(config, &name)?;
        Ok(Entry::remove(text, &name)?)
    })?;
    context.terminal.note(format_args!("removed: {name}"))?;
    Ok(Exit::Ok)
}

fn switch(context: &Context, name: &str, enabled: bool) -> Result<Exit, Failure> {
    let (node, name) = (context.place.load_node()?, parse_name(name)?);
    let changed = edit_node(&node, |text, config| match known(config, &name)?.enabled == enabled {
        true => Ok(Edited::Unchanged),
        false => Ok(Entry::switch(text, &name, enabled)?),
    })?;
    let word = if enabled { "enabled" } else { "disabled" };
    let what = if changed { "" } else { "already " };
    context.terminal.note(format_args!("{what}{word}: {name}"))?;
    Ok(Exit::Ok)
}

fn known<'c>(config: &'c NodeConfig, name: &DnsLabel) -> Result<&'c Entry, Failure> {
    let unknown =
        || Failure::new(format!("no service is called `{name}`")).hint(format!("`{LIST}` shows them"));
    config.services.get(name).ok_or_else(unknown)
}

fn parse_name(text: &str) -> Result<DnsLabel, Failure> {
    service_name(text).map_err(|problem| usage(&problem))
}

/// A port alone is one of this machine.
fn local_address(text: &str) -> Result<HostPort, Failure> {
    let text = if text.parse::<u16>().is_ok() { format!("localhost:{text}") } else { text.to_owned() };
    text.parse().map_err(|problem: Problem| usage(&problem).hint("write it as localhost:22"))
}

fn find_peer(config: &NodeConfig, text: &str) -> Result<PeerId, Failure> {
    let named = config.names.iter().find(|(name, _)| name.as_str() == text).map(|(_, id)| *id);
    named.map_or_else(
        || {
            parse_peer_id(text).map_err(|_| {
                Failure::usage(format!("`{text}` is neither a name in the configuration nor a peer ID"))
                    .hint("`peerup auth list` shows who may connect")
            })
        },
        Ok,
    )
}

fn usage(problem: &Problem) -> Failure {
    Failure::usage(problem.to_string())
}
