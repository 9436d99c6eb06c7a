//! `peerup whoami`: the peer ID, and nothing else.

use serde_json::json;

use super::Context;
use crate::{
    args::Json,
    backend,
    failure::{Exit, Failure},
};

pub fn run(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let id = backend::identity(&node.file)?;
    if args.json {
        context.terminal.json(&json!({"peer_id": id.to_string(), "name": node.config.name}))?;
    } else {
        context.terminal.line(id)?;
    }
    Ok(Exit::Ok)
}
