//! Metrics and audit lines, where the configuration asks for them; elsewhere there is no [`Observer`], and the places
//! that would tell it something skip a `None`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use peerup_config::Telemetry;
use peerup_control::{RequestObserver, Seen};
use peerup_netmon::NetworkChange;
use peerup_node::Event as NodeEvent;
use peerup_service::files::secret_token;
use peerup_swarm::{Decision, DialId, PathHandle, PeerSwarm};
use peerup_telemetry::{
    audit::Audit,
    exporter::{Exporter, Page, Pages},
    metrics::{Carried, ConnectedPeers, NodeMetrics, NodeSnapshot, Served as Row},
};
use peerup_types::{Family, PathClass, PathId, PathKind, PeerId};
use tokio::task::JoinHandle;

use crate::{
    api::NodeHandle,
    controller::Controller,
    data::PeerCounters,
    error::DaemonError,
    files::Files,
    services::{Happened, Served},
};

/// Dials whose beginning is remembered; libp2p has fewer under way.
const MAX_DIALS: usize = 256;
/// The label of traffic without a path: what was sent while none was in use.
const NO_PATH: &str = "none";

/// Watches the controller for metrics and the audit log.
pub struct Observer {
    metrics: Option<Arc<NodeMetrics>>,
    audit: Option<Audit>,
    dials: BTreeMap<DialId, Instant>,
    carried: CarriedByClass,
    /// Those that counted at the last look.
    keys: Option<BTreeSet<PeerId>>,
    listener: Option<JoinHandle<()>>,
}

impl Observer {
    /// Binds the listener for metrics and answers there; `None` when nothing is to be observed.
    pub async fn start(
        files: &Files,
        version: &str,
        swarm: &mut PeerSwarm,
        handle: NodeHandle,
    ) -> Result<Option<Box<Self>>, DaemonError> {
        let Telemetry { metrics, audit } = &files.config.telemetry;
        let audit = Audit::new(audit.enabled);
        if !metrics.enabled && audit.is_none() {
            return Ok(None);
        }
        swarm.observe_decisions();
        let mut this = Self {
            metrics: None,
            audit,
            dials: BTreeMap::new(),
            carried: CarriedByClass::default(),
            keys: None,
            listener: None,
        };
        if metrics.enabled {
            let mut registered = NodeMetrics::new(version, peerup_clock::unix());
            swarm.register_metrics(registered.registry_mut());
            this.metrics = Some(Arc::new(registered));
            let exporter = Exporter::bind(metrics.listen_address, pages(files, handle)?).await?;
            tell(metrics.listen_address, files);
            this.listener = Some(tokio::spawn(exporter.serve()));
        }
        Ok(Some(Box::new(this)))
    }

