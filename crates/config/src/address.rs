//! Underlay addresses as a configuration holds them: what to listen on, what to announce, where relays are.
//!
//! An address is checked for what any build can use: a host, TCP or QUIC v1 over UDP, optionally WebSocket.
//! Whether this machine can dial it is for the swarm to find out.

use std::{fmt, net::IpAddr, net::SocketAddr, str::FromStr};

use peerup_types::{
    Multiaddr, PeerId, Protocol,
    multiaddr::{self},
};

use crate::error::Excerpt;

/// The port a relay listens on and short relay addresses mean.
pub const DEFAULT_RELAY_PORT: u16 = 7777;

/// A dialable address of a known peer, as in `/ip4/203.0.113.50/tcp/7777/p2p/12D3KooW...`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr {
    peer: PeerId,
    address: Multiaddr,
}

/// Why an address cannot be used in its place.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("{found} is not a multiaddr")]
    Syntax { found: Excerpt, source: multiaddr::Error },
    #[error("{found} does not end in /p2p/<peer ID>")]
    NoPeer { found: Excerpt },
    #[error("{found} names a peer; only addresses of this machine belong here")]
    Peer { found: Excerpt },
    #[error("{found} leads through a relay")]
    Circuit { found: Excerpt },
    #[error("{found} is not host plus tcp or udp/quic-v1")]
    Transport { found: Excerpt },
    #[error("{found} has a host name; listening needs an IP address")]
    ListenName { found: Excerpt },
    #[error("{found} cannot be dialled: the address or the port is zero")]
    Unspecified { found: Excerpt },
}

/// What a person typed for a relay: the whole address, or host and port with the peer ID still to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayInput {
    Full(PeerAddr),
    Socket(SocketAddr),
}

#[derive(Debug, thiserror::Error)]
pub enum RelayInputError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{found} is not a relay address")]
    Form { found: Excerpt },
}

impl PeerAddr {
    /// `/ip4|ip6/IP/tcp/PORT/p2p/PEER`.
    pub fn tcp(socket: SocketAddr, peer: PeerId) -> Self {
        let address = Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()));
        Self { peer, address }
    }

    /// `/ip4|ip6/IP/udp/PORT/quic-v1/p2p/PEER`.
    pub fn quic(socket: SocketAddr, peer: PeerId) -> Self {
        let address = Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1);
        Self { peer, address }
    }

    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Without the `/p2p/` part.
    pub fn address(&self) -> &Multiaddr {
        &self.address
    }

    pub fn to_multiaddr(&self) -> Multiaddr {
        self.address.clone().with(Protocol::P2p(self.peer))
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p2p/{}", self.address, self.peer)
    }
}

impl FromStr for PeerAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::try_from(parse(text)?)
    }
}

impl TryFrom<Multiaddr> for PeerAddr {
    type Error = AddressError;

    fn try_from(mut address: Multiaddr) -> Result<Self, AddressError> {
        let found = Excerpt::new(&address.to_string());
        if is_circuit(&address) {
            return Err(AddressError::Circuit { found });
        }
        let Some(Protocol::P2p(peer)) = address.pop() else { return Err(AddressError::NoPeer { found }) };
        let underlay = Underlay::of(&address).ok_or(AddressError::Transport { found: found.clone() })?;
        if !underlay.is_dialable() {
            return Err(AddressError::Unspecified { found });
        }
        Ok(Self { peer, address })
    }
}

impl AddressError {
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Syntax { .. } | Self::Transport { .. } => {
                "write it as /ip4/203.0.113.50/tcp/7777 or /ip4/203.0.113.50/udp/7777/quic-v1"
            }
            Self::NoPeer { .. } => "`peerup relay info` on the relay prints its whole address",
            Self::Peer { .. } => "leave out the /p2p/ part",
            Self::Circuit { .. } => "write the relay's own address, without /p2p-circuit",
            Self::ListenName { .. } => "listen on /ip4/0.0.0.0 or /ip6/::",
            Self::Unspecified { .. } => "write the address and port that others reach",
        };
        Some(text.to_owned())
    }
}

