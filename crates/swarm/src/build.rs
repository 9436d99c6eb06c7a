//! Puts transports and behaviours together, at the start and again after a panic.

use std::{
    num::{NonZeroU8, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use futures::channel::mpsc;
use libp2p::{
    PeerId, StreamProtocol, Swarm,
    core::upgrade::Version,
    dcutr, kad, mdns, relay,
    swarm::{self, behaviour::toggle::Toggle},
};
use tokio::runtime::Handle;

use crate::{
    authorized::Authorized,
    autonat,
    behaviour::{self, Behaviour, RelayLimits},
    candidates,
    config::{BuildError, Profile, SwarmConfig},
    connections::Connections,
    gater::{self, Standing},
    liveness::{self, Rhythm},
    metered::Meter,
    paths::{self, InboundStream, Protocols},
    serving::Serving,
    transport,
};

/// Inbound streams waiting for the control loop: a few per peer that connects at the same moment.
const INBOUND_QUEUE: usize = 256;
/// An unwanted connection lives this long, so that a late second thought (a guest being authorized) finds it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Whoever comes to a link asks at once, and is heard by all; this is for questions and answers that got lost. One question
/// is answered by every member on the link, to every member.
const MDNS_EVERY: Duration = Duration::from_secs(30 * 60);
/// Listen addresses, DCUtR candidates and both families of a well-connected host fit in one concurrent dial.
const DIAL_CONCURRENCY: NonZeroU8 = NonZeroU8::new(24).expect("not zero");

pub type Built = (Swarm<Behaviour>, mpsc::Receiver<InboundStream>);

/// `first_path` continues the numbering of a swarm that this one replaces; `relaying` is what a member may carry for
/// others.
pub fn build(
    config: &SwarmConfig,
    first_path: u64,
    relaying: Option<(RelayLimits, Arc<Meter>)>,
) -> Result<Built, BuildError> {
    let _io = config.io.enter();
    let own = config.keypair.public().to_peer_id();
    let (sender, inbound) = mpsc::channel(INBOUND_QUEUE);
    let node = matches!(config.profile, Profile::Node { .. });
    let connections = Arc::new(Connections::default());
    let punches_over = match config.profile {
        Profile::Node { punches_over, .. } => punches_over,
        Profile::Relay(_) => None,
    };
    let (transport, relay_client) = match node {
        true => {
            let (transport, client) =
                transport::with_circuits(&config.keypair, &config.overlay, connections.clone())?;
            (transport, Some(client))
        }
        false => (transport::direct(&config.keypair, &config.overlay, connections.clone())?, None),
    };
    let protocols = Protocols {
        authorized: static_protocols(&config.authorized_protocols),
        infrastructure: static_protocols(&config.infrastructure_protocols),
        guest: static_protocols(&config.guest_protocols),
    };
    let dht = StreamProtocol::try_from_owned(config.dht_protocol.clone())
        .map_err(|_| BuildError::DhtProtocol(config.dht_protocol.clone()))?;
    let paths = paths::Behaviour::new(protocols, sender, config.services.clone(), connections, first_path);
    let rhythm = if node { Rhythm::NODE } else { Rhythm::RELAY };
    let ping = liveness::Behaviour::new(rhythm, paths.standing());
    let relay_server = relay_server(own, &config.profile, paths.standing());
    let serving = relaying.map(|(limits, meter)| {
        Serving::new(own, limits.to_member_config(paths.standing()), paths.standing(), meter)
    });
    let dcutr = || Authorized::new(dcutr::Behaviour::new(own), paths.standing()).sparing(punches_over);
    let dcutr = node.then(dcutr);
    let autonat_client = node.then(|| autonat::client(paths.standing()));
    let autonat_server = (!node).then(|| autonat::server(paths.standing()));
    let behaviour = Behaviour {
        gater: gater::Behaviour::default(),
        limits: behaviour::limits(),
        candidates: candidates::Behaviour::default(),
        paths,
        identify: behaviour::identify(&config.keypair, &config.agent, node),
        ping,
        kad: behaviour::kad(own, dht, if node { kad::Mode::Client } else { kad::Mode::Server }),
        relay_client: Toggle::from(relay_client),
        relay_server: Toggle::from(relay_server),
        serving: Toggle::from(serving),
        dcutr: Toggle::from(dcutr),
        mdns: Toggle::from(multicast_dns(own, &config.profile)),
        autonat_client: Toggle::from(autonat_client),
        autonat_server: Toggle::from(autonat_server),
    };
    Ok((Swarm::new(transport, behaviour, own, swarm_config(config.io.clone())), inbound))
}

fn swarm_config(io: Handle) -> swarm::Config {
    swarm::Config::with_executor(move |task| {
        io.spawn(task);
    })
    .with_idle_connection_timeout(IDLE_TIMEOUT)
    .with_notify_handler_buffer_size(NonZeroUsize::new(64).expect("not zero"))
    .with_per_connection_event_buffer_size(32)
    .with_dial_concurrency_factor(DIAL_CONCURRENCY)
    // Saves a round trip per stream; a refusal then shows on the first read, where the hello is awaited anyway.
    .with_substream_upgrade_protocol_override(Version::V1Lazy)
    .with_max_negotiating_inbound_streams(128)
}

fn relay_server(
    own: PeerId,
    profile: &Profile,
    standing: impl Fn(&PeerId) -> Standing + Clone + Send + 'static,
) -> Option<relay::Behaviour> {
    let Profile::Relay(limits) = profile else { return None };
    let mut relay = relay::Behaviour::new(own, limits.to_config(standing));
    relay.set_status(Some(relay::Status::Enable));
    Some(relay)
}

/// Multicast DNS is a convenience: a host without multicast works without it.
fn multicast_dns(own: PeerId, profile: &Profile) -> Option<mdns::tokio::Behaviour> {
    let Profile::Node { mdns: true, .. } = profile else { return None };
    let config = mdns::Config { query_interval: MDNS_EVERY, ..mdns::Config::default() };
    mdns::tokio::Behaviour::new(config, own)
        .inspect_err(|error| tracing::warn!(%error, "multicast DNS is not available"))
        .ok()
}

fn static_protocols(names: &[&'static str]) -> Arc<[StreamProtocol]> {
    names.iter().map(|name| StreamProtocol::new(name)).collect()
}
