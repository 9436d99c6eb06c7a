//! One entry: the grammar of a line.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use peerup_types::{Multiaddr, PeerId, Protocol};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::ParseError;
use crate::peer::parse_peer_id;

/// Longer comments are cut when we write them.
const MAX_COMMENT_CHARS: usize = 200;

/// Both transports and families of a host with two uplinks.
const MAX_ADDRESSES: usize = 8;

/// Attributes that are written first; the others follow in the order they were found in.
const LEADING: [&str; 2] = ["expires", "verified"];

/// One authorized peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    peer: PeerId,
    /// All words after the peer ID; attributes are those with a `=`.
    words: Vec<String>,
    comment: Option<String>,
    expires: Option<u64>,
    ip: Option<Ipv4Addr>,
    addresses: Vec<Multiaddr>,
}

impl Entry {
    pub(super) fn new(peer: PeerId, comment: Option<&str>) -> Self {
        let comment = comment.map(sanitise_comment).filter(|comment| !comment.is_empty());
        Self { peer, words: Vec::new(), comment, expires: None, ip: None, addresses: Vec::new() }
    }

    /// `None` for blank lines and comment lines.
    pub(super) fn parse(line: usize, raw: &str) -> Result<Option<Self>, ParseError> {
        let (content, comment) = match raw.split_once('#') {
            Some((content, comment)) => (content, Some(comment.trim())),
            None => (raw, None),
        };
        let mut words = content.split_whitespace();
        let Some(peer) = words.next() else { return Ok(None) };
        let peer = parse_peer_id(peer).map_err(|source| ParseError::InvalidPeerId {
            line,
            text: peer.chars().take(64).collect(),
            source,
        })?;
        let words: Vec<String> = words.map(str::to_owned).collect();
        let expires = expiry(line, &words)?;
        let ip = address(line, &words)?;
        let addresses = underlay(line, &words)?;
        let comment = comment.filter(|comment| !comment.is_empty()).map(str::to_owned);
        Ok(Some(Self { peer, words, comment, expires, ip, addresses }))
    }

    pub fn peer(&self) -> PeerId {
        self.peer
    }

    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Unix time from which on the entry admits nobody.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }

    pub fn is_expired(&self, unix_now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= unix_now)
    }

    /// The stored short authentication string, when somebody compared it.
    pub fn verified(&self) -> Option<&str> {
        self.attribute("verified")
    }

    pub fn group(&self) -> Option<&str> {
        self.attribute("group")
    }

    /// The overlay address that overrides the peer's own claim.
    pub fn ip(&self) -> Option<Ipv4Addr> {
        self.ip
    }

    /// Where the peer is always found: the underlay addresses of all `addr=`, in file order.
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    /// All `key=value` words in file order.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        attributes(&self.words)
    }

    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// The text of this entry with one attribute replaced or removed.
    pub(super) fn with_attribute(&self, key: &str, value: Option<&str>) -> String {
        let mut words: Vec<String> =
            self.words.iter().filter(|word| key_of(word) != Some(key)).cloned().collect();
        words.extend(value.map(|value| format!("{key}={value}")));
        words.sort_by_key(|word| {
            LEADING.iter().position(|leading| key_of(word) == Some(leading)).unwrap_or(LEADING.len())
        });
        Self { words, ..self.clone() }.to_string()
    }
}

/// The line without its terminator: words two spaces apart.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.peer)?;
        self.words.iter().try_for_each(|word| write!(f, "  {word}"))?;
        self.comment.iter().try_for_each(|comment| write!(f, "  # {comment}"))
    }
}

fn attributes(words: &[String]) -> impl Iterator<Item = (&str, &str)> {
    words.iter().filter_map(|word| word.split_once('='))
}

fn key_of(word: &str) -> Option<&str> {
    word.split_once('=').map(|(key, _)| key)
}

fn expiry(line: usize, words: &[String]) -> Result<Option<u64>, ParseError> {
    let Some(value) = single(line, words, "expires")? else { return Ok(None) };
    let time = OffsetDateTime::parse(value, &Rfc3339).map_err(|source| ParseError::InvalidExpiry {
        line,
        value: value.to_owned(),
        source,
    })?;
    // A time before 1970 has passed whatever the clock says.
    Ok(Some(u64::try_from(time.unix_timestamp()).unwrap_or(0)))
}

fn address(line: usize, words: &[String]) -> Result<Option<Ipv4Addr>, ParseError> {
    let Some(value) = single(line, words, "ip")? else { return Ok(None) };
    Ipv4Addr::from_str(value).map(Some).map_err(|source| ParseError::InvalidAddress {
        line,
        value: value.to_owned(),
        source,
    })
}

/// `/ip4/…` or `/ip6/…`, `/tcp/…` or `/udp/…/quic-v1`, several times if need be.
fn underlay(line: usize, words: &[String]) -> Result<Vec<Multiaddr>, ParseError> {
    let mut addresses = Vec::new();
    for (_, value) in attributes(words).filter(|(key, _)| *key == "addr") {
        let invalid = || ParseError::InvalidUnderlay { line, value: value.chars().take(128).collect() };
        let address: Multiaddr = value.parse().map_err(|_| invalid())?;
        let parts: Vec<_> = address.iter().collect();
        let plain = match parts.as_slice() {
            [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(port)]
            | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(port), Protocol::QuicV1] => *port > 0,
            _ => false,
        };
        if !plain {
            return Err(invalid());
        }
        if addresses.len() == MAX_ADDRESSES {
            return Err(ParseError::TooManyAddresses { line, limit: MAX_ADDRESSES });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// An attribute that decides something may not be given twice.
fn single<'a>(line: usize, words: &'a [String], key: &'static str) -> Result<Option<&'a str>, ParseError> {
    let mut values = attributes(words).filter(|(other, _)| *other == key).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(ParseError::RepeatedAttribute { line, key }),
    }
}

/// Printable text on one line: comments are often names that another machine chose.
fn sanitise_comment(text: &str) -> String {
    let printable: String = text.chars().filter(|c| !c.is_control()).take(MAX_COMMENT_CHARS).collect();
    printable.trim().to_owned()
}
