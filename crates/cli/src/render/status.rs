//! `peerup status`: the verdict in the first line, then a row per machine, then what should be mended.

use std::net::IpAddr;

use peerup_control::api::{
    HealthItem, Overview, OverviewClass, PeerOverview, ProxyRow, RelayOverview, RelayState, Severity,
    StatusReport, Timestamp,
};
use peerup_types::PeerId;

use super::{name_of, path, short_id, table::Table, units};
use crate::terminal::{Colour, Terminal};

/// Words of a `why` tail; more would not be read.
const REASON_WORDS: usize = 6;
const PATH_COLUMN: usize = 2;

/// The whole page.
pub fn page(overview: &Overview, status: &StatusReport, now: Timestamp, terminal: &Terminal) -> Vec<String> {
    page_within(overview, status, now, terminal.width(), terminal)
}

fn page_within(
    overview: &Overview,
    status: &StatusReport,
    now: Timestamp,
    width: usize,
    terminal: &Terminal,
) -> Vec<String> {
    let mut lines = verdict(overview, status, width);
    lines.extend(table(overview, now).render(width, terminal));
    lines.extend(overview.proxies.iter().map(proxy));
    lines.extend(relaying(overview));
    lines.extend(overview.health.iter().map(|item| health(item, terminal)));
    lines
}

/// One peer in depth, a line per fact.
pub fn block(overview: &Overview, peer: &PeerOverview, now: Timestamp) -> Vec<String> {
    let since = peer.path.as_ref().and_then(|path| path.since);
    let facts = [
        ("peer", Some(name_of(peer.name.as_deref(), &peer.id))),
        ("id", Some(peer.id.to_string())),
        ("addresses", (!peer.ips.is_empty()).then(|| join(&peer.ips))),
        ("path", Some(words(overview, peer))),
        ("endpoint", peer.path.as_ref().and_then(|path| path.addr.clone())),
        ("carrier", peer.path.as_ref().and_then(|path| path.carrier).map(|carrier| carrier.to_string())),
        ("since", since.map(|since| format!("{since} ({})", units::ago(age(since, now))))),
        ("round trip", peer.rtt_ms.map(units::millis)),
        ("loss", Some(units::share(peer.loss))),
        ("received", Some(units::bytes(peer.rx_bytes))),
        ("sent", Some(units::bytes(peer.tx_bytes))),
        ("last seen", peer.last_seen.map(|seen| format!("{seen} ({})", units::ago(age(seen, now))))),
        ("why", peer.reason.clone()),
    ];
    let shown = facts.into_iter().filter_map(|(key, value)| Some((key, value?)));
    shown.map(|(key, value)| format!("{:<12}{value}", format!("{key}:"))).collect()
}

/// The peer that `text` means: its name, one of its addresses, or its ID.
pub fn find<'o>(overview: &'o Overview, text: &str) -> Option<&'o PeerOverview> {
    let bare = text.strip_suffix(".peerup").unwrap_or(text);
    let ip: Option<IpAddr> = text.parse().ok();
    overview.peers.iter().find(|peer| {
        peer.name.as_deref() == Some(bare)
            || peer.id.to_string() == text
            || ip.is_some_and(|ip| peer.ips.contains(&ip))
    })
}

/// One line, or the relays on a second one where they do not fit.
fn verdict(overview: &Overview, status: &StatusReport, width: usize) -> Vec<String> {
    let mut parts = vec![format!("peerup  up {}", units::duration(overview.this.uptime_s))];
    parts.extend(status.network.clone());
    parts.push(interface(status));
    let node = parts.join("  ");
    let relays: Vec<_> = overview.relays.iter().map(relay).collect();
    let line = [vec![node.clone()], relays.clone()].concat().join("  ");
    if line.chars().count() <= width { vec![line] } else { vec![node, relays.join("  ")] }
}

fn interface(status: &StatusReport) -> String {
    let (Some(interface), Some(range)) = (&status.interface, &status.range) else {
        return "interface down".into();
    };
    let mtu = status.mtu.map(|mtu| format!(" (mtu {mtu})")).unwrap_or_default();
    format!("{range} on {interface}{mtu}")
}

fn relay(relay: &RelayOverview) -> String {
    let name = name_of(relay.name.as_deref(), &relay.id);
    match relay.state {
        RelayState::Reserved => {
            let rtt = relay.rtt_ms.map(|rtt| format!(" {rtt:.0}ms")).unwrap_or_default();
            format!("relay {name} ok{rtt}")
        }
        RelayState::Standby => format!("relay {name} standby"),
        RelayState::Candidate => format!("relay {name} not needed"),
        RelayState::Connected => format!("relay {name} no reservation"),
        RelayState::Connecting => format!("relay {name} connecting"),
        RelayState::Offline => format!("relay {name} offline"),
    }
}

/// A listener that leads to a service of a peer.
fn proxy(proxy: &ProxyRow) -> String {
    let ProxyRow { id, listen_address, peer, service, sessions, .. } = proxy;
    let (received, sent) = (units::bytes(proxy.rx_bytes), units::bytes(proxy.tx_bytes));
    format!("{id}  {listen_address} → {peer}:{service}  {sessions} open  {received} / {sent}")
}

