//! The plain-text forms: what `?format=text` and `Accept: text/plain` are answered with.

use std::fmt::Write;

use super::{
    AuthRow, PathRow, PeerRow, PingReply, PingReport, PingStats, ProxyRow, ResolveReport, ServiceRow,
    StatusReport, TraceHop, TraceReport,
};

/// An answer that can be told in lines of text, each ended by a line feed.
pub trait PlainText {
    fn plain_text(&self) -> String;
}

impl PlainText for StatusReport {
    fn plain_text(&self) -> String {
        let grade = &self.reachability;
        let mut text = format!(
            "peer_id: {}\nversion: {}\nuptime: {}s\nconnected_peers: {}\nservices: {}\nglobal_ipv6: {}\n\
             global_ipv4: {}\nis_relaying: {}\nreachability: [{}] {} - {}\n",
            self.peer_id,
            self.version,
            self.uptime_seconds,
            self.connected_peers,
            self.services_count,
            self.has_global_ipv6,
            self.has_global_ipv4,
            self.is_relaying,
            grade.grade,
            grade.label,
            grade.description,
        );
        if let Some(nat) = &self.nat_type {
            text.push_str(&format!("nat_type: {nat}\n"));
        }
        list(&mut text, "stun_external_addrs", &self.stun_external_addrs);
        list(&mut text, "listen_addresses", &self.listen_addresses);
        list(&mut text, "relay_addresses", &self.relay_addresses);
        text
    }
}

fn list(text: &mut String, key: &str, values: &[String]) {
    text.push_str(&format!("{key}: {}\n", values.len()));
    for value in values {
        text.push_str(&format!("  {value}\n"));
    }
}

impl<T: Row> PlainText for Vec<T> {
    fn plain_text(&self) -> String {
        self.iter().map(|row| row.line() + "\n").collect()
    }
}

/// One line of a list, its cells parted by tabs.
pub trait Row {
    fn line(&self) -> String;
}

impl Row for PeerRow {
    fn line(&self) -> String {
        let agent = self.agent_version.as_deref().unwrap_or("unknown");
        format!("{}\t{}\t{} addrs", head(&self.id.to_string()), one_cell(agent), self.addresses.len())
    }
}

impl Row for PathRow {
    fn line(&self) -> String {
        let Self { peer_id, path_type, transport, ip_version, address, .. } = self;
        let rtt = self.last_rtt_ms.map_or_else(|| "-".into(), |rtt| format!("{rtt:.1}ms"));
        format!(
            "{}\t{path_type}\t{transport}\t{ip_version}\t{address}\trtt={rtt}",
            head(&peer_id.to_string())
        )
    }
}

impl Row for AuthRow {
    fn line(&self) -> String {
        let comment = self.comment.as_ref().map(|comment| format!("\t# {}", one_cell(comment)));
        format!("{}{}", self.peer_id, comment.unwrap_or_default())
    }
}

impl Row for ServiceRow {
    fn line(&self) -> String {
        let Self { name, local_address, protocol, enabled, .. } = self;
        let state = if *enabled { "enabled" } else { "disabled" };
        format!("{name}\t{local_address}\t{protocol}\t{state}")
    }
}

impl Row for ProxyRow {
    fn line(&self) -> String {
        let Self { id, peer, service, listen_address, sessions, tx_bytes, rx_bytes, .. } = self;
        format!(
            "{id}\t{}\t{service}\t{listen_address}\t{sessions} open\ttx={tx_bytes}\trx={rx_bytes}",
            one_cell(peer)
        )
    }
}

impl PlainText for ResolveReport {
    fn plain_text(&self) -> String {
        format!("{} → {} (source: {})\n", one_cell(&self.name), self.peer_id, self.source.as_str())
    }
}

impl PlainText for PingReport {
    fn plain_text(&self) -> String {
        let target = self.name.clone().unwrap_or_else(|| self.peer_id.to_string());
        let target = one_cell(&target);
        let mut text = format!("PING {target} ({})\n", head(&self.peer_id.to_string()));
        for reply in &self.results {
            text.push_str(&(reply.line() + "\n"));
        }
        let _ = write!(text, "--- {target} ping statistics ---\n{}\n", self.stats.line());
        text
    }
}

impl Row for PingReply {
    fn line(&self) -> String {
        match self.rtt_ms {
            Some(rtt) => format!("seq={} rtt={rtt:.1}ms path=[{}]", self.seq, self.path),
            None => format!("seq={} error={}", self.seq, one_cell(&self.error)),
        }
    }
}

impl Row for PingStats {
    fn line(&self) -> String {
        let Self { sent, received, loss_pct, min_ms, avg_ms, max_ms, .. } = self;
        let rtt = match received {
            0 => String::new(),
            _ => format!(", rtt min/avg/max = {min_ms:.1}/{avg_ms:.1}/{max_ms:.1} ms"),
        };
        format!("{sent} sent, {received} received, {loss_pct:.1}% loss{rtt}")
    }
}

