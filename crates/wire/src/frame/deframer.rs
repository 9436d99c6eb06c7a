//! Finds frames in a stream of bytes, in the buffer the bytes were read into.

use super::{BodyTooLong, FrameHeader, FrameKind, HEADER_LEN, MAX_BODY};

const MAX_FRAME: usize = HEADER_LEN + MAX_BODY;

/// Room for an unfinished frame of the largest size and for as much again to read into behind it.
const MIN_CAPACITY: usize = 2 * MAX_FRAME;

/// One frame of a known type; the body lies in the [`Deframer`]'s buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: FrameKind,
    pub flags: u8,
    pub seq: u32,
    pub body: &'a [u8],
}

/// The stream ended inside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream ends {have} bytes into a frame")]
pub struct TruncatedFrame {
    pub have: usize,
}

/// A read buffer of fixed size and the position of the next frame in it.
///
/// Turn by turn: read into [`space`](Self::space), report the count to [`filled`](Self::filled), then take
/// frames from [`next_frame`](Self::next_frame) until there is none. The buffer is allocated once and never
/// grows, whatever a peer claims in a length field.
#[derive(Debug)]
pub struct Deframer {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    skipped: u64,
}

impl Deframer {
    /// What one read of a busy stream yields; larger reads gain nothing.
    pub const DEFAULT_CAPACITY: usize = 256 * 1024;

    /// The capacity is raised to what two of the largest frames need.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity.max(MIN_CAPACITY)], start: 0, end: 0, skipped: 0 }
    }

    /// Where to read to: at least one largest frame once [`next_frame`](Self::next_frame) has returned `None`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < MAX_FRAME {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// `len` bytes were read into [`space`](Self::space).
    pub fn filled(&mut self, len: usize) {
        assert!(len <= self.buffer.len() - self.end, "more bytes were read than there was space");
        self.end += len;
    }

    /// The next complete frame of a known type, if there is one. An over-long length is fatal: every further
    /// call returns it again.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, BodyTooLong> {
        while let Some(header) = self.complete_header()? {
            let body = self.start + HEADER_LEN..self.start + header.frame_len();
            self.start = body.end;
            let Some(kind) = header.kind() else {
                self.skipped += 1;
                continue;
            };
            let (flags, seq) = (header.flags(), header.seq());
            return Ok(Some(Frame { kind, flags, seq, body: &self.buffer[body] }));
        }
        Ok(None)
    }

    /// The header at the current position, once the whole frame has arrived.
    fn complete_header(&self) -> Result<Option<FrameHeader>, BodyTooLong> {
        let pending = &self.buffer[self.start..self.end];
        let Some(header) = pending.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = FrameHeader::parse(header)?;
        Ok((header.frame_len() <= pending.len()).then_some(header))
    }

    /// At the end of the stream: was the last frame complete?
    pub fn finish(&self) -> Result<(), TruncatedFrame> {
        match self.end - self.start {
            0 => Ok(()),
            have => Err(TruncatedFrame { have }),
        }
    }

    /// Frames of unknown type that were passed over.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl Default for Deframer {
    fn default() -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::super::FrameWriter;
    use super::*;
    use proptest::prelude::*;

    fn feed(deframer: &mut Deframer, bytes: &[u8]) {
        deframer.space()[..bytes.len()].copy_from_slice(bytes);
        deframer.filled(bytes.len());
    }

    /// Everything `deframer` yields, owned.
    fn drain(deframer: &mut Deframer) -> Vec<(FrameKind, u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(frame) = deframer.next_frame().unwrap() {
            frames.push((frame.kind, frame.flags, frame.seq, frame.body.to_vec()));
        }
        frames
    }

    #[test]
    fn a_frame_that_arrives_byte_by_byte_appears_with_its_last_byte() {
        let mut writer = FrameWriter::new();
        writer.push_packet(7, b"packet").unwrap();
        let mut deframer = Deframer::default();
        let (last, first) = writer.as_bytes().split_last().unwrap();
        for byte in first {
            feed(&mut deframer, &[*byte]);
            assert_eq!(deframer.next_frame(), Ok(None));
        }
        feed(&mut deframer, &[*last]);
        assert_eq!(drain(&mut deframer), [(FrameKind::Packet, 0, 7, b"packet".to_vec())]);
        assert_eq!(deframer.finish(), Ok(()));
    }

    #[test]
    fn an_over_long_length_is_fatal_before_its_body_arrives() {
        let mut deframer = Deframer::default();
        let capacity = deframer.buffer.capacity();
        feed(&mut deframer, &[1, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        for _ in 0..2 {
            assert_eq!(deframer.next_frame(), Err(BodyTooLong { len: 0xff_ffff }));
        }
        assert_eq!(deframer.buffer.capacity(), capacity);
    }

    #[test]
    fn an_over_long_frame_of_unknown_type_is_fatal_too() {
        let mut deframer = Deframer::default();
        feed(&mut deframer, &[0xee, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(deframer.next_frame(), Err(BodyTooLong { len: 0xff_ffff }));
    }

    #[test]
    fn frames_of_unknown_type_are_skipped_and_counted() {
        let mut deframer = Deframer::default();
        feed(&mut deframer, &[200, 0, 0, 0, 2, 0, 0, 0, 9, b'?', b'?', 1, 0, 0, 0, 1, 0, 0, 0, 3, b'p']);
        assert_eq!(drain(&mut deframer), [(FrameKind::Packet, 0, 3, b"p".to_vec())]);
        assert_eq!(deframer.skipped(), 1);
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_noticed() {
        let mut deframer = Deframer::default();
        feed(&mut deframer, &[1, 0, 0, 0, 9, 0, 0]);
        assert_eq!(deframer.next_frame(), Ok(None));
        assert_eq!(deframer.finish(), Err(TruncatedFrame { have: 7 }));
    }

    #[test]
    fn there_is_room_for_a_largest_frame_behind_any_unfinished_one() {
        let mut deframer = Deframer::with_capacity(0);
        let mut writer = FrameWriter::new();
        for seq in 0..8 {
            writer.push_packet(seq, &vec![seq as u8; MAX_BODY]).unwrap();
        }
        let mut seen = 0;
        for chunk in writer.as_bytes().chunks(MAX_FRAME - 1) {
            feed(&mut deframer, chunk);
            seen += drain(&mut deframer).len();
            assert!(deframer.space().len() >= MAX_FRAME);
        }
        assert_eq!(seen, 8);
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_same_frames_come_out(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..30),
            cuts in proptest::collection::vec(1..700usize, 1..60),
        ) {
            let mut writer = FrameWriter::new();
            let mut expected = Vec::new();
            for (seq, body) in bodies.iter().enumerate() {
                writer.push_packet(seq as u32, body).unwrap();
                expected.push((FrameKind::Packet, 0, seq as u32, body.clone()));
            }
            let mut deframer = Deframer::with_capacity(0);
            let (mut rest, mut frames) = (writer.as_bytes(), Vec::new());
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                feed(&mut deframer, head);
                frames.extend(drain(&mut deframer));
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(frames, expected);
            prop_assert_eq!(deframer.finish(), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_yield_more_than_arrived(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000)
        ) {
            let mut deframer = Deframer::with_capacity(0);
            feed(&mut deframer, &bytes);
            let mut seen = 0;
            while let Ok(Some(frame)) = deframer.next_frame() {
                seen += HEADER_LEN + frame.body.len();
            }
            prop_assert!(seen <= bytes.len());
        }
    }
}