/// An address to bind: IP, any port, no peer.
pub fn listen_address(text: &str) -> Result<Multiaddr, AddressError> {
    let address = own_address(text)?;
    match Underlay::of(&address) {
        Some(Underlay { ip: Some(_), .. }) => Ok(address),
        Some(Underlay { ip: None, .. }) => Err(AddressError::ListenName { found: Excerpt::new(text) }),
        None => Err(AddressError::Transport { found: Excerpt::new(text) }),
    }
}

/// An address others reach this machine at.
pub fn external_address(text: &str) -> Result<Multiaddr, AddressError> {
    let address = own_address(text)?;
    let found = Excerpt::new(text);
    match Underlay::of(&address) {
        Some(underlay) if underlay.is_dialable() => Ok(address),
        Some(_) => Err(AddressError::Unspecified { found }),
        None => Err(AddressError::Transport { found }),
    }
}

fn own_address(text: &str) -> Result<Multiaddr, AddressError> {
    let address = parse(text)?;
    if is_circuit(&address) {
        return Err(AddressError::Circuit { found: Excerpt::new(text) });
    }
    if address.iter().any(|part| matches!(part, Protocol::P2p(_))) {
        return Err(AddressError::Peer { found: Excerpt::new(text) });
    }
    Ok(address)
}

fn parse(text: &str) -> Result<Multiaddr, AddressError> {
    text.parse().map_err(|source| AddressError::Syntax { found: Excerpt::new(text), source })
}

fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// Host and transport of an address of a supported form.
struct Underlay {
    /// `None` for a host name.
    ip: Option<IpAddr>,
    port: u16,
}

impl Underlay {
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => Some(ip.into()),
            Protocol::Ip6(ip) => Some(ip.into()),
            Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => None,
            _ => return None,
        };
        let port = match parts.next()? {
            Protocol::Tcp(port) => web_socket(parts)?.then_port(port),
            Protocol::Udp(port) => quic(parts)?.then_port(port),
            _ => return None,
        };
        Some(Self { ip, port })
    }

    fn is_dialable(&self) -> bool {
        self.port != 0 && self.ip.is_none_or(|ip| !ip.is_unspecified())
    }
}

/// The rest of an address has been read and fits.
struct Complete;

impl Complete {
    fn then_port(self, port: u16) -> u16 {
        port
    }
}

/// Nothing, `/ws`, `/wss` or `/tls/ws`.
fn web_socket<'a>(parts: impl Iterator<Item = Protocol<'a>>) -> Option<Complete> {
    let rest: Vec<_> = parts.take(3).collect();
    match rest.as_slice() {
        [] | [Protocol::Ws(_) | Protocol::Wss(_)] | [Protocol::Tls, Protocol::Ws(_)] => Some(Complete),
        _ => None,
    }
}

fn quic<'a>(mut parts: impl Iterator<Item = Protocol<'a>>) -> Option<Complete> {
    let quic = matches!(parts.next(), Some(Protocol::QuicV1));
    (quic && parts.next().is_none()).then_some(Complete)
}

impl FromStr for RelayInput {
    type Err = RelayInputError;

    /// A full multiaddr, `IP:PORT`, `[IPv6]:PORT`, `[IPv6]` or a bare IP. Host names need the full form, since
    /// a bare word is too easily a typing mistake.
    fn from_str(text: &str) -> Result<Self, RelayInputError> {
        let text = text.trim();
        if text.starts_with('/') {
            return Ok(Self::Full(text.parse()?));
        }
        let found = || Excerpt::new(text);
        let socket = socket(text).ok_or_else(|| RelayInputError::Form { found: found() })?;
        if socket.port() == 0 || socket.ip().is_unspecified() {
            return Err(AddressError::Unspecified { found: found() }.into());
        }
        Ok(Self::Socket(socket))
    }
}

impl RelayInputError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Address(error) => error.hint(),
            Self::Form { .. } => Some(
                "write 203.0.113.50:7777, [2001:db8::1]:7777, or /dns/relay.example.org/tcp/7777/p2p/<peer ID>"
                    .to_owned(),
            ),
        }
    }
}

