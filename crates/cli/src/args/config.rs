//! Arguments of `peerup config`.

use clap::Subcommand;

use super::Json;

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check the file
    Validate,
    /// Print the configuration with every default filled in
    Show(Json),
}
