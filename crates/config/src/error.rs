//! What can be wrong with a configuration text, where, and what to write instead.

use std::{error::Error, fmt, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use peerup_types::DnsLabel;

use crate::{address::AddressError, value::format_duration};

/// One problem, the key it concerns and its place in the text.
#[derive(Debug)]
pub struct ConfigError {
    /// Dotted, with indices: `relay.addresses[1]`. Empty when the problem concerns the whole text.
    pub key: String,
    pub at: Option<Position>,
    pub problem: Box<Problem>,
}

/// Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("the text has {bytes} bytes; at most {limit} are read")]
    TooLarge { bytes: usize, limit: usize },
    #[error("not valid YAML: {reason}")]
    Syntax { reason: String },
    #[error("{feature} are not supported in a configuration")]
    Feature { feature: &'static str },
    #[error("nested more than {limit} levels deep")]
    TooDeep { limit: usize },
    #[error("this key stands here a second time; the first is at {first}")]
    Duplicate { first: Position },
    #[error("expected {expected}, found {found}")]
    WrongShape { expected: Shape, found: Shape },
    #[error("unknown key{}", suggestion(.nearest))]
    UnknownKey { nearest: Option<&'static str>, known: &'static [&'static str] },
    #[error("version {found} is newer than this peerup understands ({newest})")]
    VersionTooNew { found: u32, newest: u32 },
    #[error("{found} is neither true nor false")]
    Bool { found: Excerpt },
    #[error("{found} is neither auto nor off")]
    Switch { found: Excerpt },
    #[error("{found} is neither auto nor on nor off")]
    RelayService { found: Excerpt },
    #[error("{found} is not a whole number from {min} to {max}")]
    Integer { found: Excerpt, min: u64, max: u64 },
    #[error("{found} is not a duration")]
    Duration { found: Excerpt, source: humantime::DurationError },
    #[error("{found} is outside {} to {}", format_duration(*.min), format_duration(*.max))]
    DurationRange { found: Excerpt, min: Duration, max: Duration },
    #[error("{found} is not a size")]
    ByteSize { found: Excerpt },
    #[error("{found} is not a usable path")]
    Path { found: Excerpt },
    #[error("{found} starts with `~`, which only a shell expands")]
    Tilde { found: Excerpt },
    #[error("{found} is not a peer ID")]
    PeerId { found: Excerpt },
    #[error("{found} is not a name: use 1 to 63 characters of a-z, 0-9 and inner -")]
    Name { found: Excerpt },
    #[error("`{name}` is a name peerup uses itself")]
    ReservedService { name: String },
    #[error("{found} is a number, which stands for a port, not a service")]
    ServiceNumber { found: Excerpt },
    #[error("{found} is a protocol of peerup or libp2p")]
    ReservedProtocol { found: Excerpt },
    #[error("{found} is not a port or a range of ports")]
    PortRange { found: Excerpt },
    #[error(transparent)]
    Address(AddressError),
    #[error("{found} is not an IP address and port")]
    SocketAddr { found: Excerpt },
    #[error("{found} is not a host and port")]
    HostPort { found: Excerpt },
    #[error("{found} is not a protocol ID")]
    ProtocolId { found: Excerpt },
    #[error("{found} is not a rendezvous string of 1 to 255 characters")]
    Rendezvous { found: Excerpt },
    #[error("{found} is not an interface name")]
    Interface { found: Excerpt },
    #[error("{found} is none of auto, tun and userspace")]
    VpnMode { found: Excerpt },
    #[error("{found} is none of auto, stream and datagram")]
    Carrier { found: Excerpt },
    #[error("{found} is not the name of a group")]
    Group { found: Excerpt },
    #[error("{found} is not an IPv4 range")]
    Cidr { found: Excerpt },
    #[error("{cidr} has {} bits of network; use /{min} to /{max}", .cidr.prefix_len())]
    CidrSize { cidr: Ipv4Net, min: u8, max: u8 },
    #[error("{cidr} is the range of one address, not the range itself")]
    CidrHostBits { cidr: Ipv4Net },
    #[error("{cidr} contains addresses that cannot be assigned (loopback, link-local or multicast)")]
    CidrUnusable { cidr: Ipv4Net },
    #[error("{found} is not an IPv4 address")]
    Ipv4 { found: Excerpt },
    #[error("{address} is outside vpn.cidr {cidr}")]
    AddressOutside { address: Ipv4Addr, cidr: Ipv4Net },
    #[error("{address} is the network or broadcast address of {cidr}")]
    AddressReserved { address: Ipv4Addr, cidr: Ipv4Net },
    #[error("required and not set")]
    Missing,
    #[error("the list is empty")]
    EmptyList,
}

/// What a YAML value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Nothing,
    Value,
    List,
    Section,
}

/// A quotation from the text: short, on one line, safe to print.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(String);

impl ConfigError {
    pub(crate) fn new(key: impl Into<String>, at: Position, problem: Problem) -> Self {
        Self { key: key.into(), at: Some(at), problem: Box::new(problem) }
    }

    pub(crate) fn whole_text(problem: Problem) -> Self {
        Self { key: String::new(), at: None, problem: Box::new(problem) }
    }

    /// What to do about it, where the next step is known.
    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "{at}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", Excerpt::escape(&self.key))?;
        }
        self.problem.fmt(f)
    }
}

