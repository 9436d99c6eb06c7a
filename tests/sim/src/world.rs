//! Virtual time, the queue of what happens next, and what a story does to the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use peerup_types::Keypair;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    connection::{ConnId, Connection},
    data::Packets,
    dial::{Dial, DialId},
    host::{Host, Process},
    nat::{Nat, NatConfig},
    net::Site,
    relay,
};

/// Any day will do; claims are dated by it.
const UNIX_START: u64 = 1_800_000_000;
/// More events than this at one instant mean that something spins.
const MAX_AT_ONCE: u32 = 20_000;

/// Between two looks at a condition that is waited for.
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(pub usize);

/// Something that will happen to the world.
pub type Happening = Box<dyn FnOnce(&mut World)>;

pub struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) sites: Vec<Site>,
    pub(crate) connections: BTreeMap<ConnId, Connection>,
    pub(crate) dials: BTreeMap<DialId, Dial>,
    pub(crate) packets: Packets,
    pub(crate) next_id: u64,
    start: Instant,
    seed: u64,
    rng: SmallRng,
    queue: BTreeMap<(Instant, u64), Happening>,
    at_once: u32,
    cuts: BTreeSet<(HostId, HostId)>,
    /// When the story last changed something.
    disturbed: Instant,
    log: Vec<String>,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "virtual time needs some first instant")]
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            hosts: Vec::new(),
            sites: Vec::new(),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            packets: Packets::default(),
            next_id: 0,
            start: now,
            seed,
            rng: SmallRng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            at_once: 0,
            cuts: BTreeSet::new(),
            disturbed: now,
            log: Vec::new(),
        }
    }

    // Building

    /// A data centre: public addresses, no translation.
    pub fn public_site(&mut self) -> SiteId {
        self.add_site(None)
    }

    pub fn nat_site(&mut self, config: NatConfig) -> SiteId {
        let public = Ipv4Addr::new(198, 51, 100, u8::try_from(self.sites.len() + 1).expect("few sites"));
        self.add_site(Some(Nat::new(public, config)))
    }

    fn add_site(&mut self, nat: Option<Nat>) -> SiteId {
        let delay = Duration::from_millis(self.random(5..30));
        self.sites.push(Site { nat, delay, loss: 0.0, online: true, udp: true, tcp: true });
        SiteId(self.sites.len() - 1)
    }

    /// Share of datagrams that the site's line loses.
    pub fn set_loss(&mut self, site: SiteId, loss: f64) {
        self.sites[site.0].loss = loss;
    }

    pub fn relay(&mut self) -> HostId {
        let site = self.public_site();
        let relay = self.add_host("relay", site);
        let (peer, addresses) = (self.hosts[relay.0].peer, self.hosts[relay.0].listen_addresses());
        for host in &mut self.hosts {
            host.relays.insert(peer, addresses.clone());
        }
        self.hosts[relay.0].serves = true;
        self.hosts[relay.0].process = Process::Relay(relay::Relay::default());
        relay
    }

    /// A host with a node that is not started yet. It uses every relay made so far.
    pub fn node(&mut self, name: &str, site: SiteId) -> HostId {
        let host = self.add_host(name, site);
        let relays: Vec<_> = self.hosts.iter().filter(|host| host.serves).collect();
        let relays = relays.into_iter().map(|relay| (relay.peer, relay.listen_addresses())).collect();
        self.hosts[host.0].relays = relays;
        host
    }

    fn add_host(&mut self, name: &str, site: SiteId) -> HostId {
        let id = HostId(self.hosts.len());
        let secret: [u8; 32] = std::array::from_fn(|_| self.rng.random());
        let keypair = Keypair::ed25519_from_bytes(secret).expect("any 32 bytes are an Ed25519 secret");
        let v4 = self.address_in(site, id);
        self.hosts.push(Host::new(name, keypair, site, v4));
        id
    }

    fn address_in(&self, site: SiteId, host: HostId) -> Ipv4Addr {
        let number = u8::try_from(host.0 + 2).expect("few hosts");
        let network = u8::try_from(site.0).expect("few sites");
        match self.sites[site.0].nat {
            Some(_) => Ipv4Addr::new(192, 168, network, number),
            None => Ipv4Addr::new(203, 0, 113, number),
        }
    }

    /// Gives a host an IPv6 address that everybody with one can send to.
    pub fn add_ipv6(&mut self, host: HostId) {
        let segment = u16::try_from(host.0 + 1).expect("few hosts");
        self.hosts[host.0].v6 = Some(Ipv6Addr::new(0x2001, 0xdb8, segment, 0, 0, 0, 0, 1));
    }

    /// Everybody is in everybody's `authorized_keys`.
    pub fn befriend(&mut self, hosts: &[HostId]) {
        for host in hosts {
            let others = hosts.iter().filter(|other| *other != host).map(|other| self.hosts[other.0].peer);
            self.hosts[host.0].members = others.collect();
        }
    }

    // Happening

    pub fn now(&self) -> Duration {
        self.now - self.start
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Runs until `condition` holds and says how long that took; fails the test after `limit`.
    pub fn until(&mut self, what: &str, limit: Duration, condition: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        while !condition(self) {
            assert!(self.now < begin + limit, "not within {limit:?}: {what}");
            self.run(GLANCE);
        }
        self.now - begin
    }

    fn step(&mut self) {
        let Some(((at, _), event)) = self.queue.pop_first() else { return };
        self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
        assert!(self.at_once < MAX_AT_ONCE, "spins");
        self.now = at;
        event(self);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: impl FnOnce(&mut Self) + 'static) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Instant, event: impl FnOnce(&mut Self) + 'static) {
        self.next_id += 1;
        self.queue.insert((at, self.next_id), Box::new(event));
    }

    /// In its own turn, and not before the host is awake.
    pub(crate) fn when_awake(&mut self, host: HostId, event: impl FnOnce(&mut Self) + 'static) {
        match self.hosts[host.0].asleep {
            Some(_) => self.hosts[host.0].deferred.push(Box::new(event)),
            None => self.after(Duration::ZERO, event),
        }
    }

    pub(crate) fn unix(&self) -> u64 {
        UNIX_START + self.now().as_secs()
    }

    pub fn random(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share.clamp(0.0, 1.0))
    }

    pub(crate) fn note(&mut self, host: HostId, what: impl Display) {
        let (at, name) = (self.now().as_secs_f64(), &self.hosts[host.0].name);
        self.log.push(format!("{at:10.3} {name}: {what}"));
    }

    pub fn log(&self) -> &[String] {
        &self.log
    }

    // Disturbing

    /// Nothing passes between two hosts any more; nobody is told.
    pub fn cut(&mut self, a: HostId, b: HostId) {
        self.disturb(a, format_args!("cut off from {}", self.hosts[b.0].name.clone()));
        self.cuts.insert((a.min(b), a.max(b)));
    }

    pub fn heal(&mut self, a: HostId, b: HostId) {
        self.disturb(a, format_args!("link to {} is back", self.hosts[b.0].name.clone()));
        self.cuts.remove(&(a.min(b), a.max(b)));
    }

    pub(crate) fn is_cut(&self, a: HostId, b: HostId) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    /// The site's firewall swallows UDP, or lets it through again.
    pub fn set_udp(&mut self, site: SiteId, passes: bool) {
        self.disturbed = self.now;
        self.log.push(format!("{:10.3} UDP passes: {passes}", self.now().as_secs_f64()));
        self.sites[site.0].udp = passes;
    }

    /// The site's firewall swallows TCP except for relays, or lets it through again.
    pub fn set_tcp(&mut self, site: SiteId, passes: bool) {
        self.disturbed = self.now;
        self.log.push(format!("{:10.3} TCP passes: {passes}", self.now().as_secs_f64()));
        self.sites[site.0].tcp = passes;
    }

    /// The router forgets all mappings, as after a power cut.
    pub fn reboot_router(&mut self, site: SiteId) {
        self.disturbed = self.now;
        self.log.push(format!("{:10.3} a router restarts", self.now().as_secs_f64()));
        if let Some(nat) = &mut self.sites[site.0].nat {
            nat.reboot();
        }
    }

    /// The router gets another configuration: a firewall opens, or somebody changes the settings.
    pub fn reconfigure_router(&mut self, site: SiteId, config: NatConfig) {
        self.disturbed = self.now;
        self.log.push(format!("{:10.3} a router is reconfigured", self.now().as_secs_f64()));
        if let Some(nat) = &mut self.sites[site.0].nat {
            nat.reconfigure(config);
        }
    }

    /// The host leaves its network and joins another one.
    pub fn roam(&mut self, host: HostId, site: SiteId) {
        self.disturb(host, "roams");
        let old = self.hosts[host.0].listen_addresses();
        let v4 = self.address_in(site, host);
        self.hosts[host.0].site = site;
        self.hosts[host.0].v4 = v4;
        self.readdressed(host, old);
    }

    pub fn suspend(&mut self, host: HostId) {
        if self.hosts[host.0].asleep.is_some() {
            return;
        }
        self.disturb(host, "sleeps");
        self.hosts[host.0].asleep = Some(self.now);
    }

    pub fn resume(&mut self, host: HostId) {
        self.disturb(host, "wakes up");
        let Some(since) = self.hosts[host.0].asleep.take() else { return };
        self.hosts[host.0].slept += self.now - since;
        // The daemon looks at its clocks once a second.
        let notice = Duration::from_millis(self.random(1..1000));
        for event in std::mem::take(&mut self.hosts[host.0].deferred) {
            self.after(Duration::ZERO, event);
        }
        self.set_timer(host);
        self.after(notice, move |world| {
            let now = world.now;
            world.hosts[host.0].tally.fresh_starts.push(now);
            world.tell(host, |node, now, _| node.handle_wake(now));
        });
    }

    pub(crate) fn disturb(&mut self, host: HostId, what: impl Display) {
        self.disturbed = self.now;
        self.note(host, what);
    }

    /// How long ago the story last changed something.
    pub fn calm(&self) -> Duration {
        self.now - self.disturbed
    }
}

/// A failing story tells what happened.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}\n{}", self.seed, self.log.join("\n"));
        }
    }
}
