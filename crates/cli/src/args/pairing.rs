//! Arguments of `peerup invite` and `peerup join`.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub struct Invite {
    /// What the other machine shall call this one; default: its configured name
    #[arg(long)]
    pub name: Option<String>,

    /// How long the code stays good
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    pub ttl: Duration,

    /// Print the bare code on standard output, everything else on standard error
    #[arg(long)]
    pub non_interactive: bool,
}

#[derive(Debug, Args)]
pub struct Join {
    /// The code, in one piece or several; default: PEERUP_INVITE_CODE, then a question
    pub code: Vec<String>,

    /// What the inviter shall call this machine; default: its configured name
    #[arg(long)]
    pub name: Option<String>,

    /// Ask nothing; without a code on the command line, read one line from standard input
    #[arg(long)]
    pub non_interactive: bool,
}
