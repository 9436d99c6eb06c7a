//! `peerup resolve`: the peer ID behind a name, from the configuration alone.

use peerup_types::PeerId;
use serde_json::json;

use super::Context;
use crate::{
    args::Resolve,
    failure::{Exit, Failure},
    place::NodeFiles,
};

pub fn run(context: &Context, args: &Resolve) -> Result<Exit, Failure> {
    let (id, source) = lookup(&context.place.load_node()?, &args.name)?;
    let Resolve { name, json } = args;
    if *json {
        context.terminal.json(&json!({"name": name, "peer_id": id.to_string(), "source": source}))?;
    } else {
        context.terminal.line(format_args!("{name} → {id}"))?;
    }
    Ok(Exit::Ok)
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
