//! The things it does.

use std::{net::Ipv4Addr, str::FromStr};

use anyhow::{Error, Result, bail};
use futures::{AsyncWriteExt, future::join_all};
use peerup_types::Multiaddr;
use peerup_wire::{
    control::{Control, MAX_PUNCH_ADDRS, Punch},
    frame::{FrameHeader, FrameKind, FrameWriter, VirtioNetHeader},
};

use crate::{Cast, link::Link, packets};

/// How often a packet that must not arrive is sent.
const TIMES: u16 = 5;
/// An address that nobody has.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const FLOOD: u32 = 30_000;
const SILENT_STREAMS: usize = 200;
/// Below what waits for a connection's task at most.
const STREAMS_AT_ONCE: usize = 8;
const NOISE: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// Packets from the third peer's address, from the victim's own and from outside the network.
    Spoof,
    /// Packets from its own address to the third peer and to the outside: the victim is no router.
    Misroute,
    /// Frames whose body is not a packet.
    Nonsense,
    /// A frame of 16 MiB.
    TooLong,
    /// A frame that ends early, and the stream with it.
    Truncate,
    /// A hello of 64 KiB.
    LongHello,
    /// Random bytes in place of frames.
    Noise,
    /// Control frames, as many as fit: requests to dial a bystander, and empty lists of claims.
    Flood,
    /// Super-packets whose header lies.
    SuperPacket,
    /// Streams on which no hello ever comes.
    SilentStreams,
    /// Nothing at all.
    Silence,
}

const NAMES: [(&str, Mischief); 11] = [
    ("spoof", Mischief::Spoof),
    ("misroute", Mischief::Misroute),
    ("nonsense", Mischief::Nonsense),
    ("too-long", Mischief::TooLong),
    ("truncate", Mischief::Truncate),
    ("long-hello", Mischief::LongHello),
    ("noise", Mischief::Noise),
    ("flood", Mischief::Flood),
    ("super-packet", Mischief::SuperPacket),
    ("silent-streams", Mischief::SilentStreams),
    ("silence", Mischief::Silence),
];

impl Mischief {
    pub fn names() -> String {
        NAMES.map(|(name, _)| name).join("|")
    }

    pub fn is_instead_of_a_hello(self) -> bool {
        self == Self::LongHello
    }

    pub async fn commit(self, link: &mut Link, cast: &Cast) -> Result<()> {
        match self {
            Self::Spoof => spoof(link, cast).await,
            Self::Misroute => misroute(link, cast).await,
            Self::Nonsense => nonsense(link).await,
            // The victim may close before everything is written, which is as good as after.
            Self::TooLong => {
                give_up(link.send(&[FrameKind::Packet.code(), 0, 0xff, 0xff, 0xff, 0, 0, 0, 0]).await)
            }
            Self::Truncate => truncate(link).await,
            Self::LongHello => give_up(link.send(&[0xff; 2 + 0xffff]).await),
            Self::Noise => give_up(link.send(&noise()).await),
            Self::Flood => flood(link).await,
            Self::SuperPacket => super_packet(link, cast).await,
            Self::SilentStreams => silent_streams(link).await,
            Self::Silence => Ok(()),
        }
    }
}

impl FromStr for Mischief {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match NAMES.iter().find(|(name, _)| *name == word) {
            Some((_, mischief)) => Ok(*mischief),
            None => bail!("no mischief is called {word:?}: {}", Self::names()),
        }
    }
}

async fn spoof(link: &mut Link, cast: &Cast) -> Result<()> {
    let Some(victim) = link.victim else { bail!("the victim has no address") };
    for number in 0..TIMES {
        for source in [cast.third, victim, ELSEWHERE] {
            let packet = packets::ping(source, victim, number);
            link.send_packet(&packet).await?;
            link.send_super_packet(&VirtioNetHeader::default(), &packet).await?;
        }
    }
    Ok(())
}

async fn misroute(link: &mut Link, cast: &Cast) -> Result<()> {
    for number in 0..TIMES {
        for destination in [cast.third, ELSEWHERE] {
            link.send_packet(&packets::ping(cast.own, destination, number)).await?;
        }
    }
    Ok(())
}

/// Nothing, an IPv4 packet that claims to be longer than it is, and a version that does not exist.
async fn nonsense(link: &mut Link) -> Result<()> {
    let mut cut = packets::ping(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 0);
    cut.truncate(24);
    for _ in 0..TIMES {
        for packet in [&[][..], &cut, &[0xf5; 60]] {
            link.send_packet(packet).await?;
        }
    }
    Ok(())
}

async fn truncate(link: &mut Link) -> Result<()> {
    link.send(&FrameHeader::new(FrameKind::Packet, 0, 0, 100)?.emit()).await?;
    link.send(&[0x45; 10]).await?;
    give_up(link.stream.close().await)
}

/// xorshift64: the same bytes in each run. The first frame has a known type and a length that is allowed, so that
/// what follows it is taken for a frame.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    });
    let mut bytes = vec![FrameKind::Packet.code(), 0, 0, 0, 40, 0, 0, 0, 0];
    bytes.extend(words.flatten().take(NOISE));
    bytes
}

async fn flood(link: &mut Link) -> Result<()> {
    // A neighbour of the victim that does not exist.
    let bystander: Multiaddr = "/ip4/203.0.113.77/udp/9/quic-v1".parse()?;
    for attempt in 0..FLOOD / 2 {
        let mut writer = FrameWriter::new();
        let addrs = vec![bystander.clone(); MAX_PUNCH_ADDRS];
        writer.push_control(&Control::PunchRequest(Punch {
            attempt,
            delay_ms: 0,
            mapping: Default::default(),
            addrs,
        }))?;
        writer.push_control(&Control::Claims(Vec::new()))?;
        link.send(writer.as_bytes()).await?;
    }
    Ok(())
}

/// Headers before a packet that is fine: offsets outside of it, a segmentation type that does not exist, a checksum to
/// be written over the source address, TCP segments of an ICMP packet; and a body that ends inside the header.
async fn super_packet(link: &mut Link, cast: &Cast) -> Result<()> {
    let Some(victim) = link.victim else { bail!("the victim has no address") };
    let headers = [
        [1, 1, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff],
        [0, 2, 20, 0, 100, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0, 12, 0],
        [1, 1, 40, 0, 8, 0, 20, 0, 16, 0],
    ];
    for number in 0..TIMES {
        for header in headers {
            let packet = packets::ping(cast.own, victim, number);
            link.send_super_packet(&VirtioNetHeader::parse(&header), &packet).await?;
        }
        link.send(&FrameHeader::new(FrameKind::SuperPacket, 0, 0, 3)?.emit()).await?;
        link.send(&[0; 3]).await?;
    }
    Ok(())
}

/// A few at a time, as many as the victim accepts.
async fn silent_streams(link: &mut Link) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..SILENT_STREAMS / STREAMS_AT_ONCE {
        let opening = join_all((0..STREAMS_AT_ONCE).map(|_| link.another_stream())).await;
        streams.extend(opening.into_iter().flatten());
    }
    crate::say(&format!("{} streams", streams.len()));
    // Held until the program ends.
    std::mem::forget(streams);
    Ok(())
}

/// What the victim cut short was said all the same.
fn give_up<E>(_: Result<(), E>) -> Result<()> {
    Ok(())
}
