//! One entry per parser for `tests/fuzz`: feed bytes, check what must hold for whatever is accepted.

use crate::control::Control;
use crate::frame::{Ack, Announce, Deframer, FrameKind, Probe, SuperPacket};
use crate::hello::{Hello, HelloAck};
use crate::vouch::{Request, Response};

/// A stream of frames, and the body of each.
pub fn frame(bytes: &[u8]) {
    let mut deframer = Deframer::with_capacity(0);
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = deframer.space();
        let (head, tail) = rest.split_at(rest.len().min(space.len()));
        space[..head.len()].copy_from_slice(head);
        deframer.filled(head.len());
        rest = tail;
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => body(frame.kind, frame.body),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
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
