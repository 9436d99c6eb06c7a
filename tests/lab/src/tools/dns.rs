//! A real DNS server with a name or two.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Cmd, Process, Show};

/// dnsmasq on `port` of every address: `name` is at `address`, and nothing else is anywhere. `cmd` runs a program as
/// whoever shall be the server.
pub fn serve(cmd: impl Fn(&str) -> Cmd, port: u16, name: &str, address: &str) -> Result<Process> {
    let words = [
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--no-daemon".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        format!("--port={port}"),
        format!("--address=/{name}/{address}"),
    ];
    let server = cmd("dnsmasq").args(words).show(Show::Nothing).spawn()?;
    server.wait_for_line("started", Duration::from_secs(10)).context("starting dnsmasq")?;
    Ok(server)
}
