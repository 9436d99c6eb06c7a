//! The format is frozen: each vector in `tests/golden` is what this build emits and what it parses, and
//! `docs/wire.md` explains the very same bytes.

#![expect(clippy::unwrap_used, reason = "helpers of tests; a panic names the line")]

use std::net::Ipv4Addr;

use data_encoding::HEXLOWER;
use peerup_types::{AddressClaim, Keypair, NatMapping, OverlayAddrs, PeerId};
use peerup_wire::control::{Control, GoodbyeReason, Punch};
use peerup_wire::frame::{
    Ack, Announce, Deframer, FrameKind, FrameWriter, Probe, ProbeKind, SuperPacket, VirtioNetHeader,
};
use peerup_wire::hello::{FEATURE_ACKS, FEATURE_SUPER_PACKETS, Hello, HelloAck, RefusalReason};
use peerup_wire::version::VersionRange;
use peerup_wire::vouch::{Request, Response, Status};

const DOCUMENT: &str = include_str!("../../../docs/wire.md");

/// The vectors by name, with their lines of hex.
mod vectors {
    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            &[$(($name, include_str!(concat!("golden/", $name, ".hex")))),*]
        };
    }

    const ALL: &[(&str, &str)] = files!(
        "frame_packet",
        "frame_super_packet",
        "frame_probe",
        "frame_ack",
        "frame_announce",
        "control_goodbye",
        "control_claims",
        "control_punch_request",
        "control_punch_reply",
        "control_relay_offer",
        "hello",
        "hello_ack_accepted",
        "hello_ack_refused",
        "vouch_open_admission",
        "vouch_authorize",
        "vouch_close_admission",
        "vouch_response",
    );

    pub(super) fn bytes(name: &str) -> Vec<u8> {
        let (_, lines) = all().find(|(known, _)| *known == name).unwrap();
        let hex = lines.collect::<String>().replace(' ', "");
        super::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    pub(super) fn all() -> impl Iterator<Item = (&'static str, impl Iterator<Item = &'static str>)> {
        ALL.iter().map(|(name, text)| (*name, text.lines().filter(|line| !line.starts_with('#'))))
    }
}

fn peer(seed: u8) -> PeerId {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
}

fn claim(seed: u8, signature: Vec<u8>) -> AddressClaim {
    let address = Ipv4Addr::new(10, 64, 0, seed);
    AddressClaim { peer: peer(seed), address, epoch: 1_700_000_000, signature }
}

fn punch(delay_ms: u16) -> Punch {
    let addrs = ["/ip4/203.0.113.7/udp/4001/quic-v1", "/ip6/2001:db8::7/tcp/4001"];
    let mapping = NatMapping::EndpointIndependent;
    Punch { attempt: 5, delay_ms, mapping, addrs: addrs.map(|addr| addr.parse().unwrap()).to_vec() }
}

fn anna() -> Hello {
    Hello {
        versions: VersionRange::SUPPORTED,
        features: FEATURE_SUPER_PACKETS | FEATURE_ACKS,
        boot_epoch: 0x0102_0304_0506_0708,
        overlay: OverlayAddrs {
            v4: Some(Ipv4Addr::new(10, 64, 0, 1)),
            v6: "fd12:3456:789a::1".parse().unwrap(),
        },
        own_claim: Some(claim(1, vec![0xaa; 64])),
        known_claims: vec![claim(2, Vec::new())],
        name: Some("laptop".parse().unwrap()),
        mtu: 1420,
        network: Some("home".parse().unwrap()),
        relay_addresses: Vec::new(),
    }
}

/// An empty ICMP echo request from 10.64.0.1 to 10.64.0.2.
const PING: [u8; 28] = [
    0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0x26, 0x5f, 10, 64, 0, 1, 10, 64, 0, 2, // IPv4
    8, 0, 0xf7, 0xfd, 0, 1, 0, 1, // ICMP
];

#[track_caller]
fn emits(name: &str, bytes: &[u8]) {
    assert_eq!(HEXLOWER.encode(bytes), HEXLOWER.encode(&vectors::bytes(name)), "{name}");
}

/// The one frame in a vector: sequence number and body.
fn frame_in(name: &str, kind: FrameKind) -> (u32, Vec<u8>) {
    let bytes = vectors::bytes(name);
    let mut deframer = Deframer::default();
    deframer.space()[..bytes.len()].copy_from_slice(&bytes);
    deframer.filled(bytes.len());
    let frame = deframer.next_frame().unwrap().unwrap();
    assert_eq!((frame.kind, frame.flags), (kind, 0));
    let frame = (frame.seq, frame.body.to_vec());
    assert_eq!(deframer.finish(), Ok(()));
    frame
}

fn written(write: impl FnOnce(&mut FrameWriter)) -> Vec<u8> {
    let mut writer = FrameWriter::new();
    write(&mut writer);
    writer.as_bytes().to_vec()
}

