//! Single values: from the text of a scalar to a type that cannot be wrong.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::Ipv4Net;
use peerup_types::{DnsLabel, Multiaddr, PeerId};

use crate::{
    address::{self, PeerAddr},
    error::{Excerpt, Problem},
};

/// Nothing in a node repeats faster than this by configuration.
const MIN_DURATION: Duration = Duration::from_secs(1);
/// circuit-v2 counts circuit durations in 32 bits of seconds.
const MAX_DURATION: Duration = Duration::from_secs(u32::MAX as u64);

/// Names of peerup's own protocols: a service of that name would answer on `/peerup/<name>/1.0.0`.
const RESERVED_SERVICES: [&str; 9] =
    ["invite", "relay-pair", "peer-notify", "rtt-probe", "kad", "tun", "vouch", "ping", "port"];
/// Where libp2p's protocols and our own have their names.
const RESERVED_PROTOCOLS: [&str; 3] = ["/peerup/", "/libp2p/", "/ipfs/"];

/// A Linux network interface name (IFNAMSIZ: 15 bytes and a NUL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(String);

/// A libp2p protocol ID such as `/pingpong/1.0.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolId(String);

/// Where a service listens: any host this machine can reach, by name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

/// Something that is done where it is of use, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Switch {
    #[default]
    Auto,
    Off,
}

impl Switch {
    pub fn is_auto(self) -> bool {
        self == Self::Auto
    }
}

impl FromStr for Switch {
    type Err = Problem;

    /// YAML 1.1 reads a bare `off` as false, and so do people.
    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "off" | "false" | "no" => Ok(Self::Off),
            _ => Err(Problem::Switch { found: Excerpt::new(text) }),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

/// `host:port`, or a host with STUN's own port (RFC 8489 §9).
pub fn stun_server(text: &str) -> Result<HostPort, Problem> {
    let named = text.parse();
    if named.is_err() && !text.contains(':') {
        return format!("{text}:3478").parse();
    }
    named
}

impl InterfaceName {
    pub const MAX_LEN: usize = 15;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let special = matches!(text, "." | ".." | "lo" | "all" | "default");
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        if fits && !special && !text.starts_with('-') && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(Problem::Interface { found: Excerpt::new(text) })
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ProtocolId {
    /// multistream-select messages are short; rust-libp2p refuses longer names.
    pub const MAX_LEN: usize = 140;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProtocolId {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let named = text.starts_with('/') && (2..=Self::MAX_LEN).contains(&text.len());
        if named && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Problem::ProtocolId { found: Excerpt::new(text) })
    }
}

impl fmt::Display for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostPort {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::HostPort { found: Excerpt::new(text) };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let valid = match bracketed {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host_name(host),
        };
        if !valid {
            return Err(wrong());
        }
        Ok(Self { host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

/// A dotted DNS name or IPv4 address; underscores occur in the names of containers.
fn is_host_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=253).contains(&text.len()) && text.bytes().all(allowed)
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// YAML 1.1 and 1.2 disagree about `on` and `off`; people write both.
pub fn boolean(text: &str) -> Result<bool, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => Ok(true),
        "false" | "off" | "no" => Ok(false),
        _ => Err(Problem::Bool { found: Excerpt::new(text) }),
    }
}

pub fn integer(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, Problem> {
    move |text| {
        let in_range = |n: &u64| (min..=max).contains(n);
        let found = || Problem::Integer { found: Excerpt::new(text), min, max };
        text.parse().ok().filter(in_range).ok_or_else(found)
    }
}

pub fn duration(text: &str) -> Result<Duration, Problem> {
    let found = Excerpt::new(text);
    match humantime::parse_duration(text) {
        Err(source) => Err(Problem::Duration { found, source }),
        Ok(value) if (MIN_DURATION..=MAX_DURATION).contains(&value) => Ok(value),
        Ok(_) => Err(Problem::DurationRange { found, min: MIN_DURATION, max: MAX_DURATION }),
    }
}

/// `1h30m`, the shortest text [`duration`] reads back.
pub fn format_duration(value: Duration) -> String {
    let seconds = value.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (value.subsec_nanos().into(), "ns"),
    ];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

const SIZE_UNITS: [(&str, u64); 4] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

/// Bytes as `64MB`, in powers of 1024; `0` and `unlimited` are no limit.
pub fn size_limit(text: &str) -> Result<Option<u64>, Problem> {
    let wrong = || Problem::ByteSize { found: Excerpt::new(text) };
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok(None);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor = SIZE_UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)).map(|(_, n)| *n);
    let factor = factor.or(unit.is_empty().then_some(1)).ok_or_else(wrong)?;
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
    Ok((bytes > 0).then_some(bytes))
}

