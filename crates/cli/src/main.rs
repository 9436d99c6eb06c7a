//! `peerup`: the one binary. It parses the command line, asks a running daemon or works on the local files, and
//! renders what comes back. Every decision about peers, paths and trust is made elsewhere.
#![forbid(unsafe_code)]

mod args;
mod backend;
mod command;
mod edit;
mod failure;
mod lockout;
mod place;
mod progress;
mod readiness;
mod redact;
mod render;
mod terminal;
mod version;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::run(args::Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit.into()
        }
    }
}
