//! Collecting bytes that arrive in any chunking.

use super::HandshakeError;

/// The cap of the frames that the Go implementation knows.
pub const MAX_FRAME: usize = 4096;

/// The cap of the grant frame: its bounded lists fit, see [`super::Grant`].
pub const MAX_GRANT_FRAME: usize = 16_384;

/// Collects exactly `wanted` bytes; memory grows with what has arrived, never ahead of it.
pub struct Intake {
    wanted: usize,
    bytes: Vec<u8>,
}

impl Intake {
    pub fn new(wanted: usize) -> Self {
        Self { wanted, bytes: Vec::new() }
    }

    /// Moves bytes from the front of `input`; yields them once all have arrived.
    pub fn read(&mut self, input: &mut &[u8]) -> Option<Vec<u8>> {
        let missing = self.wanted - self.bytes.len();
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.bytes.extend_from_slice(taken);
        *input = rest;
        (self.bytes.len() == self.wanted).then(|| std::mem::take(&mut self.bytes))
    }

    /// As [`Self::read`], for a length known at compile time.
    pub fn read_array<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        self.read(input).map(|bytes| bytes.try_into().expect("the intake was made for N bytes"))
    }
}

/// Collects one frame and gives out its body.
pub struct FrameReader {
    max: usize,
    header: Option<Intake>,
    body: Intake,
}

impl FrameReader {
    pub fn new(max: usize) -> Self {
        Self { max, header: Some(Intake::new(2)), body: Intake::new(0) }
    }

    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, HandshakeError> {
        if let Some(header) = &mut self.header {
            let Some(len) = header.read_array(input) else { return Ok(None) };
            self.body = Intake::new(self.checked(u16::from_be_bytes(len).into())?);
            self.header = None;
        }
        Ok(self.body.read(input))
    }

    fn checked(&self, len: usize) -> Result<usize, HandshakeError> {
        let max = self.max;
        if (1..=max).contains(&len) { Ok(len) } else { Err(HandshakeError::FrameLength { len, max }) }
    }
}

/// Length and body.
pub fn emit(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("names and grants are bounded below 16 KiB");
    [&len.to_be_bytes(), body].concat()
}