impl Error for ConfigError {
    /// The message already contains the problem's own; what remains is the problem's cause.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

impl Problem {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::TooLarge { .. } => "is this the right file?".into(),
            Self::Syntax { .. } => {
                "check the indentation (closing brackets too) and the `:` after each key".into()
            }
            Self::Feature { .. } => "write the values out".into(),
            Self::Duplicate { .. } => "keep one of the two".into(),
            Self::UnknownKey { known, .. } => format!("known here: {}", known.join(", ")),
            Self::VersionTooNew { .. } => "upgrade peerup on this machine".into(),
            Self::Bool { .. } => "write true or false".into(),
            Self::Switch { .. } => "write auto or off".into(),
            Self::RelayService { .. } => "write auto, on or off".into(),
            Self::Duration { .. } | Self::DurationRange { .. } => "write 30s, 10m or 1h30m".into(),
            Self::ByteSize { .. } => "write 64MB, 2GB or unlimited".into(),
            Self::Tilde { .. } => {
                "write the whole path; relative ones start at the config's directory".into()
            }
            Self::PeerId { .. } => "`peerup whoami` prints the ID on that machine (12D3KooW...)".into(),
            Self::Name { found } => return suggest_name(&found.0),
            Self::ReservedService { .. } => "choose another name for the service".into(),
            Self::ServiceNumber { .. } => "give it a name, or list the port in service_ports".into(),
            Self::ReservedProtocol { .. } => "leave `protocol` out: the name makes one".into(),
            Self::PortRange { .. } => "write 22 or 8000-8099".into(),
            Self::Address(error) => return error.hint(),
            Self::SocketAddr { .. } => "write it as 127.0.0.1:9091".into(),
            Self::HostPort { .. } => "write it as localhost:22 or [::1]:22".into(),
            Self::ProtocolId { .. } => "write it as /pingpong/1.0.0".into(),
            Self::VpnMode { .. } => {
                "`auto` makes an interface where it may and works without one elsewhere".into()
            }
            Self::Carrier { .. } => "`auto` gives each flow the one that suits it".into(),
            Self::Interface { .. } => "use 1 to 15 of a-z, A-Z, 0-9, `.`, `_`, `-`".into(),
            Self::Cidr { .. } | Self::CidrUnusable { .. } => {
                "write a private range such as 10.64.0.0/16".into()
            }
            Self::CidrSize { .. } => "10.64.0.0/16 has room for 65,534 nodes".into(),
            Self::CidrHostBits { cidr } => {
                format!("write {} (this node's own address goes into vpn.address)", cidr.trunc())
            }
            Self::AddressOutside { .. } | Self::AddressReserved { .. } => {
                "remove vpn.address to have one chosen".into()
            }
            Self::EmptyList => "remove the key to use the default".into(),
            Self::TooDeep { .. }
            | Self::WrongShape { .. }
            | Self::Integer { .. }
            | Self::Path { .. }
            | Self::Rendezvous { .. }
            | Self::Ipv4 { .. }
            | Self::Group { .. }
            | Self::Missing => return None,
        };
        Some(text)
    }
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

fn suggest_name(text: &str) -> Option<String> {
    DnsLabel::sanitise(text).map(|label| format!("write `{label}`"))
}

impl Excerpt {
    const MAX_CHARS: usize = 80;

    pub fn new(text: &str) -> Self {
        Self(text.chars().take(Self::MAX_CHARS + 1).collect())
    }

    fn escape(text: &str) -> String {
        let short: String = text.chars().take(Self::MAX_CHARS).flat_map(escaped).collect();
        if text.chars().nth(Self::MAX_CHARS).is_some() { short + "..." } else { short }
    }
}

/// Control characters would let a file move the terminal's cursor; letters of any script stay readable.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let escape = c.is_control().then(|| c.escape_default());
    let plain = escape.is_none().then_some(c);
    escape.into_iter().flatten().chain(plain)
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", Self::escape(&self.0))
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Value => "a value",
            Self::List => "a list",
            Self::Section => "a section of `key: value` lines",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_reads_place_key_problem() {
        let problem = Problem::UnknownKey { nearest: Some("mtu"), known: &["cidr", "mtu"] };
        let error = ConfigError::new("vpn.mtuu", Position { line: 3, column: 5 }, problem);
        assert_eq!(error.to_string(), "line 3, column 5: `vpn.mtuu`: unknown key; did you mean `mtu`?");
        assert_eq!(error.hint().unwrap(), "known here: cidr, mtu");
    }

    #[test]
    fn an_excerpt_is_short_and_carries_no_terminal_escapes() {
        assert_eq!(Excerpt::new("a\u{1b}[2J\nb ä").to_string(), "`a\\u{1b}[2J\\nb ä`");
        let long = Excerpt::new(&"x".repeat(500)).to_string();
        assert_eq!(long, format!("`{}...`", "x".repeat(80)));
    }
}