/// What this node carries for others, once it carries anything.
fn relaying(overview: &Overview) -> Option<String> {
    let relaying = &overview.relaying;
    let busy = relaying.reservations > 0 || relaying.circuits > 0 || relaying.bytes > 0;
    if !relaying.active || !busy {
        return None;
    }
    let rate = relaying.max_bytes_per_s.map(|rate| format!(", at most {}/s", units::bytes(rate)));
    Some(format!(
        "relaying for peers: {} of {} reservations, {} of {} circuits, {}{}",
        relaying.reservations,
        relaying.max_reservations,
        relaying.circuits,
        relaying.max_circuits,
        units::bytes(relaying.bytes),
        rate.unwrap_or_default(),
    ))
}

fn table(overview: &Overview, now: Timestamp) -> Table {
    let mut table = Table::new(&["NAME", "IP", "PATH", "RTT", "LOSS", "RX/TX", "SEEN"], 3);
    let this = &overview.this;
    let name = format!("{}*", name_of(this.name.as_deref(), &this.id));
    table.row([name, first(&this.ips), dash(), dash(), dash(), dash(), "self".into()]);
    let (online, offline): (Vec<_>, Vec<_>) = overview.peers.iter().partition(|peer| peer.path.is_some());
    for peer in online.into_iter().chain(offline) {
        table.row(row(overview, peer, now));
        table.colour(PATH_COLUMN, path_colour(peer));
    }
    table
}

fn path_colour(peer: &PeerOverview) -> Colour {
    match peer.path.as_ref().map(|path| path.class) {
        Some(OverviewClass::Direct) => Colour::Green,
        Some(OverviewClass::PeerRelay | OverviewClass::Relay | OverviewClass::Connecting) => Colour::Yellow,
        None => Colour::Faint,
    }
}

fn row(overview: &Overview, peer: &PeerOverview, now: Timestamp) -> Vec<String> {
    let online = peer.path.is_some();
    let when_online = |text: String| if online { text } else { dash() };
    let mut row = vec![
        name_of(peer.name.as_deref(), &peer.id),
        first(&peer.ips),
        words(overview, peer),
        peer.rtt_ms.filter(|_| online).map_or_else(dash, units::millis),
        when_online(units::share(peer.loss)),
        when_online(format!("{} / {}", units::bytes(peer.rx_bytes), units::bytes(peer.tx_bytes))),
        peer.last_seen.map_or_else(dash, |seen| units::ago(age(seen, now))),
    ];
    row.extend(peer.reason.as_deref().map(why));
    row
}

fn words(overview: &Overview, peer: &PeerOverview) -> String {
    path::words(peer.path.as_ref(), |relay| relay_name(overview, relay))
}

/// A relay may be a configured one or a peer.
pub fn relay_name(overview: &Overview, id: &PeerId) -> String {
    let relay = overview.relays.iter().find(|relay| relay.id == *id).and_then(|relay| relay.name.clone());
    let peer = || overview.peers.iter().find(|peer| peer.id == *id).and_then(|peer| peer.name.clone());
    relay.or_else(peer).unwrap_or_else(|| short_id(id))
}

fn why(reason: &str) -> String {
    let words: Vec<_> = reason.split_whitespace().take(REASON_WORDS).collect();
    format!("why: {}", words.join(" "))
}

fn health(item: &HealthItem, terminal: &Terminal) -> String {
    let severity = severity(item.severity);
    let fix = item.fix.as_ref().map(|fix| format!(" ({fix})")).unwrap_or_default();
    let line = format!("! {severity}: {} - {}{fix}", item.code, item.text);
    match item.severity {
        Severity::Info => line,
        Severity::Warning => terminal.paint(Colour::Yellow, line),
        Severity::Error => terminal.paint(Colour::Red, line),
    }
}

pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn first(ips: &[IpAddr]) -> String {
    ips.first().map_or_else(dash, IpAddr::to_string)
}

