//! [`PeerPaths`]: the paths to one peer.

mod circuits;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use peerup_types::{Multiaddr, PathClass, PathId, PathKind, PeerId};
use rand::{SeedableRng, rngs::SmallRng};

use crate::{
    action::{Action, Event, Opened, Reason, Role},
    candidate::{Group, MAX_CANDIDATES, dialable, group},
    liveness::{Liveness, Verdict},
    schedule::Backoff,
};

/// First and longest wait between attempts to reach a peer that is not there.
const REACH_FIRST: Duration = Duration::from_secs(1);
const REACH_CAP: Duration = Duration::from_secs(60);
/// A packet for an absent peer starts an attempt at once, but not more often than this.
const WANTED_SPACING: Duration = Duration::from_secs(1);
/// A punch costs both sides a few packets. The first follows the relayed path at once; NAT state and radio
/// conditions change, so attempts never end.
const PUNCH_FIRST: Duration = Duration::from_secs(2);
const PUNCH_CAP: Duration = Duration::from_secs(60);
/// A punch that somebody else started a moment ago is given this time before another one.
const PUNCH_SPACING: Duration = Duration::from_secs(5);
/// The side with the larger peer ID starts its scheduled attempts this much later, so that the other goes first.
const POLITENESS: Duration = Duration::from_millis(700);
/// Without packets for this long a peer is idle: no probes. Long enough for a keystroke's pause.
const IDLE_AFTER: Duration = Duration::from_secs(45);
/// Hello exchange on a fresh path; a path that takes longer is not usable.
const READY_DEADLINE: Duration = Duration::from_secs(6);
/// Twins are left alone until both sides have had time to see both.
const TWIN_GRACE: Duration = Duration::from_secs(3);
/// A suspect path that stays silent for this long is closed; QUIC gives up after the same time.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// From the announcement that a path goes away to its closing: several round trips of any usable path.
const RETIRE_FOR: Duration = Duration::from_secs(2);
/// A path that comes and goes does not take the packets with it: in a minute there are at most this many switches
/// between kinds of path, and the last one is kept for leaving a path that died.
const MAX_SWITCHES: usize = 4;
const SWITCH_WINDOW: Duration = Duration::from_secs(60);
/// Paths of one peer: both transports and families, twins, and circuits through a few relays.
const MAX_PATHS: usize = 16;

#[derive(Debug)]
struct Path {
    opened: Opened,
    since: Instant,
    ready: bool,
    /// Either side announced that it goes away; it takes no new packets.
    retiring: Option<Instant>,
    suspicion: Option<Suspicion>,
    /// How often this path has been suspect: each time it has to prove itself for longer.
    strikes: u32,
    live: Liveness,
}

/// A path that stopped answering. It stays open for a while: a busy host or a bad moment on the radio is not the end
/// of a path, and answers make it good again.
#[derive(Debug, Clone, Copy)]
struct Suspicion {
    since: Instant,
    answers: u32,
}

impl Path {
    fn is_usable(&self) -> bool {
        self.ready && self.retiring.is_none()
    }

    fn is_good(&self) -> bool {
        self.is_usable() && self.suspicion.is_none()
    }

    /// Better paths compare smaller.
    fn rank(&self) -> (bool, PathKind, PathId) {
        (self.suspicion.is_some(), self.opened.kind, self.opened.path)
    }

    /// Only a timely answer speaks for a suspect path: the others come from a stream that was held up.
    fn count_answer(&mut self, timely: bool) {
        let needed = self.answers_needed();
        self.suspicion = self
            .suspicion
            .map(|suspicion| Suspicion { answers: suspicion.answers + u32::from(timely), ..suspicion });
        self.suspicion.take_if(|suspicion| suspicion.answers >= needed);
    }

    /// Answers that lift a suspicion: two, doubled with each strike, so that a path that comes and goes is not
    /// switched to and fro.
    fn answers_needed(&self) -> u32 {
        1 << self.strikes.clamp(1, 5)
    }

    fn is_direct(&self) -> bool {
        self.opened.kind.class == PathClass::Direct
    }
}