pub fn format_size_limit(limit: Option<u64>) -> String {
    let Some(bytes) = limit else { return "unlimited".to_owned() };
    let (unit, factor) = SIZE_UNITS.iter().find(|(_, n)| bytes % n == 0).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Relative paths start at the directory of the configuration, wherever the process was started.
pub fn path(base_dir: &Path) -> impl Fn(&str) -> Result<PathBuf, Problem> {
    move |text| {
        let found = Excerpt::new(text);
        if text.starts_with('~') {
            return Err(Problem::Tilde { found });
        }
        if text.is_empty() || text.ends_with('/') || text.chars().any(char::is_control) {
            return Err(Problem::Path { found });
        }
        Ok(base_dir.join(text))
    }
}

pub fn peer_id(text: &str) -> Result<PeerId, Problem> {
    text.parse().map_err(|_| Problem::PeerId { found: Excerpt::new(text) })
}

pub fn label(text: &str) -> Result<DnsLabel, Problem> {
    text.parse().map_err(|_| Problem::Name { found: Excerpt::new(text) })
}

/// A number in place of a name asks for a port.
pub fn service_name(text: &str) -> Result<DnsLabel, Problem> {
    if RESERVED_SERVICES.contains(&text) {
        return Err(Problem::ReservedService { name: text.to_owned() });
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::ServiceNumber { found: Excerpt::new(text) });
    }
    label(text)
}

pub fn rendezvous(text: &str) -> Result<String, Problem> {
    if (1..=255).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Problem::Rendezvous { found: Excerpt::new(text) })
}

/// The Go original writes an empty text for "no protocol of its own".
pub fn service_protocol(text: &str) -> Result<Option<ProtocolId>, Problem> {
    if RESERVED_PROTOCOLS.iter().any(|prefix| text.starts_with(prefix)) {
        return Err(Problem::ReservedProtocol { found: Excerpt::new(text) });
    }
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

pub fn socket_addr(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| Problem::SocketAddr { found: Excerpt::new(text) })
}

pub fn listen_address(text: &str) -> Result<Multiaddr, Problem> {
    address::listen_address(text).map_err(Problem::Address)
}

pub fn external_address(text: &str) -> Result<Multiaddr, Problem> {
    address::external_address(text).map_err(Problem::Address)
}

pub fn peer_addr(text: &str) -> Result<PeerAddr, Problem> {
    text.parse().map_err(Problem::Address)
}

pub fn ipv4(text: &str) -> Result<Ipv4Addr, Problem> {
    text.parse().map_err(|_| Problem::Ipv4 { found: Excerpt::new(text) })
}

const MIN_PREFIX: u8 = 8;
/// /31 and /32 have no room for two nodes beside network and broadcast address.
const MAX_PREFIX: u8 = 30;

/// An overlay range. Host bits are refused rather than cut off: whoever writes `10.64.0.2/16` probably wants
/// to say which address this node has.
pub fn cidr(text: &str) -> Result<Ipv4Net, Problem> {
    let cidr: Ipv4Net = text.parse().map_err(|_| Problem::Cidr { found: Excerpt::new(text) })?;
    if !(MIN_PREFIX..=MAX_PREFIX).contains(&cidr.prefix_len()) {
        return Err(Problem::CidrSize { cidr, min: MIN_PREFIX, max: MAX_PREFIX });
    }
    if cidr.addr() != cidr.network() {
        return Err(Problem::CidrHostBits { cidr });
    }
    if [cidr.network(), cidr.broadcast()].into_iter().any(is_unusable) {
        return Err(Problem::CidrUnusable { cidr });
    }
    Ok(cidr)
}

fn is_unusable(ip: Ipv4Addr) -> bool {
    let address = IpAddr::V4(ip);
    ip.octets()[0] == 0 || ip.octets()[0] >= 224 || address.is_loopback() || ip.is_link_local()
}

