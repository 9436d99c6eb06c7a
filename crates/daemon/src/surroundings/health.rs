//! What the owner of this machine should know about its network.

use peerup_control::api::{HealthItem, Severity};
use peerup_reach::{Cgnat, Report};

/// Whatever is nobody's fault here and cannot be mended on this machine is for information.
pub fn items(report: &Report) -> Vec<HealthItem> {
    let mut items = Vec::new();
    let mut add = |code: &str, severity, text: String, fix: &str| {
        let fix = Some(fix.to_owned());
        items.push(HealthItem { code: code.to_owned(), severity, text, fix });
    };
    if report.udp == Some(false) {
        let text = "this network does not let UDP pass: packets take TCP, which is slower on bad links";
        add(
            "udp-blocked",
            Severity::Warning,
            text.to_owned(),
            "allow outbound UDP, or see `peerup netcheck`",
        );
    }
    if let Some(cgnat) = report.cgnat {
        let text = format!("a carrier's NAT stands in between: {}", explain(cgnat));
        add("cgnat", Severity::Info, text, "IPv6 avoids it; a public IPv4 address is the provider's to give");
    }
    if report.v4.behaviour.is_symmetric() && report.cgnat.is_none() {
        let text = "the NAT gives another port to every destination: pairs of such networks stay on a relay";
        let fix = "forward the listen port in the router, or switch on UPnP or NAT-PMP there";
        add("symmetric-nat", Severity::Info, text.to_owned(), fix);
    }
    for address in &report.stale {
        let text =
            format!("network.external_addresses names {address}, and others see this machine elsewhere");
        add("stale-address", Severity::Warning, text, "correct or remove it in the configuration");
    }
    items
}

pub fn explain(cgnat: Cgnat) -> String {
    match cgnat {
        Cgnat::Interface(ip) => format!("this machine has {ip}, from the carriers' range 100.64.0.0/10"),
        Cgnat::Router(ip) => format!("the router's outside address is {ip}, which is not on the internet"),
        Cgnat::Elsewhere { router, seen } => {
            format!("the router's outside address is {router}, and others see {seen}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use peerup_reach::{PortMapping, Reach};
    use peerup_types::PathId;

    use super::*;

    fn codes(reach: &Reach, now: Instant) -> Vec<String> {
        items(&reach.report(now)).into_iter().map(|item| item.code).collect()
    }

    #[test]
    fn each_condition_has_its_code() {
        let (now, addr) = (peerup_clock::now(), |text: &str| text.parse().unwrap());
        let mut reach = Reach::new(vec![addr("/ip4/198.51.100.77/tcp/4001")], false);
        assert!(codes(&reach, now).is_empty());
        let relay = |n: u8| addr(&format!("/ip4/198.51.100.{n}/udp/7777/quic-v1"));
        reach.handle_observed(PathId(1), &relay(1), &addr("/ip4/203.0.113.9/udp/1/quic-v1"));
        reach.handle_observed(PathId(2), &relay(2), &addr("/ip4/203.0.113.9/udp/2/quic-v1"));
        assert_eq!(codes(&reach, now), ["symmetric-nat", "stale-address"]);
        let udp = Some("100.64.0.7:25000".parse().unwrap());
        reach.handle_port_mapping(PortMapping::Mapped { protocol: "pcp", udp, tcp: None, lease_s: 60 });
        assert_eq!(codes(&reach, now), ["cgnat", "stale-address"]);
        reach.handle_opened(PathId(3), &addr("/ip4/198.51.100.1/tcp/7777"), true, now);
        assert_eq!(codes(&reach, now + Duration::from_secs(60)), ["udp-blocked", "cgnat", "stale-address"]);
    }
}
