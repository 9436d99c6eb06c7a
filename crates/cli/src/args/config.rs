//! Arguments of `peerup config`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::Json;

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check the file
    Validate(Json),
    /// Print the configuration with every default filled in
    Show(ShowConfig),
    /// Give one key a value; comments stay
    Set {
        /// As `config show` names it: vpn.mtu, names.home, `relay.addresses[0]`
        key: String,

        /// A value as it would stand in the file: 1400, off, [a, b]
        value: String,

        #[command(flatten)]
        probation: Probation,
    },
    /// Remove one key, so that its default counts
    Unset {
        /// As `config show` names it
        key: String,

        #[command(flatten)]
        probation: Probation,
    },
    /// Open the file in $VISUAL or $EDITOR; it is checked before it counts
    Edit(Probation),
    /// Put FILE in force for a while; it is taken back unless `config confirm` keeps it
    Apply {
        /// The whole new configuration
        file: PathBuf,

        /// How long to wait for `config confirm`, up to 24h
        #[arg(long, default_value = "5m", value_parser = confirm_timeout)]
        confirm_timeout: Duration,
    },
    /// Keep what `config apply` put in force
    Confirm,
    /// Take an unconfirmed change back; without one, go back to the last configuration that worked
    Rollback,
}

#[derive(Debug, Args)]
pub struct Probation {
    /// Take the change back after this many seconds, unless `config confirm` keeps it
    #[arg(long, value_name = "SECONDS", value_parser = crate::lockout::seconds)]
    pub confirm: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct ShowConfig {
    /// Say for each key whether the file sets it, and on which line
    #[arg(long)]
    pub origin: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// From a second to a day.
pub fn confirm_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_secs(1)..=peerup_config::commit::MAX_TIMEOUT).contains(&timeout) {
        true => Ok(timeout),
        false => Err("choose a time from 1s to 24h".to_owned()),
    }
}
