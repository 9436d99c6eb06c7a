//! The `authorized_keys` document: who may connect.
//!
//! ```text
//! # comment lines and blank lines
//! <peer-id> [key=value ...] [# comment]
//! ```
//!
//! | attribute | meaning |
//! |---|---|
//! | `expires=<RFC 3339>` | from then on the entry admits nobody |
//! | `verified=sha256:<8 hex>` | the short authentication string was compared, see [`crate::sas`] |
//! | `group=<8 hex>` | the relay's pairing group that introduced the peer |
//! | `ip=<IPv4 address>` | overlay address that overrides the peer's own claim |
//! | `addr=<multiaddr>` | underlay address at which the peer is always tried; may be given several times |
//!
//! Other `key=value` words are kept and reported, words without `=` are kept and ignored. The first `#`
//! starts the comment. People edit this file, so an edit rewrites only the lines of its peer and keeps every
//! other line byte for byte. When a peer has several lines, the first decides, as in sshd.
//!
//! There are two readers. [`AuthorizedKeys::parse`] guards the door and refuses the whole file for one bad
//! line: a typo must not silently lock out, or fail to expire, somebody. [`AuthorizedKeys::parse_lenient`]
//! serves listings and reports what the strict reader would refuse.

mod entry;

use std::net::AddrParseError;

use peerup_types::PeerId;

pub use entry::Entry;

use crate::peer::PeerIdError;

/// 1 MiB holds well over ten thousand peers.
pub const MAX_BYTES: usize = 1 << 20;
pub const MAX_LINES: usize = 20_000;
pub const MAX_LINE_BYTES: usize = 4096;

/// A parsed `authorized_keys` file that can be edited and written back.
#[derive(Debug, Clone, Default)]
pub struct AuthorizedKeys {
    lines: Vec<Line>,
}

/// A line with its terminator, exactly as it was read, and what it says.
#[derive(Debug, Clone)]
struct Line {
    raw: String,
    entry: Option<Entry>,
}

#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("{0} bytes are too many for authorized_keys, the limit is {MAX_BYTES}")]
    TooLarge(usize),
    #[error("{0} lines are too many for authorized_keys, the limit is {MAX_LINES}")]
    TooManyLines(usize),
    #[error("line {line}: {len} bytes are too many, the limit is {MAX_LINE_BYTES}")]
    LineTooLong { line: usize, len: usize },
    #[error("line {line}: `{text}` is not a peer ID")]
    InvalidPeerId { line: usize, text: String, source: PeerIdError },
    #[error("line {line}: `expires={value}` is not an RFC 3339 time such as 2030-01-31T12:00:00Z")]
    InvalidExpiry { line: usize, value: String, source: time::error::Parse },
    #[error("line {line}: `ip={value}` is not an IPv4 address")]
    InvalidAddress { line: usize, value: String, source: AddrParseError },
    #[error("line {line}: `addr={value}` is not /ip4/.../tcp/PORT or /ip4/.../udp/PORT/quic-v1 (or ip6)")]
    InvalidUnderlay { line: usize, value: String },
    #[error("line {line}: more than {limit} `addr=`")]
    TooManyAddresses { line: usize, limit: usize },
    #[error("line {line}: `{key}=` appears twice")]
    RepeatedAttribute { line: usize, key: &'static str },
}

#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("peer {0} is already authorized")]
    Duplicate(PeerId),
    #[error("authorized_keys is full: {MAX_BYTES} bytes, {MAX_LINES} lines")]
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("peer {0} is not in authorized_keys")]
pub struct UnknownPeer(pub PeerId);

#[derive(Debug, thiserror::Error)]
pub enum SetAttributeError {
    #[error(transparent)]
    UnknownPeer(#[from] UnknownPeer),
    #[error("`{0}` is not an attribute name: use a-z, 0-9, `-` and `_`")]
    InvalidKey(String),
    #[error("an attribute value may not be empty or contain spaces, `#` or control characters: {0:?}")]
    InvalidValue(String),
    #[error("authorized_keys would not be readable any more")]
    Unreadable(#[source] ParseError),
    #[error("authorized_keys is full: {MAX_BYTES} bytes")]
    Full,
}

impl AuthorizedKeys {
    /// The strict reader: every entry is understood, or the whole text is refused.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        check_size(text)?;
        let lines =
            numbered_lines(text).map(|(line, raw)| Line::parse(line, raw)).collect::<Result<_, _>>()?;
        Ok(Self { lines })
    }

    /// The lenient reader: what the strict reader would refuse is kept as text, admits nobody, and is
    /// returned as a problem.
    pub fn parse_lenient(text: &str) -> (Self, Vec<ParseError>) {
        if let Err(problem) = check_size(text) {
            let lines = text.split_inclusive('\n').map(Line::opaque).collect();
            return (Self { lines }, vec![problem]);
        }
        let mut problems = Vec::new();
        let lines = numbered_lines(text).map(|(line, raw)| {
            Line::parse(line, raw).unwrap_or_else(|problem| {
                problems.push(problem);
                Line::opaque(raw)
            })
        });
        let lines = lines.collect();
        (Self { lines }, problems)
    }

    /// The entries in file order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.lines.iter().filter_map(|line| line.entry.as_ref())
    }

