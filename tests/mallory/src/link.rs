//! The connection to the victim: our stream, and a task for everything the victim starts.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_swarm::{Admission, Event, PathHandle, PeerSwarm, Profile, Stream, SwarmConfig};
use peerup_types::{OverlayAddrs, PathId};
use peerup_wire::{
    frame::{Deframer, FrameKind, FrameWriter, VIRTIO_NET_HEADER_LEN, VirtioNetHeader},
    hello::{self, Hello, HelloAck},
    protocol,
    version::VersionRange,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{Cast, packets};

const DEADLINE: Duration = Duration::from_secs(10);
/// What the victim gets to give us up. It does so at once; a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Replies waiting to be looked at.
const REPLIES: usize = 1024;

pub struct Link {
    path: PathHandle,
    hello: Hello,
    /// Ours, from the first byte on.
    pub stream: Stream,
    /// The victim's overlay address, once it said hello.
    pub victim: Option<Ipv4Addr>,
    pings: u16,
    replies: mpsc::Receiver<u16>,
    closed: watch::Receiver<bool>,
}

impl Link {
    /// Connects and opens a stream; nothing is said on it.
    pub async fn open(cast: &Cast) -> Result<Self> {
        let mut swarm = PeerSwarm::new(config(cast))?;
        swarm.set_admission(Admission { authorized: [cast.victim].into(), ..Admission::default() });
        swarm.dial(cast.victim, vec![cast.address.clone()])?;
        let path = timeout(DEADLINE, opened(&mut swarm)).await.context("connecting")??;
        let hello = hello(cast);
        let (replies_in, replies) = mpsc::channel(REPLIES);
        let (closing, closed) = watch::channel(false);
        tokio::spawn(serve(swarm, path.path, hello.clone(), replies_in, closing));
        let stream = path.open(protocol::TUN).await?;
        Ok(Self { path, hello, stream, victim: None, pings: 0, replies, closed })
    }

    /// Another stream beside ours.
    pub async fn another_stream(&self) -> Result<Stream> {
        Ok(self.path.open(protocol::TUN).await?)
    }

    /// Says a proper hello and insists on being accepted.
    pub async fn greet(&mut self) -> Result<()> {
        self.send(&self.hello.encode()).await?;
        let answer = timeout(DEADLINE, read_message(&mut self.stream)).await.context("greeting")??;
        match HelloAck::parse(&answer)? {
            HelloAck::Accepted(hello) => self.victim = hello.overlay.v4,
            HelloAck::Refused { reason, .. } => bail!("the victim refused us: {}", reason.as_str()),
        }
        Ok(())
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// A packet in a proper frame.
    pub async fn send_packet(&mut self, packet: &[u8]) -> Result<()> {
        let mut writer = FrameWriter::new();
        writer.push_packet(0, packet)?;
        self.send(writer.as_bytes()).await
    }

    /// A packet behind a virtio header, in a proper frame.
    pub async fn send_super_packet(&mut self, header: &VirtioNetHeader, packet: &[u8]) -> Result<()> {
        let mut writer = FrameWriter::new();
        writer.push_super_packet(0, header, packet)?;
        self.send(writer.as_bytes()).await
    }

    /// Pings the victim as a well-behaved peer does and waits for the answer.
    pub async fn honest_ping(&mut self, cast: &Cast) -> Result<()> {
        self.pings += 1;
        let victim = self.victim.context("the victim has no overlay address")?;
        self.send_packet(&packets::ping(cast.own, victim, self.pings)).await?;
        let answered =
            async { while self.replies.recv().await.is_some_and(|number| number != self.pings) {} };
        timeout(DEADLINE, answered).await.context("no answer to an honest ping")?;
        ensure!(!*self.closed.borrow(), "the connection was closed");
        Ok(())
    }

    /// Whether the victim closes our stream or the whole connection.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let ended = async {
            tokio::select! {
                _ = self.closed.wait_for(|closed| *closed) => {}
                // The victim says nothing on our stream behind its answer to the hello.
                _ = self.stream.read(&mut byte) => {}
            }
        };
        timeout(PATIENCE, ended).await.is_ok()
    }
}

fn config(cast: &Cast) -> SwarmConfig {
    SwarmConfig {
        keypair: cast.key.clone(),
        agent: "peerup/mallory".to_owned(),
        dht_protocol: protocol::kad_protocol(None),
        overlay: Vec::new(),
        profile: Profile::Node { mdns: false, relaying: None, punches_over: None },
        authorized_protocols: vec![protocol::TUN],
        infrastructure_protocols: Vec::new(),
        guest_protocols: Vec::new(),
        services: None,
        io: Handle::current(),
    }
}

fn hello(cast: &Cast) -> Hello {
    Hello {
        versions: VersionRange::SUPPORTED,
        features: hello::FEATURE_SUPER_PACKETS,
        boot_epoch: u64::from(std::process::id()),
        overlay: OverlayAddrs { v4: Some(cast.own), v6: Ipv6Addr::UNSPECIFIED },
        own_claim: None,
        known_claims: Vec::new(),
        name: None,
        mtu: hello::MIN_MTU,
        network: None,
        relay_addresses: Vec::new(),
    }
}

async fn opened(swarm: &mut PeerSwarm) -> Result<PathHandle> {
    loop {
        match swarm.next_event().await {
            Event::PathOpened(path) => return Ok(path),
            Event::DialFailed { error, .. } => bail!("not connected: {error}"),
            _ => {}
        }
    }
}

/// Keeps the connection going and answers what the victim opens, until the connection is closed.
async fn serve(
    mut swarm: PeerSwarm,
    ours: PathId,
    hello: Hello,
    replies: mpsc::Sender<u16>,
    closing: watch::Sender<bool>,
) {
    loop {
        match swarm.next_event().await {
            Event::Inbound(arrived) => {
                tokio::spawn(listen(arrived.stream, hello.clone(), replies.clone()));
            }
            // Connections to others, whom the DHT names, come and go.
            Event::PathClosed { path, .. } if path == ours => {
                closing.send_replace(true);
            }
            _ => {}
        }
    }
}

/// Accepts the victim's hello and takes its packets. Its probes stay unanswered.
async fn listen(mut stream: Stream, hello: Hello, replies: mpsc::Sender<u16>) -> Result<()> {
    Hello::parse(&read_message(&mut stream).await?)?;
    stream.write_all(&HelloAck::Accepted(hello).encode()).await?;
    stream.flush().await?;
    let mut deframer = Deframer::default();
    loop {
        let read = stream.read(deframer.space()).await?;
        ensure!(read > 0, "the victim closed its stream");
        deframer.filled(read);
        while let Some(frame) = deframer.next_frame()? {
            let answered = match frame.kind {
                FrameKind::Packet => packets::answered(frame.body),
                FrameKind::SuperPacket => frame.body.get(VIRTIO_NET_HEADER_LEN..).and_then(packets::answered),
                FrameKind::Probe | FrameKind::Ack | FrameKind::Control | FrameKind::Announce => None,
            };
            if let Some(number) = answered {
                replies.send(number).await?;
            }
        }
    }
}

async fn read_message(stream: &mut Stream) -> Result<Vec<u8>> {
    let mut prefix = [0; hello::LENGTH_PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut message = vec![0; hello::decode_length(prefix)?];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
