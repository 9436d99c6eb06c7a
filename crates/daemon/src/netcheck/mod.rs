//! `peerup netcheck`: what is known of the network, and what can be measured in a few seconds.

mod relays;
mod standalone;

use std::{collections::BTreeMap, net::IpAddr};

use peerup_control::api::{
    FamilyCheck, HealthItem, InterfaceCheck, NetcheckReport, PortMappingCheck, PortMappingState, RelayCheck,
    SCHEMA, Severity,
};
use peerup_reach::{Interface, Mapping, PortMapping, Report, Scope, scope};
use peerup_types::{DnsLabel, Multiaddr, PeerId};
use tokio::sync::oneshot;

pub use standalone::netcheck;

use crate::{controller::Controller, surroundings, view};

/// What the loop knows, for the task that measures the rest.
struct Known {
    daemon: bool,
    report: Report,
    relays: Vec<(PeerId, Vec<Multiaddr>)>,
    names: BTreeMap<DnsLabel, PeerId>,
    default_route: bool,
}

impl Controller {
    /// The answer comes from a task: relays that are gone take seconds to be found out.
    pub fn netcheck(&self, reply: oneshot::Sender<NetcheckReport>) {
        let relays = self.node.relays().into_iter().map(|relay| (relay.relay, relay.addresses));
        let configured = self.relays();
        let known = Known {
            daemon: true,
            report: self.report(),
            relays: relays.filter(|(relay, _)| configured.contains_key(relay)).collect(),
            names: self.files.config.names.clone(),
            default_route: self.surroundings.view.default_route,
        };
        tokio::spawn(async move {
            // An answer that nobody waits for is not an error: the caller hung up.
            let _ = reply.send(measure(known).await);
        });
    }
}

async fn measure(known: Known) -> NetcheckReport {
    let Known { daemon, mut report, relays, names, default_route } = known;
    let checks = relays::check(&relays, &names).await;
    if let Some(udp) = udp_by(&checks) {
        report.udp = Some(udp);
        report.regrade();
    }
    let mut health = surroundings::health(&report);
    health.extend(unreachable(&checks, default_route));
    NetcheckReport {
        schema: SCHEMA,
        daemon,
        udp: report.udp,
        ipv4: family(&report.v4, &report.interfaces, false),
        ipv6: family(&report.v6, &report.interfaces, true),
        filtering: report.filtering.to_string(),
        cgnat: report.cgnat.map(surroundings::explain),
        port_mapping: port_mapping(&report.port_mapping),
        relays: checks,
        interfaces: report.interfaces.iter().map(interface).collect(),
        reachability: view::reachability(&report),
        grade: view::grade(&report),
        health,
    }
}

/// Relays that answer on UDP settle it; relays that answer on TCP alone settle it the other way.
fn udp_by(checks: &[RelayCheck]) -> Option<bool> {
    let answers =
        |probe: &Option<peerup_control::api::ProbeCheck>| probe.as_ref().map(|probe| probe.rtt_ms.is_some());
    if checks.iter().any(|relay| answers(&relay.quic) == Some(true)) {
        return Some(true);
    }
    let blocked =
        |relay: &RelayCheck| answers(&relay.quic) == Some(false) && answers(&relay.tcp) == Some(true);
    checks.iter().any(blocked).then_some(false)
}

fn unreachable(checks: &[RelayCheck], default_route: bool) -> Option<HealthItem> {
    let warning = |code: &str, text: &str, fix: &str| {
        let (code, text, fix) = (code.to_owned(), text.to_owned(), Some(fix.to_owned()));
        Some(HealthItem { code, severity: Severity::Warning, text, fix })
    };
    if checks.iter().any(|relay| relay.best_rtt().is_some()) || (checks.is_empty() && default_route) {
        return None;
    }
    if !default_route {
        let text = "there is no default route: only machines on the same LAN are in reach";
        return warning("no-route", text, "connect this machine to a network");
    }
    let text = "no relay answers, neither over UDP nor over TCP: all of them are down, or this network lets nothing out";
    warning("relays-unreachable", text, "open a web page: a hotel or train may want a log-in first")
}