    /// The entry that decides about `peer`.
    pub fn get(&self, peer: &PeerId) -> Option<&Entry> {
        self.entries().find(|entry| entry.peer() == *peer)
    }

    pub fn is_authorized(&self, peer: &PeerId, unix_now: u64) -> bool {
        self.get(peer).is_some_and(|entry| !entry.is_expired(unix_now))
    }

    /// The next time at which some entry stops admitting its peer.
    pub fn next_expiry(&self, unix_now: u64) -> Option<u64> {
        self.entries().filter_map(Entry::expires).filter(|expiry| *expiry > unix_now).min()
    }

    /// Appends a peer. The comment is reduced to printable text on one line.
    pub fn add(&mut self, peer: PeerId, comment: Option<&str>) -> Result<(), AddError> {
        if self.get(&peer).is_some() {
            return Err(AddError::Duplicate(peer));
        }
        let entry = Entry::new(peer, comment);
        let raw = format!("{entry}\n");
        if self.len() + raw.len() + 1 > MAX_BYTES || self.lines.len() >= MAX_LINES {
            return Err(AddError::Full);
        }
        self.terminate_last_line();
        self.lines.push(Line { raw, entry: Some(entry) });
        Ok(())
    }

    /// Removes every line of a peer.
    pub fn remove(&mut self, peer: &PeerId) -> Result<(), UnknownPeer> {
        let before = self.lines.len();
        self.lines.retain(|line| !line.is_of(peer));
        if self.lines.len() == before { Err(UnknownPeer(*peer)) } else { Ok(()) }
    }

    /// Sets an attribute on the peer's lines, or removes it with `None`. Nothing changes on an error.
    pub fn set_attribute(
        &mut self,
        peer: &PeerId,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), SetAttributeError> {
        check_attribute(key, value)?;
        self.get(peer).ok_or(UnknownPeer(*peer))?;
        let mut edited = self.lines.clone();
        for (index, line) in edited.iter_mut().enumerate().filter(|(_, line)| line.is_of(peer)) {
            line.set_attribute(index + 1, key, value).map_err(SetAttributeError::Unreadable)?;
        }
        let edited = Self { lines: edited };
        if edited.len() > MAX_BYTES {
            return Err(SetAttributeError::Full);
        }
        *self = edited;
        Ok(())
    }

    /// The text to write back.
    pub fn to_text(&self) -> String {
        self.lines.iter().map(|line| line.raw.as_str()).collect()
    }

    fn len(&self) -> usize {
        self.lines.iter().map(|line| line.raw.len()).sum()
    }

    fn terminate_last_line(&mut self) {
        if let Some(last) = self.lines.last_mut()
            && !last.raw.ends_with('\n')
        {
            last.raw.push('\n');
        }
    }
}

impl Line {
    fn parse(line: usize, raw: &str) -> Result<Self, ParseError> {
        if raw.len() > MAX_LINE_BYTES {
            return Err(ParseError::LineTooLong { line, len: raw.len() });
        }
        Ok(Self { raw: raw.to_owned(), entry: Entry::parse(line, raw)? })
    }

    fn opaque(raw: &str) -> Self {
        Self { raw: raw.to_owned(), entry: None }
    }

    fn is_of(&self, peer: &PeerId) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.peer() == *peer)
    }

    fn set_attribute(&mut self, line: usize, key: &str, value: Option<&str>) -> Result<(), ParseError> {
        let Some(entry) = &self.entry else { return Ok(()) };
        let terminator = &self.raw[self.raw.trim_end_matches(['\r', '\n']).len()..];
        *self = Self::parse(line, &format!("{}{terminator}", entry.with_attribute(key, value)))?;
        Ok(())
    }
}

fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.split_inclusive('\n'))
}

fn check_size(text: &str) -> Result<(), ParseError> {
    if text.len() > MAX_BYTES {
        return Err(ParseError::TooLarge(text.len()));
    }
    match text.split_inclusive('\n').count() {
        lines if lines > MAX_LINES => Err(ParseError::TooManyLines(lines)),
        _ => Ok(()),
    }
}

/// Attribute values can come from a relay: one with a line break would add a line of its own.
fn check_attribute(key: &str, value: Option<&str>) -> Result<(), SetAttributeError> {
    let key_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if key.is_empty() || !key.chars().all(key_char) {
        return Err(SetAttributeError::InvalidKey(key.to_owned()));
    }
    let value_char = |c: char| c != '#' && !c.is_whitespace() && !c.is_control();
    match value {
        Some(value) if value.is_empty() || !value.chars().all(value_char) => {
            Err(SetAttributeError::InvalidValue(value.to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