fn socket(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).filter(|t| t.contains(':'));
    let with_port = text.parse().ok();
    with_port.or_else(|| Some(SocketAddr::new(bare.unwrap_or(text).parse().ok()?, DEFAULT_RELAY_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

    #[test]
    fn a_peer_address_keeps_peer_and_address_apart_and_prints_as_written() {
        for host in [
            "/ip4/203.0.113.50/tcp/7777",
            "/ip4/203.0.113.50/udp/7777/quic-v1",
            "/ip6/2001:db8::1/tcp/7777",
            "/dns/relay.example.org/tcp/443/wss",
            "/dns4/relay.example.org/tcp/443/tls/ws",
        ] {
            let full: PeerAddr = format!("{host}/p2p/{ID}").parse().unwrap();
            assert_eq!(full.peer().to_string(), ID);
            assert_eq!(full.address().to_string(), host);
            assert_eq!(full.to_string(), format!("{host}/p2p/{ID}"));
            assert_eq!(PeerAddr::try_from(full.to_multiaddr()).unwrap(), full);
        }
    }

    #[test]
    fn a_relay_address_without_peer_through_a_relay_or_to_nowhere_is_refused() {
        let error = |text: &str| text.parse::<PeerAddr>().unwrap_err();
        assert!(matches!(error("/ip4/1.2.3.4/tcp/7777"), AddressError::NoPeer { .. }));
        assert!(matches!(error("1.2.3.4:7777"), AddressError::Syntax { .. }));
        let of = |host: &str| error(&format!("{host}/p2p/{ID}"));
        assert!(matches!(of("/ip4/1.2.3.4/udp/7777"), AddressError::Transport { .. }));
        assert!(matches!(of("/ip4/1.2.3.4/udp/7777/quic"), AddressError::Transport { .. }));
        assert!(matches!(of("/ip4/1.2.3.4/tcp/7777/ws/ws"), AddressError::Transport { .. }));
        assert!(matches!(of("/unix/tmp"), AddressError::Syntax { .. } | AddressError::Transport { .. }));
        assert!(matches!(of("/ip4/0.0.0.0/tcp/7777"), AddressError::Unspecified { .. }));
        assert!(matches!(of("/ip4/1.2.3.4/tcp/0"), AddressError::Unspecified { .. }));
        assert!(matches!(
            of(&format!("/ip4/1.2.3.4/tcp/1/p2p/{ID}/p2p-circuit")),
            AddressError::Circuit { .. }
        ));
    }

    #[test]
    fn listening_needs_an_ip_and_announcing_needs_a_reachable_one() {
        assert!(listen_address("/ip6/::/udp/0/quic-v1").is_ok());
        assert!(matches!(listen_address("/dns/a.b/tcp/1"), Err(AddressError::ListenName { .. })));
        assert!(matches!(
            listen_address(&format!("/ip4/1.2.3.4/tcp/1/p2p/{ID}")),
            Err(AddressError::Peer { .. })
        ));
        assert!(external_address("/dns/nas.example.org/tcp/4001").is_ok());
        assert!(matches!(external_address("/ip4/0.0.0.0/tcp/1"), Err(AddressError::Unspecified { .. })));
    }

    #[test]
    fn short_relay_forms_default_to_port_7777() {
        for (text, socket) in [
            ("203.0.113.50", "203.0.113.50:7777"),
            (" 203.0.113.50:80 ", "203.0.113.50:80"),
            ("[2001:db8::1]", "[2001:db8::1]:7777"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("2001:db8::1", "[2001:db8::1]:7777"),
        ] {
            assert_eq!(
                text.parse::<RelayInput>().unwrap(),
                RelayInput::Socket(socket.parse().unwrap()),
                "{text}"
            );
        }
        for text in
            ["relay.example.org", "relay.example.org:7777", "", "[1.2.3.4]", "1.2.3.4:0", "0.0.0.0", "::"]
        {
            assert!(text.parse::<RelayInput>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_full_relay_address_and_the_ones_made_from_a_socket_agree() {
        let socket = "203.0.113.50:7777".parse().unwrap();
        let peer = ID.parse().unwrap();
        for made in [PeerAddr::tcp(socket, peer), PeerAddr::quic(socket, peer)] {
            assert_eq!(made.to_string().parse::<RelayInput>().unwrap(), RelayInput::Full(made));
        }
    }
}
