//! An authorised peer that misbehaves.
//!
//! It holds a key that its victim trusts, connects, says a proper hello and proves with an honest ping that the
//! victim takes its packets. Only then does it do the one thing it was asked for, and reports what the victim made
//! of it: `closed` when the victim gave it up, `answered` when an honest ping still gets through.
//!
//! ```text
//! peerup-mallory KEY VICTIM OWN THIRD MISCHIEF
//! KEY      identity key file          VICTIM    underlay address that ends in /p2p/PEER
//! OWN      overlay IPv4 address that the victim gave this key
//! THIRD    overlay IPv4 address of another peer of the victim
//! MISCHIEF see `Mischief`
//! ```
#![forbid(unsafe_code)]

mod link;
mod mischief;
mod packets;

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use peerup_types::{Keypair, Multiaddr, PeerId, Protocol};

use link::Link;
use mischief::Mischief;

/// Who is who.
pub struct Cast {
    pub key: Keypair,
    pub victim: PeerId,
    pub address: Multiaddr,
    pub own: Ipv4Addr,
    pub third: Ipv4Addr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (cast, mischief) = arguments()?;
    let mut link = Link::open(&cast).await?;
    say("connected");
    if !mischief.is_instead_of_a_hello() {
        link.greet().await?;
        say("greeted");
        link.honest_ping(&cast).await.context("before the mischief")?;
        say("honest");
    }
    mischief.commit(&mut link, &cast).await?;
    say("committed");
    if link.is_closed().await {
        say("closed");
        return Ok(());
    }
    link.honest_ping(&cast).await.context("after the mischief")?;
    say("answered");
    Ok(())
}

fn arguments() -> Result<(Cast, Mischief)> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [key, address, own, third, mischief] = &words[..] else {
        bail!("usage: peerup-mallory KEY VICTIM OWN THIRD {}", Mischief::names());
    };
    let bytes = std::fs::read(key).with_context(|| format!("reading {key}"))?;
    let address: Multiaddr = address.parse().with_context(|| format!("address {address}"))?;
    let Some(Protocol::P2p(victim)) = address.iter().last() else { bail!("{address} names no peer") };
    let key = peerup_trust::identity::decode(&bytes)?;
    Ok((Cast { key, victim, address, own: own.parse()?, third: third.parse()? }, mischief.parse()?))
}

/// One word a line: the laboratory waits for them.
#[expect(clippy::print_stdout, reason = "the laboratory reads this program's output")]
pub fn say(line: &str) {
    println!("{line}");
}
