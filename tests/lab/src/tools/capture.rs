//! What passes on a link, as bytes: to show that something does, or does not.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::{Process, Show};
use crate::tool;

/// Between the last reply a test saw and the capture's end: frames already in the socket are still written.
const SETTLE: Duration = Duration::from_millis(200);

/// A running capture of one link.
pub struct Capture {
    program: Process,
}

impl Capture {
    pub fn start(host: &Host, link: &str) -> Result<Self> {
        let cmd = host.cmd(&tool()?.display().to_string()).args(["capture", link]).show(Show::Nothing);
        let program = cmd.spawn()?;
        program.wait_for_line("capturing", Duration::from_secs(10)).context("starting a capture")?;
        Ok(Self { program })
    }

    /// Ends the capture and hands out all frames.
    pub fn stop(self) -> Result<Frames> {
        crate::clock::pause(SETTLE);
        self.program.kill();
        Frames::parse(&self.program.stdout_bytes()).context("the capture is damaged")
    }
}

/// Captured frames; on a TUN device these are IP packets.
pub struct Frames {
    frames: Vec<Vec<u8>>,
}

impl Frames {
    /// Each frame follows its length, a u32 in network order; the last one may be cut off.
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut frames = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk() {
            let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
            let Some((frame, rest)) = rest.split_at_checked(len) else { break };
            frames.push(frame.to_vec());
            bytes = rest;
        }
        Some(Self { frames })
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().map(Vec::as_slice)
    }

    /// Whether the bytes occur in one of the frames.
    pub fn contain(&self, bytes: &[u8]) -> bool {
        self.frames.iter().any(|frame| frame.windows(bytes.len()).any(|window| window == bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_inside_a_frame_but_not_across_two() {
        let frames = Frames::parse(b"\0\0\0\x03abc\0\0\0\x02de\0\0\0\x09cut off").unwrap();
        assert_eq!(frames.len(), 2);
        assert!(frames.contain(b"bc") && frames.contain(b"de"));
        assert!(!frames.contain(b"cd") && !frames.contain(b"cut"));
    }
}
