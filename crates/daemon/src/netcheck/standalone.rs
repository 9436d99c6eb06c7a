//! Netcheck while no daemon runs: with a host of its own for a few seconds, on the port that the daemon would use.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    path::PathBuf,
    time::Duration,
};

use peerup_control::api::NetcheckReport;
use peerup_netmon::NetworkView;
use peerup_portmap::{Gateway, Lease, Options, Ports, acquire};
use peerup_reach::{Interface, PortMapping, Reach, Scope, Transport, endpoint, scope};
use peerup_service::{InvokingUser, files::FileLock};
use peerup_swarm::{Admission, Event, PathHandle, PeerSwarm, Profile, SwarmConfig};
use peerup_types::{Multiaddr, PathClass, PathId, PeerId};
use peerup_wire::protocol;
use tokio::time::{Instant, timeout_at};

use super::{Known, measure};
use crate::{error::DaemonError, files::Files, surroundings::stun};

/// Listeners are up within milliseconds where there is an address at all; what is dialed before them leaves from
/// another port.
const LISTEN: Duration = Duration::from_secs(1);
/// A relay that does not tell by then what it sees is not waited for.
const OBSERVE: Duration = Duration::from_secs(5);

/// Looks at the network without a daemon, for `config_file`.
pub async fn netcheck(config_file: PathBuf, version: &str) -> Result<NetcheckReport, DaemonError> {
    let user = InvokingUser::current()?;
    let files = Files::load(&config_file, Some(user.runtime_dir()))?;
    let _lock = FileLock::acquire(&files.state.lock)?;
    let network = &files.config.network;
    let mut reach = Reach::new(network.external_addresses.clone(), network.force_private_reachability);
    let view = peerup_netmon::look().await.unwrap_or_default();
    let interface = |address: &peerup_netmon::InterfaceAddress| Interface {
        name: address.interface.clone(),
        address: address.address,
        tunnel: address.tunnel,
    };
    reach.handle_interfaces(view.addresses.iter().map(interface).collect());
    let mut host = Host::new(&files, version)?;
    host.listen(&mut reach).await;
    let stun_servers = network.stun_servers.clone();
    let asked = async { if stun_servers.is_empty() { None } else { stun::ask(&stun_servers).await.ok() } };
    let ports = host.ports.clone();
    let mapped = map(&files, &view, &ports);
    let (stun, lease, ()) = tokio::join!(asked, mapped, host.observe(&mut reach));
    if let Some((port, findings)) = stun {
        reach.handle_stun(port, findings);
    }
    let (mapping, lease) = lease;
    reach.handle_port_mapping(mapping);
    let known = Known {
        daemon: false,
        report: reach.report(peerup_clock::now()),
        relays: host.relays.into_iter().collect(),
        names: files.config.names.clone(),
        default_route: view.default_route,
    };
    let report = measure(known).await;
    if let Some(lease) = lease {
        lease.release().await;
    }
    Ok(report)
}

/// A swarm that talks to relays and to nobody else.
struct Host {
    swarm: PeerSwarm,
    relays: BTreeMap<PeerId, Vec<Multiaddr>>,
    ports: BTreeMap<Transport, u16>,
}

impl Host {
    fn new(files: &Files, version: &str) -> Result<Self, DaemonError> {
        let keypair = files.identity()?;
        let membership = files.membership(keypair.clone())?;
        let mut swarm = PeerSwarm::new(SwarmConfig {
            keypair,
            agent: format!("peerup/{version}"),
            dht_protocol: protocol::kad_protocol(files.config.discovery.network.as_ref()),
            overlay: vec![membership.prefix().into(), membership.v6_prefix().into()],
            profile: Profile::Node { mdns: false, relaying: None, punches_over: None },
            authorized_protocols: Vec::new(),
            infrastructure_protocols: Vec::new(),
            guest_protocols: Vec::new(),
            services: None,
            io: tokio::runtime::Handle::current(),
        })?;
        for address in files.listen_addresses()? {
            if let Err(error) = swarm.listen(address) {
                tracing::debug!(%error, "not listening there");
            }
        }
        let configured = files.config.relays().into_iter().map(|relay| (relay.peer, relay.addresses));
        let relays: BTreeMap<PeerId, Vec<Multiaddr>> = configured.collect();
        let infrastructure: BTreeSet<PeerId> = relays.keys().copied().collect();
        swarm.set_admission(Admission { infrastructure, ..Admission::default() });
        Ok(Self { swarm, relays, ports: BTreeMap::new() })
    }

