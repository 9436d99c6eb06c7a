//! An echo service on this crate alone: `echo anna bert` serves bert and prints an address, `echo bert anna ADDRESS`
//! talks to it. Each admits the other only. Keys come from words to keep this short; a program keeps a random one.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::{collections::BTreeSet, env, error::Error};

use futures::{AsyncReadExt, AsyncWriteExt, io};
use peerup_swarm::{Admission, Event, PathHandle, PeerSwarm, Profile, Stream, SwarmConfig};
use peerup_types::Keypair;

const ECHO: &str = "/example/echo/1.0.0";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [own, other, address @ ..] = words.as_slice() else { return Err("who am I, and for whom?".into()) };
    let key = |word: &str| Keypair::ed25519_from_bytes(word.bytes().cycle().take(32).collect::<Vec<_>>());
    let other = key(other)?.public().to_peer_id();
    let mut swarm = PeerSwarm::new(SwarmConfig {
        keypair: key(own)?,
        agent: "echo/0.1".into(),
        dht_protocol: "/example/kad/1.0.0".into(),
        overlay: vec![],
        profile: Profile::Node { mdns: false, relaying: None, punches_over: None },
        authorized_protocols: vec![ECHO],
        infrastructure_protocols: vec![],
        guest_protocols: vec![],
        services: None,
        io: tokio::runtime::Handle::current(),
    })?;
    swarm.set_admission(Admission { authorized: BTreeSet::from([other]), ..Admission::default() });
    match address.first() {
        None => swarm.listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?,
        Some(address) => drop(swarm.dial(other, vec![address.parse()?])?),
    }
    loop {
        match swarm.next_event().await {
            Event::Listening(address) => println!("{address}"),
            Event::Inbound(arrived) => drop(tokio::spawn(echo(arrived.stream))),
            Event::PathOpened(path) if path.outbound => drop(tokio::spawn(greet(path))),
            Event::PathClosed { .. } if !address.is_empty() => return Ok(()),
            Event::DialFailed { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}

async fn echo(stream: Stream) -> io::Result<()> {
    let (from, mut to) = stream.split();
    io::copy(from, &mut to).await?;
    to.close().await
}

async fn greet(path: PathHandle) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut stream = path.open(ECHO).await?;
    stream.write_all(b"hello\n").await?;
    stream.close().await?;
    io::copy(stream, &mut io::AllowStdIo::new(std::io::stdout())).await?;
    std::process::exit(0)
}