fn join(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn age(then: Timestamp, now: Timestamp) -> u64 {
    now.unix().saturating_sub(then.unix())
}

fn dash() -> String {
    "-".into()
}

#[cfg(test)]
mod tests {
    use peerup_control::api::{
        OverviewClass, PathOverview, Reachability, ReachabilityGrade, RelayingOverview, SelfOverview,
    };
    use peerup_types::{CarrierKind, Family};

    use super::*;

    #[test]
    fn the_page_fits_80_columns_and_names_path_and_reason() {
        let page = page_within(&overview(), &status(), Timestamp::from_unix(200_000), 80, &Terminal::plain())
            .join("\n");
        insta::assert_snapshot!(page, @r"
        peerup  up 3h12m  home-net  10.64.0.0/16 on peerup0 (mtu 1280)
        relay vps1 ok 18ms
        NAME     IP          PATH        RTT     LOSS  RX/TX       SEEN
        laptop*  10.64.0.1   -           -       -     -           self
        home     10.64.0.2   direct v6   12.4ms  0%    1.2G / 88M  now
        pi       10.64.0.9   relay vps1  12.4ms  0.4%  0 / 0       now
          why: symmetric NAT both sides
        phone    10.64.0.12  offline     -       -     -           2d ago
        relaying for peers: 2 of 128 reservations, 1 of 128 circuits, 117M, at most 16M/s
        ! warning: udp-blocked-here - this network drops UDP; using TCP
        ");
    }

    #[test]
    fn a_narrow_terminal_keeps_name_address_and_path() {
        let page = page_within(&overview(), &status(), Timestamp::from_unix(200_000), 35, &Terminal::plain());
        assert_eq!(page[2], "NAME     IP          PATH");
    }

    #[test]
    fn a_peer_is_found_by_name_address_and_id() {
        let overview = overview();
        let id = overview.peers[0].id;
        for text in ["home", "home.peerup", "10.64.0.2", &id.to_string()] {
            assert_eq!(find(&overview, text).unwrap().id, id, "{text}");
        }
        assert!(find(&overview, "elsewhere").is_none());
        let block = block(&overview, &overview.peers[0], Timestamp::from_unix(200_000)).join("\n");
        insta::assert_snapshot!(block, @r"
        peer:       home
        id:         12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx
        addresses:  10.64.0.2
        path:       direct v6
        endpoint:   /ip6/2001:db8::2/udp/41000/quic-v1
        carrier:    quic-stream
        since:      1970-01-03T04:46:40Z (2h ago)
        round trip: 12.4ms
        loss:       0%
        received:   1.2G
        sent:       88M
        last seen:  1970-01-03T07:33:20Z (now)
        ");
    }

    fn overview() -> Overview {
        let relay = id("12D3KooWCkdsAv5fQcRVGTEFGfqyhUm1jD7XzF7a8BqVZJxBGZ8k");
        let mut home = peer("home", "10.64.0.2", OverviewClass::Direct);
        home.rx_bytes = 1_288_490_189;
        home.tx_bytes = 92_274_688;
        let mut pi = peer("pi", "10.64.0.9", OverviewClass::Relay);
        pi.path = pi.path.map(|path| PathOverview { relay: Some(relay), ..path });
        pi.reason = Some("symmetric NAT both sides".into());
        pi.loss = 0.004;
        let mut phone = peer("phone", "10.64.0.12", OverviewClass::Direct);
        phone.path = None;
        phone.last_seen = Some(Timestamp::from_unix(20_000));
        Overview {
            schema: 1,
            this: SelfOverview {
                id: relay,
                name: Some("laptop".into()),
                ips: vec!["10.64.0.1".parse().unwrap()],
                version: "0.1.0".into(),
                uptime_s: 11_520,
                reachability: Reachability::Private,
            },
            peers: vec![home, phone, pi],
            relays: vec![RelayOverview {
                id: relay,
                name: Some("vps1".into()),
                addr: None,
                state: RelayState::Reserved,
                rtt_ms: Some(18.0),
                reason: None,
            }],
            relaying: RelayingOverview {
                active: true,
                reservations: 2,
                max_reservations: 128,
                circuits: 1,
                max_circuits: 128,
                bytes: 123_000_000,
                max_bytes_per_s: Some(16 << 20),
                ..RelayingOverview::default()
            },
            health: vec![HealthItem {
                code: "udp-blocked-here".into(),
                severity: Severity::Warning,
                text: "this network drops UDP; using TCP".into(),
                fix: None,
            }],
            proxies: vec![],
        }
    }

    fn peer(name: &str, ip: &str, class: OverviewClass) -> PeerOverview {
        PeerOverview {
            id: id("12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx"),
            name: Some(name.into()),
            ips: vec![ip.parse().unwrap()],
            path: Some(PathOverview {
                class,
                family: Some(Family::Ipv6),
                carrier: Some(CarrierKind::QuicStream),
                addr: Some("/ip6/2001:db8::2/udp/41000/quic-v1".into()),
                relay: None,
                since: Some(Timestamp::from_unix(190_000)),
            }),
            rtt_ms: Some(12.4),
            loss: 0.0,
            rx_bytes: 0,
            tx_bytes: 0,
            last_seen: Some(Timestamp::from_unix(200_000)),
            reason: None,
        }
    }

    fn status() -> StatusReport {
        StatusReport {
            peer_id: id("12D3KooWCkdsAv5fQcRVGTEFGfqyhUm1jD7XzF7a8BqVZJxBGZ8k"),
            version: "0.1.0".into(),
            uptime_seconds: 11_520,
            connected_peers: 2,
            listen_addresses: vec![],
            relay_addresses: vec![],
            services_count: 0,
            has_global_ipv6: true,
            has_global_ipv4: false,
            nat_type: None,
            stun_external_addrs: vec![],
            is_relaying: false,
            reachability: ReachabilityGrade {
                grade: "B".into(),
                label: "Good".into(),
                description: "IPv6".into(),
            },
            network: Some("home-net".into()),
            interface: Some("peerup0".into()),
            range: Some("10.64.0.0/16".into()),
            mtu: Some(1280),
        }
    }

    fn id(text: &str) -> PeerId {
        text.parse().unwrap()
    }
}
