//! Small programs that the laboratory runs inside its namespaces.
#![forbid(unsafe_code)]

mod bulk;
mod capture;
mod hold;
mod nat_pmp;
mod stun;
mod udp;
mod wire;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((name, rest)) if name == "wire" => wire::run(rest),
        Some((name, rest)) if name == "capture" => capture::run(rest),
        Some((name, rest)) if name == "sink" => bulk::sink(rest),
        Some((name, rest)) if name == "flood" => bulk::flood(rest),
        Some((name, rest)) if name == "udp" => udp::run(rest),
        Some((name, rest)) if name == "stun" => stun::run(rest),
        Some((name, rest)) if name == "nat-pmp" => nat_pmp::run(rest),
        Some((name, [])) if name == "hold" => hold::run(),
        _ => bail!(
            "usage: peerup-lab-tool wire NETNS TAP NETNS TAP IMPAIRMENT… | udp PORT [DESTINATION…] | capture LINK | stun PORT \
             | nat-pmp INSIDE OUTSIDE | sink PORT | flood ADDRESS SECONDS [PROXY] | hold"
        ),
    }
}
