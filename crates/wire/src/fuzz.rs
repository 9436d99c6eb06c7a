//! One entry per parser for `tests/fuzz`: feed bytes, check what must hold for whatever is accepted.

use crate::control::Control;
use crate::frame::{Ack, Announce, Deframer, FrameKind, FrameWriter, Probe, SuperPacket};
use crate::hello::{Hello, HelloAck};
use crate::vouch::{Request, Response};

/// A stream of frames, and the body of each. However the stream is cut into reads, the same frames come out.
pub fn frame(bytes: &[u8]) {
    let whole = frames(bytes, usize::MAX);
    for at_once in [1, 7, 100] {
        assert_eq!(frames(bytes, at_once), whole, "read {at_once} bytes at a time");
    }
    for (kind, seq, bytes) in whole {
        body(kind, &bytes);
        if kind == FrameKind::Packet {
            let mut writer = FrameWriter::new();
            writer.push_packet(seq, &bytes).expect("it was a frame");
            assert_eq!(frames(writer.as_bytes(), usize::MAX), [(kind, seq, bytes)]);
        }
    }
}

/// Up to the first that ends the stream.
fn frames(bytes: &[u8], at_once: usize) -> Vec<(FrameKind, u32, Vec<u8>)> {
    let (mut deframer, mut frames) = (Deframer::with_capacity(0), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = deframer.space();
        let (head, tail) = rest.split_at(rest.len().min(space.len()).min(at_once));
        space[..head.len()].copy_from_slice(head);
        deframer.filled(head.len());
        rest = tail;
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => frames.push((frame.kind, frame.seq, frame.body.to_vec())),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fn body(kind: FrameKind, body: &[u8]) {
    match kind {
        FrameKind::Packet => {}
        FrameKind::SuperPacket => drop(SuperPacket::parse(body)),
        FrameKind::Probe => drop(Probe::parse(body)),
        FrameKind::Ack => drop(Ack::parse(body)),
        FrameKind::Announce => drop(Announce::parse(body)),
        FrameKind::Control => control(body),
    }
}

fn control(body: &[u8]) {
    match Control::parse(body) {
        Ok(Control::Unknown(_)) | Err(_) => {}
        Ok(known) => assert_eq!(Control::parse(&known.encode().expect("it was accepted")), Ok(known)),
    }
}

/// The message behind the length prefix, read as hello and as ack.
pub fn hello(bytes: &[u8]) {
    if let Ok(hello) = Hello::parse(bytes) {
        assert_eq!(Hello::parse(&hello.encode()[2..]), Ok(hello));
    }
    if let Ok(ack) = HelloAck::parse(bytes) {
        assert_eq!(HelloAck::parse(&ack.encode()[2..]), Ok(ack));
    }
}

/// The message behind the length prefix, read as request and as response.
pub fn vouch(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        assert_eq!(request.encode().expect("it was accepted")[2..], *bytes);
    }
    if let Ok(response) = Response::parse(bytes) {
        assert_eq!(response.encode(), bytes);
    }
}