    async fn listen(&mut self, reach: &mut Reach) {
        let until = Instant::now() + LISTEN;
        while self.ports.len() < 2 {
            let Ok(event) = timeout_at(until, self.swarm.next_event()).await else { return };
            let Event::Listening(address) = event else { continue };
            reach.handle_listening(&address);
            let own = endpoint(&address).filter(|own| own.at.is_ipv4() && scope(own.at.ip()) != Scope::Link);
            self.ports.extend(own.map(|own| (own.transport, own.at.port())));
        }
    }

    /// Dials every address of every relay, and the transports that they tell of, until all have told what they see.
    async fn observe(&mut self, reach: &mut Reach) {
        let until = Instant::now() + OBSERVE;
        let mut handles: BTreeMap<PathId, PathHandle> = BTreeMap::new();
        let mut told: BTreeSet<(PeerId, Transport)> = BTreeSet::new();
        let mut dialed: BTreeSet<(PeerId, Multiaddr)> = BTreeSet::new();
        loop {
            let all = self.relays.iter().flat_map(|(peer, list)| list.iter().map(|at| (*peer, at.clone())));
            for (peer, address) in all.collect::<Vec<_>>() {
                if dialed.insert((peer, address.clone())) {
                    let _ = self.swarm.dial(peer, vec![address]);
                }
            }
            if self.is_complete(&told) {
                return;
            }
            let Ok(event) = timeout_at(until, self.swarm.next_event()).await else { return };
            match event {
                Event::PathOpened(handle) => {
                    reach.handle_opened(handle.path, &handle.remote, false, peerup_clock::now());
                    handles.insert(handle.path, handle);
                }
                Event::Identified { peer, path: Some(path), listen, observed, .. } => {
                    let Some(handle) = handles.get(&path) else { continue };
                    if handle.kind.class == PathClass::Direct && handle.outbound {
                        reach.handle_observed(path, &handle.remote, &observed);
                        told.extend(endpoint(&handle.remote).map(|at| (peer, at.transport)));
                    }
                    self.learn(peer, &listen);
                }
                _ => {}
            }
        }
    }

    fn is_complete(&self, told: &BTreeSet<(PeerId, Transport)>) -> bool {
        let complete = |(peer, addresses): (&PeerId, &Vec<Multiaddr>)| {
            let mut transports = addresses.iter().filter_map(endpoint).map(|at| at.transport);
            told.iter().any(|(of, _)| of == peer) && transports.all(|one| told.contains(&(*peer, one)))
        };
        self.relays.iter().all(complete)
    }

    /// A relay's other transport at an address that is configured.
    fn learn(&mut self, relay: PeerId, listen: &[Multiaddr]) {
        let Some(known) = self.relays.get_mut(&relay) else { return };
        let hosts: BTreeSet<_> = known.iter().filter_map(endpoint).map(|at| at.at.ip()).collect();
        let have: BTreeSet<_> = known.iter().filter_map(endpoint).collect();
        let more = listen.iter().filter(|address| {
            endpoint(address).is_some_and(|at| hosts.contains(&at.at.ip()) && !have.contains(&at))
        });
        known.extend(more.take(4).cloned().collect::<Vec<_>>());
    }
}

/// Asks the router as the daemon would. The caller gives the lease back.
async fn map(
    files: &Files,
    view: &NetworkView,
    ports: &BTreeMap<Transport, u16>,
) -> (PortMapping, Option<Lease>) {
    let router = view.gateway.filter(|router| scope(router.local.into()) != Scope::Global);
    let Some(router) = router.filter(|_| files.config.network.port_mapping.is_auto()) else {
        return (PortMapping::Off, None);
    };
    let port = |transport| ports.get(&transport).copied().and_then(NonZeroU16::new);
    let ports = Ports { udp: port(Transport::Quic), tcp: port(Transport::Tcp) };
    let gateway = Gateway { address: router.address, local: router.local };
    match acquire(gateway, ports, Options::default()).await {
        Ok(lease) => {
            let mapping = PortMapping::Mapped {
                protocol: lease.protocol.as_str(),
                udp: lease.udp.map(Into::into),
                tcp: lease.tcp.map(Into::into),
                lease_s: u32::try_from(lease.lifetime.as_secs()).unwrap_or(u32::MAX),
            };
            (mapping, Some(lease))
        }
        Err(error) => (PortMapping::Unavailable { reason: error.to_string() }, None),
    }
}
