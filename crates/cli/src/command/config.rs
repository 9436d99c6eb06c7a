//! `peerup config` and `peerup relay config`: is the file right, and what does it amount to.

use std::path::Path;

use peerup_config::Resolved;

use super::Context;
use crate::{
    args::{Config, Json},
    failure::{Exit, Failure},
    place::{read_identity, validate_keys},
};

pub fn run(context: &Context, command: Config) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    match command {
        Config::Validate => {
            let config = &node.config;
            validate(context, &node.file, &config.identity.key_file, &config.security.authorized_keys_file)
        }
        Config::Show(args) => show(context, &args, &node.file, &node.config.resolved()),
    }
}

pub fn run_relay(context: &Context, command: Config) -> Result<Exit, Failure> {
    let relay = context.place.load_relay()?;
    match command {
        Config::Validate => {
            let config = &relay.config;
            validate(context, &relay.file, &config.identity.key_file, &config.security.authorized_keys_file)
        }
        Config::Show(args) => show(context, &args, &relay.file, &relay.config.resolved()),
    }
}

/// The file has been read already; here the files it names are, as far as they exist.
fn validate(context: &Context, file: &Path, key: &Path, keys: &Path) -> Result<Exit, Failure> {
    read_identity(key)?;
    validate_keys(keys)?;
    context.terminal.line(format_args!("OK: {} is valid", file.display()))?;
    Ok(Exit::Ok)
}

fn show(context: &Context, args: &Json, file: &Path, resolved: &Resolved) -> Result<Exit, Failure> {
    if args.json {
        context.terminal.json(resolved)?;
    } else {
        context.terminal.line(format_args!("# Resolved config from {}", file.display()))?;
        context.terminal.line(resolved.to_string().trim_end())?;
    }
    Ok(Exit::Ok)
}
