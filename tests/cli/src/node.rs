//! A node that answers from a script.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

use peerup_control::api::{ConnectReport, ConnectRequest, ExposeRequest, ProxyRow, ServiceRow};
use peerup_control::api::{FamilyCheck, NetcheckReport, PortMappingCheck, PortMappingState};
use peerup_control::api::{JournalReport, WhyCandidate, WhyPath, WhyPunch, WhyReport, WhySwitch};
use peerup_control::{
    Answer, ApiError, EVENT_BOUND, ErrorKind, INVITE_EVENT_BOUND, Runtime,
    api::{
        AuthAdd, AuthEdit, AuthRow, ConfigReport, DownReport, Event, HealthItem, InviteEvent, InviteRequest,
        JoinReport, JoinRequest, Overview, OverviewClass, PathOverview, PathRow, PeerOverview, PeerRow,
        PingReply, PingReport, PingRequest, PingStats, Reachability, ReachabilityGrade, ResolveReport,
        ResolveRequest, ResolveSource, SCHEMA, SelfOverview, StatusReport, Timestamp, TraceHop, TraceReport,
        TraceRequest, UpReport,
    },
};
use peerup_types::{CarrierKind, Family, PathClass, PathKind, PeerId};
use tokio::sync::mpsc;

pub struct Node {
    pub answers_pings: bool,
    /// Answers that are relayed before the first direct one.
    pub relayed_pings: AtomicU32,
    /// Peers besides `home`.
    pub more_peers: usize,
    pub health: Vec<HealthItem>,
    pub invite: Vec<InviteEvent>,
    pub events: Vec<Event>,
    pub calls: Mutex<Vec<String>>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            answers_pings: true,
            relayed_pings: AtomicU32::new(0),
            more_peers: 0,
            health: vec![],
            invite: vec![],
            events: vec![],
            calls: Mutex::default(),
        }
    }
}

pub fn peer_id() -> PeerId {
    "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap()
}

/// A peer on a relay, because both NATs map per destination.
pub fn why() -> WhyReport {
    let at = Timestamp::from_unix(1_700_000_000);
    let mapping = "address-and-port-dependent";
    WhyReport {
        peer_id: peer_id(),
        name: Some("home".into()),
        at,
        reason: Some("first path to the peer".into()),
        blocking_reason: Some("symmetric-both".into()),
        blocking_text: Some("symmetric NAT on both sides".into()),
        would_change: Some("a port mapping or IPv6 on either side; tried again every 10 minutes".into()),
        paths: vec![WhyPath {
            id: 4,
            class: OverviewClass::Relay,
            family: Family::Ipv4,
            carrier: CarrierKind::RelayStream,
            addr: "/ip4/203.0.113.9/tcp/7777".into(),
            relay: Some(own_id()),
            since: Timestamp::from_unix(1_699_999_940),
            chosen: true,
            rtt_ms: Some(61.2),
            jitter_ms: Some(1.4),
            loss_10s: Some(0.0),
            loss_15m: 0.004,
            rule: "chosen".into(),
            text: "first path to the peer".into(),
            would_change: None,
        }],
        candidates: vec![WhyCandidate {
            addr: "/ip4/198.51.100.7/udp/4001/quic-v1".into(),
            tried: Some(Timestamp::from_unix(1_699_999_950)),
            outcome: "no answer".into(),
        }],
        punch: WhyPunch {
            attempts: 1,
            last: Some(Timestamp::from_unix(1_699_999_950)),
            next_in_s: Some(550),
            own_mapping: mapping.into(),
            their_mapping: mapping.into(),
        },
        history: vec![WhySwitch {
            at: Timestamp::from_unix(1_699_999_940),
            from: None,
            to: Some("relay ipv4 relay-stream".into()),
            reason: "first path to the peer".into(),
        }],
        switches_last_minute: 0,
    }
}