pub struct PeerPaths {
    peer: PeerId,
    /// Whether our peer ID is the smaller one: it goes first and its connections win among twins.
    first: bool,
    paths: BTreeMap<PathId, Path>,
    active: Option<PathId>,
    active_since: Option<Instant>,
    reason: Option<Reason>,
    /// When the latest switches between kinds of path were.
    switches: VecDeque<Instant>,
    /// A better path waits until then, because there were so many switches.
    held_until: Option<Instant>,
    /// Circuit addresses of the peer, one per relay with a reservation of ours.
    circuits: Vec<Multiaddr>,
    /// Direct addresses that worked or were offered, newest last.
    direct: VecDeque<Multiaddr>,
    reach: Backoff,
    last_reach: Option<Instant>,
    /// Until when the attempt under way may succeed.
    connecting_until: Option<Instant>,
    punch: Backoff,
    last_punch: Option<Instant>,
    /// Numbers our punch requests.
    attempt: u32,
    /// The request whose answer is awaited; the first answer counts.
    awaited: Option<u32>,
    last_answered: Option<Instant>,
    /// The dials of an answered punch request, due when our answer has reached the peer.
    dial_at: Option<(Instant, Vec<Multiaddr>)>,
    /// When the peer falls idle; `None` while it is.
    idle_at: Option<Instant>,
    rng: SmallRng,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl PeerPaths {
    /// A peer that is not connected; the first attempt to reach it is due at `now`.
    pub fn new(own: PeerId, peer: PeerId, seed: u64, now: Instant) -> Self {
        let mut reach = Backoff::new(REACH_FIRST, REACH_CAP);
        reach.hasten(now);
        Self {
            peer,
            first: own.to_bytes() < peer.to_bytes(),
            paths: BTreeMap::new(),
            active: None,
            active_since: None,
            reason: None,
            switches: VecDeque::new(),
            held_until: None,
            circuits: Vec::new(),
            direct: VecDeque::new(),
            reach,
            last_reach: None,
            connecting_until: None,
            punch: Backoff::new(PUNCH_FIRST, PUNCH_CAP),
            last_punch: None,
            attempt: 0,
            awaited: None,
            last_answered: None,
            dial_at: None,
            idle_at: None,
            rng: SmallRng::seed_from_u64(seed),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The path that packets take, with its measured round trip and the time since when.
    pub fn active(&self) -> Option<(&Opened, Option<Duration>, Instant)> {
        let path = self.paths.get(&self.active?)?;
        Some((&path.opened, path.live.rtt(), self.active_since?))
    }

    /// Share of unanswered probes on the active path, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.active.and_then(|path| self.paths.get(&path)).map_or(0.0, |path| path.live.loss())
    }

    /// Every ready path, best first.
    pub fn ready(&self) -> Vec<(&Opened, Option<Duration>)> {
        let mut ready: Vec<_> = self.paths.values().filter(|path| path.is_usable()).collect();
        ready.sort_by_key(|path| path.rank());
        ready.into_iter().map(|path| (&path.opened, path.live.rtt())).collect()
    }

    /// Why packets take the path they take (or why there is none any more).
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Whether an attempt to reach the peer is under way or about to start.
    pub fn is_connecting(&self) -> bool {
        let untried = self.last_reach.is_none() && self.reach.due().is_some();
        self.active.is_none() && (untried || !self.paths.is_empty() || self.connecting_until.is_some())
    }

    pub fn handle_opened(&mut self, opened: Opened, now: Instant) {
        if self.paths.contains_key(&opened.path) {
            return;
        }
        if self.paths.len() >= MAX_PATHS {
            self.actions.push_back(Action::Close { path: opened.path });
            return;
        }
        self.actions.push_back(Action::OpenStream { path: opened.path });
        self.paths.insert(
            opened.path,
            Path {
                opened,
                since: now,
                ready: false,
                retiring: None,
                suspicion: None,
                strikes: 0,
                live: Liveness::new(now),
            },
        );
    }

    /// The peer acknowledged our hello on this path.
    pub fn handle_ready(&mut self, path: PathId, now: Instant) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        found.ready = true;
        found.live.rest(now);
        let (direct, remote, outbound) =
            (found.is_direct(), found.opened.remote.clone(), found.opened.outbound);
        if direct && outbound {
            self.remember(remote);
        }
        self.reach.rest();
        // A fresh path is measured even before the first packet asks for it.
        self.handle_traffic(now);
        self.select(now);
        if !self.has_direct() {
            let wait = if self.first { Duration::ZERO } else { POLITENESS };
            self.punch.hasten(now + wait);
        }
    }

    /// The hello was refused or our stream broke: without a stream a path carries nothing.
    pub fn handle_unusable(&mut self, path: PathId, now: Instant) {
        if self.paths.contains_key(&path) {
            self.actions.push_back(Action::Close { path });
            self.forget(path, Reason::PathClosed, now);
        }
    }

    /// The peer announced that this path goes away: packets leave it before it closes.
    pub fn handle_retired(&mut self, path: PathId, now: Instant) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        found.retiring.get_or_insert(now + RETIRE_FOR * 2);
        self.leave(path, Reason::PathClosed, now);
    }

