//! `peerup relay add|list|remove`: the relays this node uses. The configuration's text is edited in place, comments
//! kept, and a running daemon is told.

use peerup_config::{
    PeerAddr,
    edit::{self, EditError, Edited},
};
use peerup_control::{Client, ClientError, Runtime};
use peerup_service::files::write_private_atomic;
use peerup_types::PeerId;

use super::{Context, block_on, init::relay_addresses};
use crate::{
    args::Json,
    failure::{Exit, Failure},
    place::NodeFiles,
};

pub fn add(context: &Context, addresses: &[String], id: Option<PeerId>) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let relays: Vec<PeerAddr> =
        addresses.iter().map(|text| relay_addresses(text, id)).collect::<Result<Vec<_>, _>>()?.concat();
    let mut text = node.text.clone();
    for relay in &relays {
        match edit::add_relay(&text, relay).map_err(|error| edit_failed(&node, &error))? {
            Edited::Changed(changed) => {
                text = changed;
                context.terminal.note(format_args!("added {relay}"))?;
            }
            Edited::Unchanged => context.terminal.note(format_args!("already there: {relay}"))?,
        }
    }
    save(&node, &text)?;
    Ok(Exit::Ok)
}

pub fn list(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let relays = context.place.load_node()?.config.relay.addresses;
    if args.json {
        let relays: Vec<_> = relays.iter().map(ToString::to_string).collect();
        context.terminal.json(&relays)?;
        return Ok(Exit::Ok);
    }
    if relays.is_empty() {
        context.terminal.note("no relay; `peerup relay add ADDRESS` adds one")?;
    }
    for (number, relay) in relays.iter().enumerate() {
        context.terminal.line(format_args!("{}. {relay}", number + 1))?;
    }
    Ok(Exit::Ok)
}

pub fn remove(context: &Context, address: &str, force: bool) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let relay: PeerAddr = address.parse()?;
    let Edited::Changed(text) =
        edit::remove_relay(&node.text, &relay).map_err(|error| edit_failed(&node, &error))?
    else {
        return Err(
            Failure::new(format!("{relay} is not among the relays")).hint("`peerup relay list` shows them")
        );
    };
    if node.config.relay.addresses.iter().all(|known| *known == relay) && !force {
        return Err(Failure::new("this is the last relay; without one only machines on the same LAN meet")
            .hint("--force removes it all the same; on a LAN, set network.mdns"));
    }
    save(&node, &text)?;
    context.terminal.note(format_args!("removed {relay}"))?;
    Ok(Exit::Ok)
}

fn edit_failed(node: &NodeFiles, error: &EditError) -> Failure {
    Failure::of(error).or_hint(error.hint()).while_doing(node.file.display())
}

/// Replaces the configuration when it changed, and lets a running daemon read it.
pub fn save(node: &NodeFiles, text: &str) -> Result<(), Failure> {
    if text == node.text {
        return Ok(());
    }
    write_private_atomic(&node.file, text.as_bytes())?;
    block_on(async {
        match Client::connect(&node.state.socket, &node.state.cookie).await {
            Ok(client) => Ok(client.reload().await?),
            Err(ClientError::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
}