pub fn own_id() -> PeerId {
    "12D3KooWCkdsAv5fQcRVGTEFGfqyhUm1jD7XzF7a8BqVZJxBGZ8k".parse().unwrap()
}

pub fn path() -> PathOverview {
    let kind = PathKind { class: PathClass::Direct, family: Family::Ipv6, carrier: CarrierKind::QuicStream };
    PathOverview::live(
        kind,
        "/ip6/2001:db8::2/udp/41000/quic-v1".into(),
        None,
        Timestamp::from_unix(1_700_000_000),
    )
}

fn home() -> PeerOverview {
    PeerOverview {
        id: peer_id(),
        name: Some("home".into()),
        ips: vec!["10.64.0.2".parse().unwrap()],
        path: Some(path()),
        rtt_ms: Some(12.5),
        loss: 0.0,
        rx_bytes: 1024,
        tx_bytes: 2048,
        last_seen: None,
        reason: None,
    }
}

impl Node {
    fn ping_path(&self) -> PathOverview {
        let relayed = |left: u32| left.checked_sub(1);
        match self.relayed_pings.fetch_update(Ordering::SeqCst, Ordering::SeqCst, relayed) {
            Ok(_) => PathOverview { class: OverviewClass::Relay, relay: Some(own_id()), ..path() },
            Err(_) => path(),
        }
    }

    fn note(&self, call: String) -> Answer<'_, ()> {
        self.calls.lock().unwrap().push(call);
        Box::pin(async { Ok(()) })
    }
}