    /// The peer said that it goes away: nothing of it is usable, and nobody answers for a while.
    pub fn handle_goodbye(&mut self, now: Instant) {
        for path in self.paths.keys().copied().collect::<Vec<_>>() {
            self.handle_unusable(path, now);
        }
        self.reach.rest();
        self.reach.postpone(now + REACH_FIRST * 5);
        self.last_reach = Some(now);
        self.connecting_until = None;
    }

    pub fn handle_closed(&mut self, path: PathId, now: Instant) {
        self.forget(path, Reason::PathClosed, now);
    }

    pub fn handle_answer(&mut self, path: PathId, rtt: Duration, now: Instant) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        let timely = found.live.answered(rtt);
        found.count_answer(timely);
        // It may be what packets on a suspect path are waiting for.
        self.select(now);
    }

    /// Frames arrived on this path since the last call.
    pub fn handle_heard(&mut self, path: PathId) {
        if let Some(path) = self.paths.get_mut(&path) {
            path.live.heard();
        }
    }

    /// Packets went to or came from the peer.
    pub fn handle_traffic(&mut self, now: Instant) {
        if self.idle_at.is_none() {
            for path in self.paths.values_mut() {
                path.live.rest(now);
            }
        }
        self.idle_at = Some(now + IDLE_AFTER);
    }

    /// A packet for the peer found no path.
    pub fn handle_wanted(&mut self, now: Instant) {
        let spaced = self.last_reach.is_none_or(|at| at + WANTED_SPACING <= now);
        if self.active.is_none() && spaced {
            self.reach.hasten(now);
        }
    }

    /// A direct address of the peer became known (multicast DNS, configuration).
    pub fn handle_address(&mut self, address: Multiaddr, now: Instant) {
        if !dialable(&address) || self.direct.contains(&address) {
            return;
        }
        self.remember(address.clone());
        if !self.has_direct() {
            self.last_reach = Some(now);
            self.connecting_until = Some(now + READY_DEADLINE);
            self.dial_direct(vec![address], Role::Dialer);
        }
    }

    /// We have a new address to offer.
    pub fn handle_new_candidate(&mut self, now: Instant) {
        if self.active.is_some() && !self.has_direct() {
            self.punch.hasten(now);
        }
    }

    /// The host's network changed or it woke up: old backoff and old silence mean nothing, and every path has to show
    /// that it still leads anywhere.
    pub fn handle_network_changed(&mut self, now: Instant) {
        for path in self.paths.values_mut() {
            path.live.rest(now);
        }
        self.idle_at = Some(now + IDLE_AFTER);
        if self.active.is_none() {
            self.reach.hasten(now);
        } else if !self.has_direct() {
            self.punch.hasten(now);
        }
    }

    /// The peer asks to punch and offers its addresses: answer, and dial when the answer is there.
    pub fn handle_punch_request(&mut self, path: PathId, attempt: u32, offered: &[Multiaddr], now: Instant) {
        let Some(relayed) = self.paths.get(&path) else { return };
        // Every request makes us dial what the peer names: once in a while is enough for an honest one.
        if self.last_answered.is_some_and(|at| at + PUNCH_SPACING > now) {
            return;
        }
        self.last_answered = Some(now);
        let travel = relayed.live.rtt().unwrap_or_default() / 2;
        self.actions.push_back(Action::ReplyPunch { path, attempt });
        self.punched(now);
        self.dial_at = Some((now + travel, accept(offered)));
    }

    /// The peer's answer to our punch request: dial at once, for the peer dials as this arrives.
    pub fn handle_punch_reply(&mut self, attempt: u32, offered: &[Multiaddr], now: Instant) {
        // An answer that nobody asked for, or that is late, would make us dial on the peer's schedule alone.
        if self.awaited != Some(attempt) || self.last_punch.is_none_or(|at| at + PUNCH_SPACING < now) {
            return;
        }
        self.awaited = None;
        self.dial_direct(accept(offered), Role::Dialer);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.check_paths(now);
        self.close_twins(now);
        if let Some((_, addresses)) = self.dial_at.take_if(|(at, _)| *at <= now) {
            self.dial_direct(addresses, Role::Listener);
        }
        self.connecting_until.take_if(|until| *until <= now);
        if self.reach.is_due(now) {
            match self.is_cut_off() {
                true => self.reach_out(now),
                false => self.reach.rest(),
            }
        }
        if self.punch.is_due(now) {
            self.request_punch(now);
        }
        self.select(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let probed = |path: &&Path| path.is_usable() && (self.idle_at.is_some() || path.suspicion.is_some());
        let probes = self.paths.values().filter(probed).map(|path| path.live.poll_timeout());
        let hellos = self.paths.values().filter(|path| !path.ready).map(|path| path.since + READY_DEADLINE);
        let reach = self.is_cut_off().then(|| self.reach.due()).flatten();
        let dial = self.dial_at.as_ref().map(|(at, _)| *at);
        let twins = self.twins().map(|path| self.paths[&path].since + TWIN_GRACE);
        let retired = self.paths.values().filter_map(|path| path.retiring);
        probes
            .chain(self.idle_at)
            .chain(self.connecting_until)
            .chain(hellos)
            .chain(reach)
            .chain(self.punch.due())
            .chain(dial)
            .chain(twins)
            .chain(retired)
            .chain(self.held_until)
            .min()
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn has_direct(&self) -> bool {
        self.paths.values().any(|path| path.is_good() && path.is_direct())
    }

    /// Whether no path can be relied on.
    pub fn is_cut_off(&self) -> bool {
        !self.paths.values().any(Path::is_good)
    }

    /// Probes what is due, suspects what does not answer, and gives up what stays silent or never became ready.
    fn check_paths(&mut self, now: Instant) {
        let idle = self.idle_at.take_if(|at| *at <= now).is_some() || self.idle_at.is_none();
        let doubted = self.is_active_in_doubt();
        let (mut gone, mut suspects) = (Vec::new(), false);
        for (id, path) in &mut self.paths {
            if !path.ready {
                if path.since + READY_DEADLINE <= now {
                    gone.push(*id);
                }
                continue;
            }
            if path.retiring.is_some() || (idle && path.suspicion.is_none()) {
                continue;
            }
            let often = self.active == Some(*id) || path.suspicion.is_some();
            match path.live.handle_timeout(often, now) {
                Verdict::Alive => {}
                Verdict::ProbeDue => self.actions.push_back(Action::Probe { path: *id }),
                Verdict::Dead => match path.suspicion {
                    Some(suspicion) if suspicion.since + GIVE_UP_AFTER <= now => gone.push(*id),
                    Some(_) => {}
                    None => {
                        path.suspicion = Some(Suspicion { since: now, answers: 0 });
                        path.strikes += 1;
                        suspects = true;
                    }
                },
            }
        }
        for path in gone {
            self.actions.push_back(Action::Close { path });
            self.forget(path, Reason::PathDead, now);
        }
        if self.is_active_in_doubt() && !doubted {
            self.check_standbys(now);
        }
        if suspects {
            self.select(now);
            if self.is_cut_off() {
                self.reach.hasten(now);
            } else if !self.has_direct() {
                self.punch.hasten(now + PUNCH_FIRST);
            }
        }
    }

    fn is_active_in_doubt(&self) -> bool {
        self.active.and_then(|path| self.paths.get(&path)).is_some_and(|path| path.live.is_in_doubt())
    }

    /// The active path may be dying, and what killed it may have killed others: by the time it is given up, it has to
    /// be known which standby paths answer.
    fn check_standbys(&mut self, now: Instant) {
        let active = self.active;
        for (_, path) in self.paths.iter_mut().filter(|(id, path)| path.is_good() && active != Some(**id)) {
            path.live.hurry(now);
        }
    }

    fn forget(&mut self, path: PathId, reason: Reason, now: Instant) {
        let Some(gone) = self.paths.remove(&path) else { return };
        if self.active == Some(path) {
            self.replace(gone.opened.kind, reason, now);
        }
    }

    /// Moves packets away from a path that stays open for a moment.
    fn leave(&mut self, path: PathId, reason: Reason, now: Instant) {
        if self.active == Some(path) {
            let kind = self.paths[&path].opened.kind;
            let same = |other: &&Path| other.is_good() && other.opened.kind == kind;
            // Mostly a twin remains, and to move to it costs nothing.
            match self.paths.values().find(same).map(|twin| twin.opened.path) {
                Some(twin) => self.activate(Some(twin), Some(kind), reason, now),
                None => self.replace(kind, reason, now),
            }
        }
    }

    fn replace(&mut self, from: PathKind, reason: Reason, now: Instant) {
        self.activate(self.best(), Some(from), reason, now);
        match self.active {
            None => self.reach.hasten(now),
            Some(_) if !self.has_direct() => self.punch.hasten(now + PUNCH_FIRST),
            Some(_) => {}
        }
    }

    /// The best path to be on. A doubtful one is not moved to, but not left either.
    fn best(&self) -> Option<PathId> {
        let rank = |path: &&Path| {
            (path.suspicion.is_some(), self.is_doubtful(path), path.opened.kind, path.opened.path)
        };
        self.paths.values().filter(|path| path.is_usable()).min_by_key(rank).map(|path| path.opened.path)
    }

    /// Whether a path that packets could move to may be dead itself. When the active path died, one that has not yet
    /// answered the probe that was sent for this reason is no refuge.
    fn is_doubtful(&self, path: &Path) -> bool {
        let active = self.active.and_then(|active| self.paths.get(&active));
        let fleeing = active.is_some_and(|active| active.suspicion.is_some());
        let silent = path.live.is_in_doubt() || (fleeing && path.live.is_awaited());
        silent && self.active != Some(path.opened.path)
    }

    /// Moves to a better path, or away from one that stopped answering. Among equals the path in use stays: a switch
    /// has to gain something, and to leave one suspect for another gains nothing.
    fn select(&mut self, now: Instant) {
        self.held_until = None;
        let Some(best) = self.best().and_then(|path| self.paths.get(&path)) else { return };
        let (path, kind) = (best.opened.path, best.opened.kind);
        let Some(current) = self.active.and_then(|path| self.paths.get(&path)) else {
            return self.activate(Some(path), None, Reason::FirstPath, now);
        };
        let from = current.opened.kind;
        if current.suspicion.is_some() {
            if best.is_good() && !self.is_doubtful(best) {
                self.activate(Some(path), Some(from), Reason::PathDead, now);
            }
        } else if kind < from {
            self.held_until = self.switches_spent_until(now);
            if self.held_until.is_none() {
                self.activate(Some(path), Some(from), Reason::BetterPath, now);
            }
        }
    }

    /// Until when another switch for the better would be one too many.
    fn switches_spent_until(&self, now: Instant) -> Option<Instant> {
        let oldest = self.switches.iter().rev().nth(MAX_SWITCHES - 2)?;
        Some(*oldest + SWITCH_WINDOW).filter(|until| *until > now)
    }

    fn activate(&mut self, path: Option<PathId>, from: Option<PathKind>, reason: Reason, now: Instant) {
        if let Some(next) = path.and_then(|path| self.paths.get_mut(&path)) {
            // As a standby path it was probed so seldom that its death would be noticed late.
            next.live.hurry(now);
        }
        self.active = path;
        self.active_since = path.map(|_| now);
        self.reason = Some(reason);
        let to = path.and_then(|path| self.paths.get(&path)).map(|path| path.opened.kind);
        if from.is_some() && to.is_some() && from != to {
            if self.switches.len() >= MAX_SWITCHES {
                self.switches.pop_front();
            }
            self.switches.push_back(now);
        }
        self.actions.push_back(Action::Use { peer: self.peer, path });
        self.events.push_back(Event::PathChanged { peer: self.peer, from, to, reason });
        if self.has_direct() {
            self.punch.rest();
        }
    }

    fn reach_out(&mut self, now: Instant) {
        self.last_reach = Some(now);
        self.connecting_until = Some(now + READY_DEADLINE);
        self.reach.attempted(now, &mut self.rng);
        self.dial_circuits(self.circuits.clone());
        self.dial_direct(self.direct.iter().cloned().collect(), Role::Dialer);
    }

    fn request_punch(&mut self, now: Instant) {
        let Some(path) = self.active.filter(|_| !self.has_direct()) else { return self.punch.rest() };
        if let Some(recent) = self.last_punch.filter(|at| *at + PUNCH_SPACING > now) {
            self.punch.postpone(recent + PUNCH_SPACING);
            return;
        }
        self.punched(now);
        self.attempt = self.attempt.wrapping_add(1);
        self.awaited = Some(self.attempt);
        self.actions.push_back(Action::RequestPunch { path, attempt: self.attempt });
        self.dial_circuits(self.missing_circuits());
    }

    fn punched(&mut self, now: Instant) {
        self.last_punch = Some(now);
        self.punch.attempted(now, &mut self.rng);
    }

    /// One dial per transport and family, so that success of one does not cancel the others. Only TCP needs one
    /// side to listen in a simultaneous open; QUIC dials from its listening socket on both.
    fn dial_direct(&mut self, addresses: Vec<Multiaddr>, role: Role) {
        let mut grouped: BTreeMap<Group, Vec<Multiaddr>> = BTreeMap::new();
        for address in addresses {
            if let Some(group) = group(&address) {
                grouped.entry(group).or_default().push(address);
            }
        }
        let peer = self.peer;
        self.actions.extend(grouped.into_iter().map(|(group, addresses)| Action::Dial {
            peer,
            addresses,
            role: if group.is_tcp() { role } else { Role::Dialer },
        }));
    }

    fn remember(&mut self, address: Multiaddr) {
        self.direct.retain(|known| *known != address);
        if self.direct.len() >= MAX_CANDIDATES {
            self.direct.pop_front();
        }
        self.direct.push_back(address);
    }

    /// Surplus connections that this side dialed: another one of the same kind was dialed by the peer with the
    /// smaller ID, or by us earlier.
    fn twins(&self) -> impl Iterator<Item = PathId> + '_ {
        let ready = || self.paths.values().filter(|path| path.is_good());
        ready().filter(|path| path.opened.outbound).filter_map(move |own| {
            let same = |other: &&Path| {
                let (own, other) = (&own.opened, &other.opened);
                own.path != other.path && own.kind == other.kind && own.relay == other.relay
            };
            let surplus = ready().filter(same).any(|other| match other.opened.outbound {
                true => other.opened.path < own.opened.path,
                false => !self.first,
            });
            surplus.then_some(own.opened.path)
        })
    }

    /// Surplus connections are announced, left alone for what is in flight, then closed.
    fn close_twins(&mut self, now: Instant) {
        let aged = |path: &PathId| self.paths[path].since + TWIN_GRACE <= now;
        let surplus: Vec<PathId> = self.twins().filter(aged).collect();
        for path in surplus {
            let Some(found) = self.paths.get_mut(&path) else { continue };
            found.retiring = Some(now + RETIRE_FOR);
            self.actions.push_back(Action::Retire { path });
            // The survivor's kind is the same, so packets notice nothing.
            self.leave(path, Reason::BetterPath, now);
        }
        let retired = |path: &Path| path.retiring.is_some_and(|at| at <= now);
        let gone: Vec<PathId> = self.paths.values().filter(|p| retired(p)).map(|p| p.opened.path).collect();
        for path in gone {
            self.paths.remove(&path);
            self.actions.push_back(Action::Close { path });
        }
    }
}

fn accept(offered: &[Multiaddr]) -> Vec<Multiaddr> {
    offered.iter().filter(|address| dialable(address)).take(MAX_CANDIDATES).cloned().collect()
}
