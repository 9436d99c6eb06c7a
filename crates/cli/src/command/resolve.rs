//! `peerup resolve`: the peer ID behind a name. The configuration answers without anybody's help; what it does not know,
//! a running daemon may.

use peerup_control::{
    Client, Runtime,
    api::{ResolveRequest, ResolveSource},
};
use peerup_trust::authorized_keys::AuthorizedKeys;
use peerup_types::PeerId;
use serde_json::json;

use super::{Context, block_on};
use crate::{
    args::Resolve,
    failure::{Exit, Failure},
    place::{NodeFiles, read_keys_text},
};

pub fn run(context: &Context, args: &Resolve) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let (id, source) = match lookup(&node, &args.name) {
        Ok(found) => found,
        Err(unknown) => ask(&node, &args.name).or_else(|| commented(&node, &args.name)).ok_or(unknown)?,
    };
    let Resolve { name, json } = args;
    if *json {
        context.terminal.json(&json!({"name": name, "peer_id": id.to_string(), "source": source}))?;
    } else {
        context.terminal.line(format_args!("{name} → {id}"))?;
    }
    Ok(Exit::Ok)
}

/// `None` when no daemon runs, or when it does not know either.
fn ask(node: &NodeFiles, name: &str) -> Option<(PeerId, &'static str)> {
    let request = ResolveRequest { name: name.to_owned() };
    let found = block_on(async {
        let client = Client::connect(&node.state.socket, &node.state.cookie).await?;
        Ok(client.resolve(request).await?)
    });
    found.ok().map(|found| (found.peer_id, found.source.as_str()))
}

/// What people call it in `authorized_keys`, which a daemon knows too.
fn commented(node: &NodeFiles, name: &str) -> Option<(PeerId, &'static str)> {
    let bare = name.strip_suffix(".peerup").unwrap_or(name);
    let text = read_keys_text(&node.config.security.authorized_keys_file).ok()?;
    let (keys, _) = AuthorizedKeys::parse_lenient(&text);
    let entry = keys.entries().find(|entry| entry.comment() == Some(bare))?;
    Some((entry.peer(), ResolveSource::Network.as_str()))
}

fn lookup(node: &NodeFiles, name: &str) -> Result<(PeerId, &'static str), Failure> {
    let bare = name.strip_suffix(".peerup").unwrap_or(name);
    if let Some((_, id)) = node.config.names.iter().find(|(known, _)| known.as_str() == bare) {
        return Ok((*id, "local_config"));
    }
    let id = peerup_trust::parse_peer_id(name).map_err(|_| {
        Failure::new(format!("`{name}` is neither a name in {} nor a peer ID", node.file.display()))
            .hint("names appear there when machines pair; `peerup config show` lists them")
    })?;
    Ok((id, "peer_id"))
}