impl Runtime for Node {
    fn overview(&self) -> Answer<'_, Overview> {
        let this = SelfOverview {
            id: own_id(),
            name: Some("laptop".into()),
            ips: vec!["10.64.0.1".parse().unwrap()],
            version: "0.1.0".into(),
            uptime_s: 60,
            reachability: Reachability::Private,
        };
        let health = self.health.clone();
        let mut peers = vec![home()];
        peers.extend((0..self.more_peers).map(|number| PeerOverview {
            id: PeerId::random(),
            name: Some(format!("peer-{number}")),
            ..home()
        }));
        Box::pin(async {
            let (relays, relaying) = (vec![], Default::default());
            Ok(Overview { schema: SCHEMA, this, peers, relays, relaying, health, proxies: vec![] })
        })
    }

    fn status(&self) -> Answer<'_, StatusReport> {
        let reachability =
            ReachabilityGrade { grade: "C".into(), label: "NAT".into(), description: "-".into() };
        Box::pin(async {
            Ok(StatusReport {
                peer_id: own_id(),
                version: "0.1.0".into(),
                uptime_seconds: 60,
                connected_peers: 1,
                listen_addresses: vec![],
                relay_addresses: vec![],
                services_count: 0,
                has_global_ipv6: true,
                has_global_ipv4: false,
                nat_type: None,
                stun_external_addrs: vec![],
                is_relaying: false,
                reachability,
                network: None,
                interface: Some("peerup0".into()),
                range: Some("10.64.0.0/16".into()),
                mtu: Some(1380),
            })
        })
    }

    fn peers(&self, all: bool) -> Answer<'_, Vec<PeerRow>> {
        let row = |id, agent: &str| PeerRow {
            id,
            addresses: vec!["/ip6/2001:db8::2/udp/41000/quic-v1".into()],
            agent_version: Some(agent.into()),
        };
        let mut rows = vec![row(peer_id(), "peerup/0.1.0")];
        rows.extend(all.then(|| row(own_id(), "kubo/0.30")));
        Box::pin(async { Ok(rows) })
    }

    fn why(&self, _: String) -> Answer<'_, WhyReport> {
        Box::pin(async { Ok(why()) })
    }

    fn journal(&self, _: String) -> Answer<'_, JournalReport> {
        Box::pin(async { Ok(JournalReport { peer_id: peer_id(), journal: "{}\n".into() }) })
    }

    fn paths(&self) -> Answer<'_, Vec<PathRow>> {
        let row = PathRow {
            peer_id: peer_id(),
            path_type: "DIRECT".into(),
            address: "/ip6/2001:db8::2/udp/41000/quic-v1".into(),
            connected_at: Timestamp::from_unix(1_700_000_000),
            transport: "quic".into(),
            ip_version: "ipv6".into(),
            last_rtt_ms: Some(12.5),
        };
        Box::pin(async { Ok(vec![row]) })
    }

    fn resolve(&self, request: ResolveRequest) -> Answer<'_, ResolveReport> {
        let name = request.name;
        let known = ["home", "10.64.0.2"].contains(&name.as_str()) || name == peer_id().to_string();
        if !known {
            return Box::pin(async { Err(ApiError::new(ErrorKind::NotFound, "no such peer")) });
        }
        let source = if name == "home" { ResolveSource::LocalConfig } else { ResolveSource::Address };
        let ips = vec!["10.64.0.2".parse().unwrap()];
        let known_as = Some("home".into());
        Box::pin(async move { Ok(ResolveReport { name, peer_id: peer_id(), source, known_as, ips }) })
    }

    fn netcheck(&self) -> Answer<'_, NetcheckReport> {
        let family = || FamilyCheck {
            global: None,
            external: None,
            translated: None,
            keeps_port: None,
            mapping: "unknown".into(),
        };
        let port_mapping = PortMappingCheck {
            state: PortMappingState::Off,
            protocol: None,
            udp: None,
            tcp: None,
            lease_s: None,
            reason: None,
        };
        let report = NetcheckReport {
            schema: 1,
            daemon: true,
            udp: Some(true),
            ipv4: family(),
            ipv6: family(),
            filtering: "unknown".into(),
            cgnat: None,
            port_mapping,
            relays: vec![],
            interfaces: vec![],
            reachability: Reachability::Private,
            grade: ReachabilityGrade { grade: "C".into(), label: "Fair".into(), description: "-".into() },
            health: vec![],
        };
        Box::pin(async { Ok(report) })
    }

    fn trace(&self, request: TraceRequest) -> Answer<'_, TraceReport> {
        let hop = |hop, peer_id, name: &str, address: &str, rtt_ms| TraceHop {
            hop,
            peer_id,
            name: Some(name.into()),
            address: Some(address.into()),
            rtt_ms: Some(rtt_ms),
            error: None,
        };
        let hops = vec![
            hop(1, own_id(), "relay-server/0.1.0", "/ip4/203.0.113.50/tcp/7777", 12.5),
            hop(2, peer_id(), "home", "10.64.0.2", 30.25),
        ];
        let (target, path) = (request.peer, "RELAYED".into());
        Box::pin(async move { Ok(TraceReport { target, target_id: peer_id(), path, hops }) })
    }

    /// Tells what the script says and ends.
    fn events(&self) -> Answer<'_, mpsc::Receiver<Event>> {
        let (sender, receiver) = mpsc::channel(EVENT_BOUND);
        for event in self.events.clone() {
            sender.try_send(event).unwrap();
        }
        Box::pin(async { Ok(receiver) })
    }

    fn config(&self) -> Answer<'_, ConfigReport> {
        let config = serde_json::json!({"version": 1});
        Box::pin(async { Ok(ConfigReport { file: "/etc/peerup/config.yaml".into(), problem: None, config }) })
    }

    fn ping(&self, request: PingRequest) -> Answer<'_, PingReport> {
        let reply = |seq| match self.answers_pings {
            true => PingReply::answered(seq, peer_id(), 12.5, self.ping_path()),
            false => PingReply::lost(seq, peer_id(), "timed out"),
        };
        let results: Vec<_> = (1..=request.count).map(reply).collect();
        let stats = PingStats::of(&results);
        let (name, address) = (Some("home".into()), "10.64.0.2".parse().ok());
        Box::pin(async move { Ok(PingReport { peer_id: peer_id(), name, address, results, stats }) })
    }

    fn invite(&self, _request: InviteRequest) -> Answer<'_, mpsc::Receiver<InviteEvent>> {
        let (sender, receiver) = mpsc::channel(INVITE_EVENT_BOUND);
        for event in self.invite.clone() {
            sender.try_send(event).unwrap();
        }
        Box::pin(async { Ok(receiver) })
    }

    fn join(&self, _request: JoinRequest) -> Answer<'_, JoinReport> {
        let report = JoinReport {
            inviter: peer_id(),
            inviter_name: Some("home".into()),
            address: "10.64.0.1".parse().ok(),
            inviter_address: "10.64.0.2".parse().ok(),
            relay_authorised: true,
            group: None,
        };
        Box::pin(async { Ok(report) })
    }

    fn services(&self) -> Answer<'_, Vec<ServiceRow>> {
        let row = ServiceRow {
            name: "ssh".into(),
            protocol: "/peerup/ssh/1.0.0".into(),
            local_address: "localhost:22".into(),
            enabled: true,
            allowed_peers: None,
            exposed: false,
        };
        Box::pin(async { Ok(vec![row]) })
    }

    fn expose(&self, request: ExposeRequest) -> Answer<'_, ()> {
        self.note(format!("expose {}", request.name))
    }

    fn unexpose(&self, name: String) -> Answer<'_, ()> {
        self.note(format!("unexpose {name}"))
    }

    fn proxies(&self) -> Answer<'_, Vec<ProxyRow>> {
        let row = ProxyRow {
            id: "proxy-1".into(),
            peer_id: peer_id(),
            peer: "home".into(),
            service: "ssh".into(),
            listen_address: "127.0.0.1:2222".into(),
            sessions: 1,
            accepted: 2,
            failed: 0,
            tx_bytes: 4096,
            rx_bytes: 65_536,
            last_error: None,
        };
        Box::pin(async { Ok(vec![row]) })
    }

    fn connect(&self, request: ConnectRequest) -> Answer<'_, ConnectReport> {
        let report = ConnectReport { id: "proxy-1".into(), listen_address: request.listen };
        Box::pin(async { Ok(report) })
    }

    fn disconnect(&self, id: String) -> Answer<'_, ()> {
        self.note(format!("disconnect {id}"))
    }

    fn auth_list(&self) -> Answer<'_, Vec<AuthRow>> {
        let row = AuthRow {
            peer_id: peer_id(),
            comment: Some("home".into()),
            verified: None,
            expires_at: None,
            group: None,
        };
        Box::pin(async { Ok(vec![row]) })
    }

    fn auth_add(&self, request: AuthAdd) -> Answer<'_, ()> {
        let options: String = request.options.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        self.note(format!("add {} {}{options}", request.peer_id, request.comment.unwrap_or_default()))
    }

    fn auth_edit(&self, peer: PeerId, edit: AuthEdit) -> Answer<'_, ()> {
        let options: Vec<String> = edit
            .options
            .iter()
            .map(|(key, value)| format!("{key}={}", value.as_deref().unwrap_or("-")))
            .collect();
        self.note(format!("edit {peer} {}", options.join(" ")))
    }

    fn auth_remove(&self, peer: PeerId) -> Answer<'_, ()> {
        self.note(format!("remove {peer}"))
    }

    fn reload(&self) -> Answer<'_, ()> {
        self.note("reload".into())
    }

    fn up(&self) -> Answer<'_, UpReport> {
        let addresses = vec!["10.64.0.1".parse().unwrap()];
        let interface = "peerup0".into();
        Box::pin(async {
            Ok(UpReport { interface, addresses, name: None, peers: vec!["home".into()], already_up: true })
        })
    }

    fn down(&self) -> Answer<'_, DownReport> {
        Box::pin(async { Ok(DownReport { interface: Some("peerup0".into()), daemon_exits: false }) })
    }

    fn shutdown(&self) -> Answer<'_, ()> {
        self.note("shutdown".into())
    }
}
