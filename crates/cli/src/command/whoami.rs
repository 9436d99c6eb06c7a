//! `peerup whoami`: the peer ID, and nothing else.

use serde_json::json;

use super::Context;
use crate::{
    args::Json,
    failure::{Exit, Failure},
    place::load_or_create_identity,
};

pub fn run(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let id = load_or_create_identity(&node.config.identity.key_file)?.public().to_peer_id();
    if args.json {
        context.terminal.json(&json!({"peer_id": id.to_string(), "name": node.config.name}))?;
    } else {
        context.terminal.line(id)?;
    }
    Ok(Exit::Ok)
}
