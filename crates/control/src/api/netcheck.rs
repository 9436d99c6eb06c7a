//! `peerup netcheck`: what kind of network this machine is on.

use std::net::{IpAddr, SocketAddr};

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HealthItem, PlainText, Reachability, ReachabilityGrade, Severity};

/// A look at the network from this machine. Everything in it is a hint, but for `relays`, which is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetcheckReport {
    pub schema: u32,
    /// Whether the running daemon looked, at the sockets that it uses; otherwise temporary ones were used.
    pub daemon: bool,
    /// Whether UDP passes; null where nothing shows it.
    pub udp: Option<bool>,
    pub ipv4: FamilyCheck,
    pub ipv6: FamilyCheck,
    /// Which packets the NAT lets in, in the words of RFC 4787 §5; `unknown` where nobody tested it.
    pub filtering: String,
    /// Why a carrier's NAT is believed to stand in between.
    pub cgnat: Option<String>,
    pub port_mapping: PortMappingCheck,
    pub relays: Vec<RelayCheck>,
    pub interfaces: Vec<InterfaceCheck>,
    pub reachability: Reachability,
    pub grade: ReachabilityGrade,
    pub health: Vec<HealthItem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FamilyCheck {
    /// A global address of one of this machine's interfaces.
    pub global: Option<IpAddr>,
    /// How relays, peers or STUN servers see this machine.
    pub external: Option<SocketAddr>,
    /// Whether an address is changed on the way.
    pub translated: Option<bool>,
    pub keeps_port: Option<bool>,
    /// How ports are mapped, in the words of RFC 4787 §4.1.
    pub mapping: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortMappingCheck {
    pub state: PortMappingState,
    /// `pcp`, `nat-pmp` or `upnp`.
    pub protocol: Option<String>,
    pub udp: Option<SocketAddr>,
    pub tcp: Option<SocketAddr>,
    pub lease_s: Option<u32>,
    /// Why there is none.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortMappingState {
    /// Switched off, or nothing to map.
    Off,
    Searching,
    Unavailable,
    Mapped,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RelayCheck {
    #[schemars(with = "String")]
    pub id: PeerId,
    pub name: Option<String>,
    /// Null where no address for it is known.
    pub quic: Option<ProbeCheck>,
    pub tcp: Option<ProbeCheck>,
}

/// The best answer of one transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeCheck {
    pub addr: String,
    /// Null where nobody answered.
    pub rtt_ms: Option<f64>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceCheck {
    pub name: String,
    pub address: IpAddr,
    /// `private`, `shared` (RFC 6598), `global`, or `tunnel`.
    pub scope: String,
}

impl NetcheckReport {
    /// Whether something is not as it should be, which is what exit code 3 says.
    pub fn is_degraded(&self) -> bool {
        let ill = self.health.iter().any(|item| item.severity >= Severity::Warning);
        ill || matches!(self.grade.grade.as_str(), "D" | "F")
    }
}

impl RelayCheck {
    pub fn best_rtt(&self) -> Option<f64> {
        let rtts = [&self.quic, &self.tcp].into_iter().flatten().filter_map(|probe| probe.rtt_ms);
        rtts.min_by(f64::total_cmp)
    }
}

impl PlainText for NetcheckReport {
    fn plain_text(&self) -> String {
        let mut text = String::new();
        let mut row = |key: &str, value: String| text.push_str(&format!("{key:<14} {value}\n"));
        row("udp", told(self.udp).to_owned());
        row("ipv4", self.ipv4.text());
        row("ipv6", self.ipv6.text());
        if self.filtering != "unknown" {
            row("filtering", self.filtering.clone());
        }
        row("port mapping", self.port_mapping.text());
        row("cgnat", self.cgnat.clone().unwrap_or_else(|| "no sign of it".to_owned()));
        let none = if self.relays.is_empty() { Some("none configured".to_owned()) } else { None };
        for line in none.into_iter().chain(self.relays.iter().map(RelayCheck::text)) {
            row("relays", line);
        }
        let ReachabilityGrade { grade, label, description } = &self.grade;
        row("grade", format!("{grade}  {label}: {description}"));
        for HealthItem { code, text: what, fix, .. } in &self.health {
            text.push_str(&format!("! {code} - {what}\n"));
            if let Some(fix) = fix {
                text.push_str(&format!("  {fix}\n"));
            }
        }
        text
    }
}

fn told(known: Option<bool>) -> &'static str {
    match known {
        Some(true) => "yes",
        Some(false) => "blocked",
        None => "unknown",
    }
}

impl FamilyCheck {
    fn text(&self) -> String {
        let Some(external) = self.external else {
            let own = |ip| format!("{ip}  nobody outside has looked");
            return self.global.map_or("no address that others can see".to_owned(), own);
        };
        if self.translated == Some(false) {
            return format!("{external}  no NAT in between");
        }
        let punchable = match self.mapping.as_str() {
            "endpoint-independent" => " (punchable)",
            "unknown" => " (one observer is not enough; a second relay or a STUN server tells)",
            _ => " (symmetric)",
        };
        format!("{external}  mapping: {}{punchable}", self.mapping)
    }
}

impl PortMappingCheck {
    fn text(&self) -> String {
        let port = |at: Option<SocketAddr>, word: &str| at.map(|at| format!("{at}/{word}"));
        match self.state {
            PortMappingState::Off => "off".to_owned(),
            PortMappingState::Searching => "asking the router".to_owned(),
            PortMappingState::Unavailable => "none".to_owned(),
            PortMappingState::Mapped => {
                let ports = [port(self.udp, "udp"), port(self.tcp, "tcp")];
                let ports: Vec<String> = ports.into_iter().flatten().collect();
                let protocol = self.protocol.as_deref().unwrap_or("ok");
                format!("{protocol} {} (lease {}s)", ports.join(" "), self.lease_s.unwrap_or(0))
            }
        }
    }
}

impl RelayCheck {
    fn text(&self) -> String {
        let id = self.id.to_string();
        let short = format!("…{}", &id[id.len().saturating_sub(8)..]);
        let rtt = self.best_rtt().map_or("no answer".to_owned(), |rtt| format!("{rtt:.1} ms"));
        let probe = |word: &str, probe: &Option<ProbeCheck>| match probe {
            None => format!("{word} unknown"),
            Some(ProbeCheck { rtt_ms: Some(_), .. }) => format!("{word} ok"),
            Some(ProbeCheck { error, .. }) => {
                format!("{word} failed ({})", error.as_deref().unwrap_or("no answer"))
            }
        };
        let name = self.name.clone().unwrap_or(short);
        format!("{name}  {rtt}  {}, {}", probe("quic", &self.quic), probe("tcp", &self.tcp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> NetcheckReport {
        let none = || FamilyCheck {
            global: None,
            external: None,
            translated: None,
            keeps_port: None,
            mapping: "unknown".into(),
        };
        let probe = |rtt_ms| Some(ProbeCheck { addr: "203.0.113.3:7777".into(), rtt_ms, error: None });
        NetcheckReport {
            schema: 1,
            daemon: true,
            udp: Some(true),
            ipv4: FamilyCheck {
                external: Some("203.0.113.7:41000".parse().unwrap()),
                translated: Some(true),
                keeps_port: Some(true),
                mapping: "endpoint-independent".into(),
                ..none()
            },
            ipv6: FamilyCheck { global: Some("2001:db8::7".parse().unwrap()), ..none() },
            filtering: "unknown".into(),
            cgnat: None,
            port_mapping: PortMappingCheck {
                state: PortMappingState::Mapped,
                protocol: Some("upnp".into()),
                udp: Some("203.0.113.7:41000".parse().unwrap()),
                tcp: None,
                lease_s: Some(3600),
                reason: None,
            },
            relays: vec![RelayCheck {
                id: "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap(),
                name: Some("vps1".into()),
                quic: probe(Some(18.04)),
                tcp: probe(None),
            }],
            interfaces: vec![],
            reachability: Reachability::Public,
            grade: ReachabilityGrade {
                grade: "A".into(),
                label: "Excellent".into(),
                description: "a global IPv6 address".into(),
            },
            health: vec![],
        }
    }

    #[test]
    fn the_text_has_one_row_per_fact() {
        let expected = "\
udp            yes
ipv4           203.0.113.7:41000  mapping: endpoint-independent (punchable)
ipv6           2001:db8::7  nobody outside has looked
port mapping   upnp 203.0.113.7:41000/udp (lease 3600s)
cgnat          no sign of it
relays         vps1  18.0 ms  quic ok, tcp failed (no answer)
grade          A  Excellent: a global IPv6 address
";
        assert_eq!(report().plain_text(), expected);
    }

    #[test]
    fn a_poor_grade_or_a_warning_degrades_and_information_does_not() {
        let mut report = report();
        assert!(!report.is_degraded());
        let item = |severity| HealthItem { code: "cgnat".into(), severity, text: String::new(), fix: None };
        report.health.push(item(Severity::Info));
        assert!(!report.is_degraded());
        report.health.push(item(Severity::Warning));
        assert!(report.is_degraded());
        report.health.clear();
        report.grade.grade = "D".into();
        assert!(report.is_degraded());
    }

    #[test]
    fn it_reads_back_from_json() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<NetcheckReport>(&json).unwrap(), report());
    }
}