pub fn address_in(cidr: Ipv4Net, address: Ipv4Addr) -> Result<(), Problem> {
    if !cidr.contains(&address) {
        return Err(Problem::AddressOutside { address, cidr });
    }
    if address == cidr.network() || address == cidr.broadcast() {
        return Err(Problem::AddressReserved { address, cidr });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_write_them_and_never_repeat_at_once() {
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        for text in ["0", "0s", "500ms", "1000years"] {
            assert!(matches!(duration(text), Err(Problem::DurationRange { .. })), "{text}");
        }
        for text in ["", "-1s", "10", "m", "1h-3m", "99999999999999999999h"] {
            assert!(matches!(duration(text), Err(Problem::Duration { .. })), "{text}");
        }
    }

    #[test]
    fn sizes_count_in_powers_of_1024_and_zero_means_unlimited() {
        assert_eq!(size_limit("64MB").unwrap(), Some(64 << 20));
        assert_eq!(size_limit("64 mb").unwrap(), Some(64 << 20));
        assert_eq!(size_limit("4096").unwrap(), Some(4096));
        assert_eq!(size_limit("0").unwrap(), None);
        assert_eq!(size_limit("Unlimited").unwrap(), None);
        for text in ["", "MB", "-1", "1.5GB", "64MiB", "99999999999GB"] {
            assert!(size_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_is_a_usable_network_without_host_bits() {
        assert!(cidr("10.64.0.0/16").is_ok());
        assert!(matches!(cidr("10.64.0.2/16"), Err(Problem::CidrHostBits { .. })));
        assert!(matches!(cidr("10.0.0.0/7"), Err(Problem::CidrSize { .. })));
        assert!(matches!(cidr("10.0.0.0/31"), Err(Problem::CidrSize { .. })));
        for text in ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/8", "0.0.0.0/8"] {
            assert!(matches!(cidr(text), Err(Problem::CidrUnusable { .. })), "{text}");
        }
        for text in ["", "10.64.0.0", "fd00::/64", "10.64.0.0/33"] {
            assert!(matches!(cidr(text), Err(Problem::Cidr { .. })), "{text}");
        }
    }

    #[test]
    fn host_and_port_of_a_service_may_be_a_name_or_an_address() {
        for text in ["localhost:22", "192.168.1.5:80", "[::1]:22", "my_db.lan:5432"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in ["", ":22", "localhost", "localhost:0", "localhost:99999", "::1:22", "[::g]:1", "a b:1"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        assert!("peerup0".parse::<InterfaceName>().is_ok());
        assert!("x".repeat(15).parse::<InterfaceName>().is_ok());
        for text in ["", "a/b", "a b", "..", "lo", "-x", "wg%d", &"x".repeat(16)] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_starts_at_the_base_unless_absolute() {
        let read = path(Path::new("/etc/peerup"));
        assert_eq!(read("identity.key").unwrap(), Path::new("/etc/peerup/identity.key"));
        assert_eq!(read("/keys/a").unwrap(), Path::new("/keys/a"));
        assert!(matches!(read("~/a"), Err(Problem::Tilde { .. })));
        assert!(matches!(read("a\0b"), Err(Problem::Path { .. })));
        assert!(matches!(read("keys/"), Err(Problem::Path { .. })));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(seconds in 1u64..=u32::MAX.into(), nanos in 0u32..1_000_000_000, bytes: u64) {
            let value = Duration::new(seconds, nanos).min(MAX_DURATION);
            prop_assert_eq!(duration(&format_duration(value)).unwrap(), value);
            let limit = (bytes > 0).then_some(bytes);
            prop_assert_eq!(size_limit(&format_size_limit(limit)).unwrap(), limit);
        }

        #[test]
        fn no_text_makes_a_value_parser_panic(text in "\\PC{0,40}") {
            let _ = (duration(&text), size_limit(&text), cidr(&text), boolean(&text), integer(0, 9)(&text));
            let _ = (text.parse::<HostPort>(), text.parse::<InterfaceName>(), text.parse::<ProtocolId>());
            let _ = (peer_addr(&text), listen_address(&text), external_address(&text), peer_id(&text));
            let _ = (text.parse::<crate::RelayInput>(), path(Path::new("/"))(&text), rendezvous(&text));
        }
    }
}