    /// For the control socket.
    pub fn requests(&self) -> RequestObserver {
        let (metrics, audit) = (self.metrics.clone(), self.audit);
        Arc::new(move |seen: &Seen<'_>| {
            if let Some(metrics) = &metrics {
                metrics.requested(seen.method, seen.route, seen.status, seen.took);
            }
            if let Some(audit) = audit {
                audit.daemon_api_access(peerup_clock::unix(), seen.method, seen.route, seen.status);
            }
        })
    }

    /// For the sessions of services.
    pub fn watch(&self, served: &Served) {
        let (metrics, audit) = (self.metrics.clone(), self.audit);
        served.watch(Box::new(move |happened| match happened {
            Happened::Denied { peer, service } => {
                if let Some(audit) = audit {
                    audit.service_acl_denied(peerup_clock::unix(), &peer.to_string(), service);
                }
            }
            Happened::Ended { service, lasted } => {
                if let Some(metrics) = &metrics {
                    metrics.session_ended(service, lasted);
                }
            }
        }));
    }

    pub fn asked_stun(&self, answered: bool) {
        if let Some(metrics) = &self.metrics {
            metrics.stun_probed(answered);
        }
    }

    pub fn decided(&self, decision: Decision) {
        if let (Some(metrics), true) = (&self.metrics, decision.allowed) {
            metrics.admitted();
        }
        if let Some(audit) = self.audit {
            audit.auth_decision(peerup_clock::unix(), &decision.peer.to_string(), decision.allowed);
        }
    }

    /// The set of keys that count is another one, whoever changed it.
    pub fn keys_count(&mut self, keys: &BTreeSet<PeerId>) {
        let Some(audit) = self.audit else { return };
        let unix = peerup_clock::unix();
        let Some(before) = self.keys.replace(keys.clone()) else { return };
        keys.difference(&before).for_each(|peer| audit.auth_change(unix, "add", &peer.to_string()));
        before.difference(keys).for_each(|peer| audit.auth_change(unix, "remove", &peer.to_string()));
    }

    pub fn dialing(&mut self, dial: DialId) {
        if self.metrics.is_some() && self.dials.len() < MAX_DIALS {
            self.dials.insert(dial, peerup_clock::now());
        }
    }

    pub fn dial_failed(&mut self, dial: DialId) {
        self.dials.remove(&dial);
        if let Some(metrics) = &self.metrics {
            metrics.dial_failed();
        }
    }

    pub fn opened(&mut self, handle: &PathHandle) {
        let (Some(metrics), Some(began)) = (&self.metrics, self.dials.remove(&handle.dial())) else { return };
        metrics.dialed(handle.kind.class.as_str(), began.elapsed());
    }

    pub fn punched(&self, success: bool) {
        if let Some(metrics) = &self.metrics {
            metrics.punched(success, None);
        }
    }

    pub fn network_changed(&self, change: &NetworkChange) {
        let Some(metrics) = &self.metrics else { return };
        let addresses = || change.addresses_added.iter().chain(&change.addresses_removed);
        for (word, seen) in [
            ("ipv4", addresses().any(IpAddr::is_ipv4)),
            ("ipv6", addresses().any(IpAddr::is_ipv6)),
            ("link", change.links_changed),
            ("default-route", change.default_route_changed),
        ] {
            if seen {
                metrics.network_changed(word);
            }
        }
    }

    pub fn probed(&self, class: PathClass, rtt: std::time::Duration) {
        if let Some(metrics) = &self.metrics {
            metrics.probed(class.as_str(), rtt);
        }
    }

    fn path_changed(&mut self, peer: PeerId, from: Option<PathKind>, counters: Option<&PeerCounters>) {
        if let Some(counters) = counters {
            self.carried.attribute(peer, from.map(|kind| kind.class), carried(counters));
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// The counters know the peer, not the path. So what came since the last look belongs to the class that was in use.
#[derive(Debug, Default)]
struct CarriedByClass {
    last: BTreeMap<PeerId, Carried>,
    total: BTreeMap<&'static str, Carried>,
}

impl CarriedByClass {
    fn attribute(&mut self, peer: PeerId, class: Option<PathClass>, so_far: Carried) {
        let last = self.last.insert(peer, so_far).unwrap_or_default();
        let total = self.total.entry(class.map_or(NO_PATH, PathClass::as_str)).or_default();
        total.rx_packets += so_far.rx_packets.saturating_sub(last.rx_packets);
        total.rx_bytes += so_far.rx_bytes.saturating_sub(last.rx_bytes);
        total.tx_packets += so_far.tx_packets.saturating_sub(last.tx_packets);
        total.tx_bytes += so_far.tx_bytes.saturating_sub(last.tx_bytes);
    }
}

fn carried(counters: &PeerCounters) -> Carried {
    Carried {
        rx_packets: counters.rx_packets.get(),
        rx_bytes: counters.rx_bytes.get(),
        tx_packets: counters.tx_packets.get(),
        tx_bytes: counters.tx_bytes.get(),
    }
}

/// Beyond loopback only who shows the token is answered.
fn pages(files: &Files, handle: NodeHandle) -> Result<Pages, DaemonError> {
    let metrics: Page = Arc::new(move || {
        let handle = handle.clone();
        Box::pin(async move { handle.metrics_page().await })
    });
    let wide = !files.config.telemetry.metrics.listen_address.ip().is_loopback();
    let token = wide.then(|| secret_token(&files.state.metrics_token)).transpose()?;
    Ok(Pages { metrics: Some(metrics), health: None, token: token.map(Arc::from) })
}

fn tell(address: SocketAddr, files: &Files) {
    match address.ip().is_loopback() {
        true => tracing::info!(%address, "metrics"),
        false => {
            tracing::info!(%address, token = %files.state.metrics_token.display(), "metrics, for who shows the token")
        }
    }
}

impl Controller {
    pub(crate) fn observe(&mut self, event: &NodeEvent) {
        let Some(observer) = &mut self.observer else { return };
        match event {
            NodeEvent::PathChanged { peer, from, to, reason } => {
                observer.path_changed(*peer, *from, self.counters.get(peer).map(AsRef::as_ref));
                if let Some(metrics) = &observer.metrics {
                    metrics.path_changed(to.map_or(NO_PATH, |kind| kind.class.as_str()), reason.as_str());
                }
            }
            NodeEvent::RelayReserved { .. } | NodeEvent::RelayLost { .. } | NodeEvent::AddressLost { .. } => {
            }
        }
    }

    pub(crate) fn observe_answer(&self, path: PathId, rtt: std::time::Duration) {
        if let (Some(observer), Some(known)) = (&self.observer, self.paths.get(&path)) {
            observer.probed(known.handle.kind.class, rtt);
        }
    }

    /// The page for Prometheus; `None` when metrics are off.
    pub(crate) fn metrics_page(&mut self) -> Option<String> {
        let peers = self.node.peers();
        let observer = self.observer.as_mut()?;
        let metrics = observer.metrics.clone()?;
        let mut connected: BTreeMap<(PathClass, &'static str, Family), i64> = BTreeMap::new();
        for view in &peers {
            let kind = view.path.as_ref().map(|path| path.kind);
            if let Some(counters) = self.counters.get(&view.peer) {
                observer.carried.attribute(view.peer, kind.map(|kind| kind.class), carried(counters));
            }
            if let Some(kind) = kind {
                *connected.entry((kind.class, transport(kind), kind.family)).or_default() += 1;
            }
        }
        let connected = connected.into_iter().map(|((class, transport, family), peers)| ConnectedPeers {
            path_type: class.as_str(),
            transport,
            ip_version: family.as_str(),
            peers,
        });
        let globals = |v6| self.node.addresses().globals(v6).len().try_into().unwrap_or(i64::MAX);
        let snapshot = NodeSnapshot {
            connected: connected.collect(),
            carried: observer.carried.total.clone(),
            drops: self.data.counters.reasons(),
            marked: self.data.counters.marked.get(),
            auth_denied: self.swarm.refused(),
            swarm_restarts: self.restarts,
            panics: peerup_telemetry::panics(),
            interface_addresses_v4: globals(false),
            interface_addresses_v6: globals(true),
            relayed_bytes: self.swarm.relayed_bytes(),
            relayed_circuits: crate::controller::relaying_overview(self)
                .circuits
                .try_into()
                .unwrap_or(i64::MAX),
            served: self.services.served.rows().into_iter().map(served).collect(),
        };
        Some(metrics.page(&snapshot))
    }
}

fn served((service, [rx_bytes, tx_bytes, connections], active): (String, [u64; 3], u32)) -> Row {
    Row { service, rx_bytes, tx_bytes, connections, active: active.into() }
}

fn transport(kind: PathKind) -> &'static str {
    use peerup_types::CarrierKind::{QuicDatagram, QuicStream, RelayStream, TcpStream};
    match kind.carrier {
        QuicDatagram | QuicStream => "quic",
        TcpStream => "tcp",
        RelayStream => "relay",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_carried_counts_for_the_path_that_carried_it() {
        let (peer, mut by_class) = (PeerId::random(), CarriedByClass::default());
        let rx = |rx_bytes| Carried { rx_bytes, ..Carried::default() };
        by_class.attribute(peer, Some(PathClass::Relay), rx(100));
        by_class.attribute(peer, Some(PathClass::Direct), rx(1100));
        by_class.attribute(peer, Some(PathClass::Direct), rx(1150));
        by_class.attribute(PeerId::random(), None, rx(7));
        assert_eq!(by_class.total["relay"], rx(100));
        assert_eq!(by_class.total["direct"], rx(1050));
        assert_eq!(by_class.total["none"], rx(7));
    }
}