/// An internet address that an interface of this host has itself.
pub fn global_address(interfaces: &[Interface], v6: bool) -> Option<IpAddr> {
    let global = |i: &&Interface| !i.tunnel && i.address.is_ipv6() == v6 && scope(i.address) == Scope::Global;
    interfaces.iter().find(global).map(|interface| interface.address)
}

fn family(mapping: &Mapping, interfaces: &[Interface], v6: bool) -> FamilyCheck {
    FamilyCheck {
        global: global_address(interfaces, v6),
        external: mapping.external,
        translated: mapping.translated,
        keeps_port: mapping.keeps_port,
        mapping: mapping.behaviour.to_string(),
    }
}

fn port_mapping(mapping: &PortMapping) -> PortMappingCheck {
    let none = |state, reason| PortMappingCheck {
        state,
        protocol: None,
        udp: None,
        tcp: None,
        lease_s: None,
        reason,
    };
    match mapping {
        PortMapping::Off => none(PortMappingState::Off, None),
        PortMapping::Searching => none(PortMappingState::Searching, None),
        PortMapping::Unavailable { reason } => none(PortMappingState::Unavailable, Some(reason.clone())),
        PortMapping::Mapped { protocol, udp, tcp, lease_s } => PortMappingCheck {
            state: PortMappingState::Mapped,
            protocol: Some((*protocol).to_owned()),
            udp: *udp,
            tcp: *tcp,
            lease_s: Some(*lease_s),
            reason: None,
        },
    }
}

fn interface(interface: &Interface) -> InterfaceCheck {
    let scope = match (interface.tunnel, scope(interface.address)) {
        (true, _) => "tunnel",
        (false, Scope::Global) => "global",
        (false, Scope::Shared) => "shared",
        (false, Scope::Private | Scope::Link) => "private",
    };
    InterfaceCheck { name: interface.name.clone(), address: interface.address, scope: scope.to_owned() }
}

#[cfg(test)]
mod tests {
    use peerup_control::api::ProbeCheck;

    use super::*;

    fn relay(quic: Option<bool>, tcp: Option<bool>) -> RelayCheck {
        let probe = |answered: Option<bool>| {
            answered.map(|answered| ProbeCheck {
                addr: String::new(),
                rtt_ms: answered.then_some(1.0),
                error: None,
            })
        };
        RelayCheck { id: PeerId::random(), name: None, quic: probe(quic), tcp: probe(tcp) }
    }

    #[test]
    fn one_answer_over_udp_is_proof_and_silence_counts_only_beside_an_answer_over_tcp() {
        assert_eq!(udp_by(&[relay(Some(true), Some(false))]), Some(true));
        assert_eq!(udp_by(&[relay(Some(false), Some(true))]), Some(false));
        assert_eq!(udp_by(&[relay(Some(false), Some(true)), relay(Some(true), Some(true))]), Some(true));
        assert_eq!(udp_by(&[relay(Some(false), Some(false))]), None);
        assert_eq!(udp_by(&[relay(None, Some(true))]), None);
        assert_eq!(udp_by(&[]), None);
    }

    #[test]
    fn silence_of_all_relays_is_told_apart_from_no_network() {
        let code = |checks: &[RelayCheck], route| unreachable(checks, route).map(|item| item.code);
        assert_eq!(code(&[relay(Some(false), Some(false))], true).as_deref(), Some("relays-unreachable"));
        assert_eq!(code(&[relay(Some(false), Some(false))], false).as_deref(), Some("no-route"));
        assert_eq!(code(&[], false).as_deref(), Some("no-route"));
        assert_eq!(code(&[], true), None);
        assert_eq!(code(&[relay(Some(true), None)], false), None, "a relay on the LAN");
    }
}