/// The body of a vector that begins with a two-byte length.
fn behind_length(name: &str) -> Vec<u8> {
    let bytes = vectors::bytes(name);
    let (prefix, body) = bytes.split_first_chunk().unwrap();
    assert_eq!(usize::from(u16::from_be_bytes(*prefix)), body.len());
    body.to_vec()
}

#[test]
fn packet_frames_are_frozen() {
    emits("frame_packet", &written(|w| w.push_packet(42, &PING).unwrap()));
    assert_eq!(frame_in("frame_packet", FrameKind::Packet), (42, PING.to_vec()));
}

#[test]
fn super_packet_frames_are_frozen() {
    let header =
        VirtioNetHeader { flags: 1, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 20, csum_offset: 2 };
    emits("frame_super_packet", &written(|w| w.push_super_packet(43, &header, &PING).unwrap()));
    let (seq, body) = frame_in("frame_super_packet", FrameKind::SuperPacket);
    assert_eq!((seq, SuperPacket::parse(&body)), (43, Ok(SuperPacket { header, packet: &PING })));
}

#[test]
fn probe_frames_are_frozen() {
    let probe = Probe { kind: ProbeKind::Reply, id: 0x1122_3344_5566_7788 };
    emits("frame_probe", &written(|w| w.push_probe(probe)));
    let (seq, body) = frame_in("frame_probe", FrameKind::Probe);
    assert_eq!((seq, Probe::parse(&body)), (0, Ok(probe)));
}

#[test]
fn ack_frames_are_frozen() {
    let ack = Ack { lane: 3, seq: 42 };
    emits("frame_ack", &written(|w| w.push_ack(ack)));
    let (seq, body) = frame_in("frame_ack", FrameKind::Ack);
    assert_eq!((seq, Ack::parse(&body)), (0, Ok(ack)));
}

#[test]
fn announce_frames_are_frozen() {
    let announce = Announce { lane: 3, instance: 0x0102_0304_0506_0708, seq: 42 };
    emits("frame_announce", &written(|w| w.push_announce(announce)));
    let (seq, body) = frame_in("frame_announce", FrameKind::Announce);
    assert_eq!((seq, Announce::parse(&body)), (0, Ok(announce)));
}

#[test]
fn control_frames_are_frozen() {
    for (name, control) in [
        ("control_goodbye", Control::Goodbye(GoodbyeReason::Shutdown)),
        ("control_claims", Control::Claims(vec![claim(1, vec![0xaa; 64]), claim(2, Vec::new())])),
        ("control_punch_request", Control::PunchRequest(punch(0))),
        ("control_punch_reply", Control::PunchReply(punch(120))),
        ("control_relay_offer", Control::RelayOffer(punch(0).addrs[..1].to_vec())),
    ] {
        emits(name, &written(|w| w.push_control(&control).unwrap()));
        let (seq, body) = frame_in(name, FrameKind::Control);
        assert_eq!((seq, Control::parse(&body)), (0, Ok(control)));
    }
}

#[test]
fn hellos_are_frozen() {
    emits("hello", &anna().encode());
    assert_eq!(Hello::parse(&behind_length("hello")), Ok(anna()));
}

#[test]
fn hello_acks_are_frozen() {
    let refused =
        HelloAck::Refused { versions: VersionRange::SUPPORTED, reason: RefusalReason::NotAuthorised };
    for (name, ack) in [("hello_ack_accepted", HelloAck::Accepted(anna())), ("hello_ack_refused", refused)] {
        emits(name, &ack.encode());
        assert_eq!(HelloAck::parse(&behind_length(name)), Ok(ack));
    }
}

#[test]
fn vouch_messages_are_frozen() {
    for (name, request) in [
        ("vouch_open_admission", Request::OpenAdmission { ttl_s: 600 }),
        ("vouch_authorize", Request::Authorize { peer: peer(2), name: "home server".to_owned() }),
        ("vouch_close_admission", Request::CloseAdmission),
    ] {
        emits(name, &request.encode().unwrap());
        assert_eq!(Request::parse(&behind_length(name)), Ok(request));
    }
    let response = Response { status: Status::VouchingOff, message: "ask the owner".to_owned() };
    emits("vouch_response", &response.encode());
    assert_eq!(Response::parse(&vectors::bytes("vouch_response")), Ok(response));
}

#[test]
fn the_document_explains_every_line_of_every_vector() {
    for (name, lines) in vectors::all() {
        assert_eq!(documented(name), lines.collect::<Vec<_>>(), "the table of {name}.hex in docs/wire.md");
    }
}

/// The first column of the table below a vector's name.
fn documented(name: &str) -> Vec<&'static str> {
    let (_, after) = DOCUMENT.split_once(&format!("`{name}.hex`\n")).expect("the document names the vector");
    let rows =
        after.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`')).map(|(bytes, _)| bytes).collect()
}