impl PlainText for TraceReport {
    fn plain_text(&self) -> String {
        let hops: String = self.hops.iter().map(|hop| hop.line() + "\n").collect();
        let path = if self.path.is_empty() { "none".to_owned() } else { format!("[{}]", self.path) };
        format!("{hops}--- path: {path} ---\n")
    }
}

impl Row for TraceHop {
    fn line(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" ({})", one_cell(name))).unwrap_or_default();
        let address =
            self.address.as_ref().map(|address| format!("  {}", one_cell(address))).unwrap_or_default();
        let rtt = match (self.rtt_ms, &self.error) {
            (Some(rtt), _) => format!("{rtt:.1}ms"),
            (None, Some(error)) => format!("* {}", one_cell(error)),
            (None, None) => "*".into(),
        };
        format!("{:>2}  {}{name}{address}  {rtt}", self.hop, head(&self.peer_id.to_string()))
    }
}

/// The first 16 characters of a peer ID, as the original shows it.
fn head(id: &str) -> String {
    format!("{}...", &id[..id.len().min(16)])
}

/// What others chose, without the characters that would make a second line, a second cell or a terminal sequence.
fn one_cell(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use peerup_types::PeerId;

    use super::*;
    use crate::api::{ReachabilityGrade, ResolveSource};

    #[test]
    fn a_status_is_keys_and_values_with_lists_below_their_count() {
        let status = StatusReport {
            peer_id: id(),
            version: "0.1.0".into(),
            uptime_seconds: 75,
            connected_peers: 1,
            listen_addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            relay_addresses: vec![],
            services_count: 0,
            has_global_ipv6: true,
            has_global_ipv4: false,
            nat_type: Some("symmetric".into()),
            stun_external_addrs: vec![],
            is_relaying: false,
            reachability: ReachabilityGrade {
                grade: "A".into(),
                label: "Excellent".into(),
                description: "IPv6".into(),
            },
            network: None,
            interface: None,
            range: None,
            mtu: None,
        };
        let expected = format!(
            "peer_id: {}\nversion: 0.1.0\nuptime: 75s\nconnected_peers: 1\nservices: 0\nglobal_ipv6: true\n\
             global_ipv4: false\nis_relaying: false\nreachability: [A] Excellent - IPv6\nnat_type: symmetric\n\
             stun_external_addrs: 0\nlisten_addresses: 1\n  /ip4/127.0.0.1/tcp/1\nrelay_addresses: 0\n",
            id()
        );
        assert_eq!(status.plain_text(), expected);
    }

    #[test]
    fn rows_have_cells_and_nobody_else_can_add_lines() {
        let rows =
            vec![PeerRow { id: id(), addresses: vec![], agent_version: Some("evil\n\x1b[2Jx".into()) }];
        assert_eq!(rows.plain_text(), "12D3KooWAxzCBFVt...\tevil  [2Jx\t0 addrs\n");
        let rows = vec![AuthRow {
            peer_id: id(),
            comment: Some("home".into()),
            verified: None,
            expires_at: None,
            group: None,
        }];
        assert_eq!(rows.plain_text(), format!("{}\t# home\n", id()));
    }

    #[test]
    fn a_resolved_name_says_where_it_comes_from() {
        let report = ResolveReport {
            name: "home".into(),
            peer_id: id(),
            source: ResolveSource::LocalConfig,
            known_as: None,
            ips: vec![],
        };
        assert_eq!(report.plain_text(), format!("home → {} (source: local_config)\n", id()));
    }

    #[test]
    fn a_trace_names_each_hop_and_marks_one_that_did_not_answer() {
        let hop = |hop, name: &str, rtt_ms, error: Option<&str>| TraceHop {
            hop,
            peer_id: id(),
            name: Some(name.into()),
            address: Some("/ip4/203.0.113.9/tcp/7777".into()),
            rtt_ms,
            error: error.map(Into::into),
        };
        let hops = vec![hop(1, "vps", Some(12.34), None), hop(2, "home", None, Some("no answer"))];
        let report = TraceReport { target: "home".into(), target_id: id(), path: "RELAYED".into(), hops };
        let expected = " 1  12D3KooWAxzCBFVt... (vps)  /ip4/203.0.113.9/tcp/7777  12.3ms\n \
                        2  12D3KooWAxzCBFVt... (home)  /ip4/203.0.113.9/tcp/7777  * no answer\n--- path: [RELAYED] ---\n";
        assert_eq!(report.plain_text(), expected);
    }

    fn id() -> PeerId {
        "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().expect("a peer ID")
    }
}
