//! `peerup relay add|list|remove`: the relays this node uses. The configuration's text is edited in place, comments
//! kept, and a running daemon is told.

use peerup_config::{
    PeerAddr,
    edit::{self, Edited},
};
use peerup_types::PeerId;

use super::{Context, init::relay_addresses};
use crate::{
    args::Json,
    edit::edit_node,
    failure::{Exit, Failure},
};

pub fn add(context: &Context, addresses: &[String], id: Option<PeerId>) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let relays: Vec<PeerAddr> =
        addresses.iter().map(|text| relay_addresses(text, id)).collect::<Result<Vec<_>, _>>()?.concat();
    edit_node(&node, |before, _| {
        let mut outcome = Edited::Unchanged;
        let mut text = before.to_owned();
        for relay in &relays {
            match edit::add_relay(&text, relay)? {
                Edited::Changed(changed) => {
                    context.terminal.note(format_args!("added {relay}"))?;
                    text.clone_from(&changed);
                    outcome = Edited::Changed(changed);
                }
                Edited::Unchanged => context.terminal.note(format_args!("already there: {relay}"))?,
            }
        }
        Ok(outcome)
    })?;
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
    edit_node(&node, |text, config| {
        let removed = edit::remove_relay(text, &relay)?;
        if removed == Edited::Unchanged {
            return Err(Failure::new(format!("{relay} is not among the relays"))
                .hint("`peerup relay list` shows them"));
        }
        if config.relay.addresses.iter().all(|known| *known == relay) && !force {
            return Err(Failure::new(
                "this is the last relay; without one only machines on the same LAN meet",
            )
            .hint("--force removes it all the same"));
        }
        Ok(removed)
    })?;
    context.terminal.note(format_args!("removed {relay}"))?;
    Ok(Exit::Ok)
}
