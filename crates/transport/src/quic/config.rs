//! What is chosen at construction, and its translation for quinn.

use std::{net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::{hmac, rand};
use libp2p_identity::PeerId;
use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig,
    VarInt,
    congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig},
    crypto::{
        CryptoError, HmacKey,
        rustls::{QuicClientConfig, QuicServerConfig},
    },
};

use super::{congestion::Reined, registry::Registry};
use crate::{credentials::Credentials, verifier::Mismatch};

/// How an idle connection is kept, and given up. A keep-alive is answered, and either end's counts for both, so an
/// idle connection costs two packets an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Between packets, at least. Also holds the NAT mapping: RFC 4787 (REQ-5) asks of a NAT that it keeps one for
    /// two minutes, and boxes that drop it after 30 s are common.
    pub interval: Duration,
    /// Silent for this long: gone. The smaller one of both ends counts.
    pub idle_timeout: Duration,
    /// How many times as long both are between neighbours, who have no NAT between them that forgets.
    pub between_neighbours: u32,
}

impl KeepAlive {
    /// Ten idle peers are 48 packets a minute, ten idle neighbours 24. Whoever has packets to send notices a dead
    /// connection by probes.
    pub const FRUGAL: Self = Self {
        interval: Duration::from_secs(25),
        idle_timeout: Duration::from_secs(60),
        between_neighbours: 2,
    };
    /// Notices soon that the other end is gone, as a relay must.
    pub const WATCHFUL: Self = Self {
        interval: Duration::from_secs(8),
        idle_timeout: Duration::from_secs(20),
        between_neighbours: 1,
    };

    /// For the end that was dialed. Both fall silent at the same moment, and would ask at the same moment.
    fn later(self) -> Self {
        Self { interval: self.interval + self.interval / 8, ..self }
    }

    fn between(self, who: Ends) -> Self {
        let times = match who {
            Ends::Neighbours => self.between_neighbours,
            Ends::Apart => 1,
        };
        Self { interval: self.interval * times, idle_timeout: self.idle_timeout * times, ..self }
    }
}

/// Whether the ends of a connection are on one link, as far as their addresses tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Neighbours,
    Apart,
}

impl Ends {
    /// Equal prefixes of the usual length, /24 and /64. A link with a shorter one is taken for two: its connections are
    /// asked more often than they need. The other mistake needs a NAT between two parts of one such prefix.
    pub(crate) fn of(local: IpAddr, remote: IpAddr) -> Self {
        let same = match (local.to_canonical(), remote.to_canonical()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => local.octets()[..3] == remote.octets()[..3],
            (IpAddr::V6(local), IpAddr::V6(remote)) => local.octets()[..8] == remote.octets()[..8],
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        };
        if same { Self::Neighbours } else { Self::Apart }
    }
}

const HANDSHAKE: Duration = Duration::from_secs(5);
/// 500 Mbit/s at 100 ms are 6.25 MB in flight; half again for what waits for a missing packet.
pub(crate) const STREAM_WINDOW: u32 = 10 << 20;
/// Two streams at full speed. Also the most we hold for a peer, and what it may make us hold while it has few streams.
pub(crate) const CONNECTION_WINDOW: u32 = 20 << 20;
/// Streams a peer may have open: one per TCP connection to a service, and libp2p's own.
const STREAMS: u32 = 2560;
/// Datagrams nobody has read yet; the oldest give way.
const DATAGRAMS_RECEIVED: usize = 1 << 20;
/// Datagrams that wait for the pacer; the oldest give way. Small, as a packet that has waited long is worth nothing.
const DATAGRAMS_TO_SEND: usize = 256 << 10;
/// QUIC needs 1200 bytes of payload (RFC 9000, 14); every path that carries QUIC at all carries this.
const SMALLEST_MTU: u16 = 1200;
/// Ethernet minus the headers of IPv6 and UDP.
const LARGEST_MTU: u16 = 1452;
/// When a packet counts as lost: not because others overtook it, which jitter does to a tenth of the packets of some links,
/// but after this many round trips. The defaults of RFC 9002 (§6.1) are three packets and 9/8; with them cubic gets a
/// seventh of what it gets with these where packets overtake each other (docs/adr/0075).
const OVERTAKEN_BY: u32 = 1000;
const LOST_AFTER: f32 = 4.0;
/// quinn takes bursts of random loss for a black hole and falls back to the smallest MTU. After its default of a
/// minute a datagram lane would have refused full packets for that long; a new search costs a few round trips.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(3);
/// Handshakes under way per socket.
const INCOMING: usize = 256;

