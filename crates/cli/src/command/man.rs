//! `peerup man DIR`: manual pages, one per command, for packages.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory};

use super::Context;
use crate::{
    args::Cli,
    failure::{Exit, Failure},
};

#[derive(Debug, Args)]
pub struct Man {
    /// Where to write them; created when it does not exist
    pub dir: PathBuf,
}

pub fn run(context: &Context, args: &Man) -> Result<Exit, Failure> {
    let dir = context.place.resolve(&args.dir);
    fs::create_dir_all(&dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &dir))
        .map_err(|error| Failure::of(&error).while_doing(format_args!("cannot write {}", dir.display())))?;
    Ok(Exit::Ok)
}
