//! `peerup verify`: two people compare a short string, so that both know they trust the right key. It is computed from
//! the two peer IDs alone; nothing is sent.

use std::collections::BTreeMap;

use clap::Args;
use peerup_control::{Client, ClientError, Runtime, api::AuthEdit};
use peerup_trust::{
    authorized_keys::{AuthorizedKeys, Entry},
    sas::Sas,
};
use peerup_types::PeerId;
use serde_json::json;

use super::{Context, block_on};
use crate::{
    backend,
    failure::{Exit, Failure},
    place::{NodeFiles, edit_keys, read_keys_text},
    render::short_id,
    terminal::Colour,
};

#[derive(Debug, Args)]
pub struct Verify {
    /// Name, comment in authorized_keys, or peer ID
    pub peer: String,

    /// Show the string and ask nothing
    #[arg(long)]
    pub show: bool,

    /// Print JSON and ask nothing
    #[arg(long)]
    pub json: bool,
}

pub fn run(context: &Context, args: &Verify) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let (keys, _) =
        AuthorizedKeys::parse_lenient(&read_keys_text(&node.config.security.authorized_keys_file)?);
    let entry = find(&node, &keys, &args.peer)?;
    let peer = entry.peer();
    let sas = Sas::of(&backend::identity(&node.file)?, &peer);
    let verified = entry.verified() == Some(sas.stored().as_str());
    let emoji = sas.emoji().map(String::from).join(" ");
    if args.json {
        context.terminal.json(&json!({
            "peer_id": peer.to_string(),
            "emoji": emoji,
            "numeric": sas.numeric(),
            "stored": sas.stored(),
            "verified": verified,
        }))?;
        return Ok(Exit::Ok);
    }
    let name = entry.comment().map_or_else(|| short_id(&peer), str::to_owned);
    context.terminal.line(format_args!("{name}  {peer}\n"))?;
    context
        .terminal
        .line(context.terminal.paint(Colour::Bold, format_args!("  {emoji}   {}\n", sas.numeric())))?;
    if args.show {
        return Ok(Exit::Ok);
    }
    if verified {
        context.terminal.note("verified already")?;
        return Ok(Exit::Ok);
    }
    context
        .terminal
        .note(format_args!("On the other machine, run `peerup verify` for this one and compare."))?;
    let answer = context.terminal.ask("Is it the same there? [y/N]")?;
    if !matches!(answer.to_lowercase().as_str(), "y" | "yes") {
        return Err(Failure::new("not verified; nothing was written")
            .hint("if the strings differ, remove the key: `peerup auth remove`, and pair again"));
    }
    store(&node, peer, &sas)?;
    context
        .terminal
        .note(context.terminal.paint(Colour::Green, format_args!("{name} is verified ({})", sas.stored())))?;
    Ok(Exit::Ok)
}

/// A name of the configuration, a comment that only one key has, or a peer ID.
fn find<'k>(node: &NodeFiles, keys: &'k AuthorizedKeys, text: &str) -> Result<&'k Entry, Failure> {
    let bare = text.strip_suffix(".peerup").unwrap_or(text);
    let named = node.config.names.iter().find(|(name, _)| name.as_str() == bare).map(|(_, peer)| *peer);
    if let Some(peer) = named.or_else(|| peerup_trust::parse_peer_id(text).ok()) {
        return keys.get(&peer).ok_or_else(|| peerup_trust::authorized_keys::UnknownPeer(peer).into());
    }
    let mut commented = keys.entries().filter(|entry| entry.comment() == Some(bare));
    match (commented.next(), commented.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => {
            Err(Failure::new(format!("several keys have the comment `{text}`"))
                .hint("name the peer by its ID"))
        }
        (None, _) => {
            Err(Failure::new(format!("`{text}` is no authorized peer"))
                .hint("`peerup auth list` shows who is"))
        }
    }
}

/// Through the daemon, which then knows it at once; else into the file.
fn store(node: &NodeFiles, peer: PeerId, sas: &Sas) -> Result<(), Failure> {
    let options = BTreeMap::from([("verified".to_owned(), Some(sas.stored()))]);
    let told = block_on(async {
        match Client::connect(&node.state.socket, &node.state.cookie).await {
            Ok(client) => Ok(client.auth_edit(peer, AuthEdit { options }).await.map(|()| true)?),
            Err(ClientError::NotRunning { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })?;
    if told {
        return Ok(());
    }
    edit_keys(&node.config.security.authorized_keys_file, |keys| {
        keys.set_attribute(&peer, "verified", Some(&sas.stored())).map_err(|error| Failure::of(&error))
    })
}