/// RFC 9438, BBR as in the BBRv1 draft, RFC 6582.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// For clean and short paths.
    #[default]
    Cubic,
    /// Keeps its rate under random loss, but quinn's fills deep queues.
    Bbr,
    NewReno,
}

/// UDP payload sizes a connection uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMtu {
    /// Start at 1200 and search upwards (RFC 8899).
    Discover { at_most: u16 },
    /// The underlay is known to carry this much; nothing is searched and nothing falls back.
    Known(u16),
}

impl Default for PathMtu {
    fn default() -> Self {
        Self::Discover { at_most: LARGEST_MTU }
    }
}

/// Configuration of a [`Transport`](super::Transport).
#[derive(Clone)]
pub struct Config {
    credentials: Credentials,
    registry: Arc<dyn Registry>,
    congestion: Congestion,
    path_mtu: PathMtu,
    keep_alive: KeepAlive,
    handshake: Duration,
}

impl Config {
    pub fn new(credentials: &Credentials) -> Self {
        Self {
            credentials: credentials.clone(),
            registry: Arc::new(()),
            congestion: Congestion::default(),
            path_mtu: PathMtu::default(),
            keep_alive: KeepAlive::FRUGAL,
            handshake: HANDSHAKE,
        }
    }

    pub fn registry(self, registry: Arc<dyn Registry>) -> Self {
        Self { registry, ..self }
    }

    pub fn congestion(self, congestion: Congestion) -> Self {
        Self { congestion, ..self }
    }

    pub fn path_mtu(self, path_mtu: PathMtu) -> Self {
        Self { path_mtu, ..self }
    }

    pub fn keep_alive(self, keep_alive: KeepAlive) -> Self {
        Self { keep_alive, ..self }
    }

    pub fn handshake_timeout(self, handshake: Duration) -> Self {
        Self { handshake, ..self }
    }
}

/// The same in quinn's terms, ready to be shared by endpoints.
pub(crate) struct Settings {
    pub(crate) credentials: Credentials,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) handshake: Duration,
    pub(crate) endpoint: EndpointConfig,
    server: ByEnds<Arc<quinn::ServerConfig>>,
    client: ByEnds<Arc<TransportConfig>>,
}

/// What differs between neighbours and others.
#[derive(Clone)]
pub(crate) struct ByEnds<T> {
    apart: T,
    neighbours: T,
}

impl<T: Clone> ByEnds<T> {
    fn new(make: impl Fn(Ends) -> T) -> Self {
        Self { apart: make(Ends::Apart), neighbours: make(Ends::Neighbours) }
    }

    pub(crate) fn get(&self, ends: Ends) -> T {
        match ends {
            Ends::Apart => self.apart.clone(),
            Ends::Neighbours => self.neighbours.clone(),
        }
    }
}

impl Settings {
    pub(crate) fn new(config: Config) -> Self {
        let transport = |keep_alive| Arc::new(transport(config.congestion, config.path_mtu, keep_alive));
        let asking = config.keep_alive;
        let later = asking.later();
        Self {
            endpoint: endpoint(&config.credentials),
            server: ByEnds::new(|ends| Arc::new(server(&config.credentials, transport(later.between(ends))))),
            client: ByEnds::new(|ends| transport(asking.between(ends))),
            credentials: config.credentials,
            registry: config.registry,
            handshake: config.handshake,
        }
    }

    /// For those who dial this host.
    pub(crate) fn server(&self) -> ByEnds<Arc<quinn::ServerConfig>> {
        self.server.clone()
    }

    /// For a dial; `expected` is refused as [`Mismatch`] when somebody else answers.
    pub(crate) fn client(&self, expected: Option<PeerId>, ends: Ends) -> (quinn::ClientConfig, Mismatch) {
        let (tls, mismatch) = match expected {
            Some(peer) => self.credentials.pinned_client_config(peer),
            None => (self.credentials.client_config(), Mismatch::default()),
        };
        let crypto = QuicClientConfig::try_from(tls).expect("AES-128-GCM, QUIC's initial suite, is offered");
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.client.get(ends));
        (config, mismatch)
    }
}

fn server(credentials: &Credentials, transport: Arc<TransportConfig>) -> quinn::ServerConfig {
    let tls = credentials.server_config();
    let crypto = QuicServerConfig::try_from(tls).expect("AES-128-GCM, QUIC's initial suite, is offered");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport).migration(false).max_incoming(INCOMING);
    config
}

