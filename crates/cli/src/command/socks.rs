//! `peerup socks`: a proxy into the overlay for as long as the command runs.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;
use peerup_control::{
    Opened,
    api::{OpenReport, OpenRequest},
};
use tokio::io::AsyncReadExt;

use super::{Context, block_on};
use crate::failure::{Exit, Failure};

/// The port that the IANA gave to SOCKS.
const PORT: u16 = 1080;

#[derive(Debug, Args)]
pub struct Socks {
    /// Where to listen: an address and a port, or a port on 127.0.0.1
    #[arg(value_name = "ADDR", value_parser = address, default_value = "127.0.0.1:1080")]
    pub listen: SocketAddr,

    /// Also connect to what is no part of the overlay
    #[arg(long)]
    pub allow_outside: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let with_port = || format!("{text}:{PORT}").parse();
    text.parse().or_else(|_| with_port()).map_err(|_| "write it as 127.0.0.1:1080".to_owned())
}

pub fn run(context: &Context, args: &Socks) -> Result<Exit, Failure> {
    let request = OpenRequest::Socks { listen: args.listen, allow_outside: args.allow_outside };
    block_on(async {
        let Opened { mut socket, report, .. } = context.place.daemon().await?.open(&request).await?;
        let OpenReport::Socks { listen } = report else {
            return Err(Failure::new("the daemon answered with something else"));
        };
        if !listen.ip().is_loopback() {
            let text = format!(
                "warning: {listen} is open to other machines: whoever reaches it reaches the overlay"
            );
            context.terminal.warn(text)?;
        }
        context.terminal.line(format_args!("SOCKS5 and HTTP CONNECT on {listen}"))?;
        context
            .terminal
            .note(format_args!("curl --socks5-hostname {listen} http://PEER/; Ctrl-C ends it"))?;
        // The daemon says nothing more; the end of the socket is its end.
        let _ = socket.read(&mut [0]).await;
        Err(Failure::new("the daemon has stopped, and the proxy with it").exit(Exit::NotRunning))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_an_address_and_both_are_understood() {
        for (text, expected) in [
            ("1234", "127.0.0.1:1234"),
            ("127.0.0.1", "127.0.0.1:1080"),
            ("[::1]:99", "[::1]:99"),
            ("0.0.0.0:1080", "0.0.0.0:1080"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        assert!(address("somewhere:1").is_err());
    }
}