/// The reset key comes from the identity, so that a restarted host can tell its peers at once that it has forgotten
/// their connections (stateless reset, RFC 9000, 10.3), rather than leave them to the idle timeout. That needs
/// connection IDs which the new process does not refuse as foreign: random ones.
fn endpoint(credentials: &Credentials) -> EndpointConfig {
    let mut config = match credentials.identity().derive_secret(b"peerup quic stateless reset") {
        Some(secret) => EndpointConfig::new(Arc::new(ResetKey(hmac::Key::new(hmac::HMAC_SHA256, &secret)))),
        None => EndpointConfig::default(),
    };
    config.supported_versions(vec![1]).cid_generator(|| Box::new(RandomIds));
    config
}

struct ResetKey(hmac::Key);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, data, signature).map_err(|_| CryptoError)
    }
}

/// Enough to tell all connections of a socket apart, and to be no guess for an outsider.
const ID_LENGTH: usize = 8;

struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LENGTH];
        rand::fill(&mut id).expect("the system has randomness");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport(congestion: Congestion, path_mtu: PathMtu, keep_alive: KeepAlive) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(0u32.into())
        .max_concurrent_bidi_streams(STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into())
        .datagram_receive_buffer_size(Some(DATAGRAMS_RECEIVED))
        .datagram_send_buffer_size(DATAGRAMS_TO_SEND)
        .max_idle_timeout(Some(idle(keep_alive.idle_timeout)))
        .keep_alive_interval(Some(keep_alive.interval))
        .allow_spin(false)
        .packet_threshold(OVERTAKEN_BY)
        .time_threshold(LOST_AFTER)
        .congestion_controller_factory(factory(congestion));
    match path_mtu {
        PathMtu::Discover { at_most } => {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(at_most).black_hole_cooldown(BLACK_HOLE_COOLDOWN);
            config.initial_mtu(SMALLEST_MTU).min_mtu(SMALLEST_MTU).mtu_discovery_config(Some(discovery));
        }
        PathMtu::Known(mtu) => {
            config.initial_mtu(mtu).min_mtu(mtu).mtu_discovery_config(None);
        }
    }
    config
}

fn idle(timeout: Duration) -> IdleTimeout {
    IdleTimeout::from(VarInt::from_u32(timeout.as_millis().try_into().unwrap_or(u32::MAX)))
}

fn factory(congestion: Congestion) -> Arc<dyn ControllerFactory + Send + Sync> {
    let chosen: Arc<dyn ControllerFactory + Send + Sync> = match congestion {
        Congestion::Cubic => Arc::new(CubicConfig::default()),
        Congestion::Bbr => Arc::new(BbrConfig::default()),
        Congestion::NewReno => Arc::new(NewRenoConfig::default()),
    };
    Arc::new(Reined(chosen))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    fn ends(local: &str, remote: &str) -> Ends {
        Ends::of(local.parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn neighbours_have_a_prefix_in_common() {
        for (local, remote) in [
            ("192.168.7.2", "192.168.7.200"),
            ("203.0.113.1", "203.0.113.9"),
            ("::ffff:192.168.7.2", "192.168.7.3"),
            ("fe80::1", "fe80::2"),
            ("2001:db8:0:1::5", "2001:db8:0:1:ffff::5"),
        ] {
            assert_eq!(ends(local, remote), Ends::Neighbours, "{local} {remote}");
        }
        for (local, remote) in [
            ("192.168.7.2", "192.168.8.2"),
            ("10.0.0.1", "203.0.113.1"),
            ("2001:db8:0:1::5", "2001:db8:0:2::5"),
            ("192.168.7.2", "2001:db8::1"),
        ] {
            assert_eq!(ends(local, remote), Ends::Apart, "{local} {remote}");
        }
    }

    #[test]
    fn only_neighbours_wait_longer_than_a_nat_remembers_and_a_relay_waits_for_nobody() {
        let common_nat = Duration::from_secs(30);
        for end in [KeepAlive::FRUGAL, KeepAlive::FRUGAL.later()] {
            assert!(end.between(Ends::Apart).interval < common_nat);
            let near = end.between(Ends::Neighbours);
            // One keep-alive may be lost.
            assert!(near.interval * 2 < near.idle_timeout, "{near:?}");
        }
        assert_eq!(KeepAlive::WATCHFUL.between(Ends::Neighbours), KeepAlive::WATCHFUL);
    }
}
