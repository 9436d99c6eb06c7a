//! [`Machine`]: the decisions about one peer, as a value that can be cloned, written down and replayed.

mod carrier;
mod dial;
mod explain;
mod flaps;
mod further;
mod path;
mod probe;
mod punch;
mod reach;
mod select;
mod twins;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use peerup_types::{Multiaddr, NatMapping, PathId, PathKind, PeerId};
use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, Event, Opened, Reason},
    explain::Switch,
    input::Input,
    moment::Moment,
    schedule::{Backoff, Dice},
};
use dial::{Planned, Try};
use flaps::Flaps;
use path::Path;
use punch::Punching;

/// Without packets for this long a peer is idle: no probes. Long enough for a keystroke's pause.
const IDLE_AFTER: Duration = Duration::from_secs(45);
/// Hello exchange on a fresh path; a path that takes longer is not usable.
const READY_DEADLINE: Duration = Duration::from_secs(6);
/// From the announcement that a path goes away to its closing: several round trips of any usable path.
const RETIRE_FOR: Duration = Duration::from_secs(2);
/// Paths of one peer: both transports and families, twins, and circuits through a few relays.
const MAX_PATHS: usize = 16;
/// Circuits through which a peer is looked for.
const MAX_CIRCUITS: usize = 8;
/// Switches that are remembered for explanations.
const MAX_HISTORY: usize = 64;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub peer: PeerId,
    /// Whether our peer ID is the smaller one: it goes first and its connections win among twins.
    first: bool,
    paths: BTreeMap<PathId, Path>,
    active: Option<PathId>,
    active_since: Option<Moment>,
    /// A live direct QUIC connection for what should not wait behind reliable frames.
    beside: Option<PathId>,
    /// What [`Action::Use`] named last.
    used: (Option<PathId>, Option<PathId>),
    /// When packets last moved between carriers of one way.
    carrier_moved: Option<Moment>,
    reason: Option<Reason>,
    flaps: Flaps,
    /// A better path waits until then: there were so many switches, or another one may be about to be ready.
    held_until: Option<Moment>,
    /// Circuit addresses of the peer, one per relay with a reservation of ours.
    circuits: Vec<Multiaddr>,
    /// Direct addresses that worked or were offered, newest last.
    direct: VecDeque<Multiaddr>,
    tries: BTreeMap<Multiaddr, Try>,
    planned: Vec<Planned>,
    reach: Backoff<Moment>,
    last_reach: Option<Moment>,
    /// When a packet for the peer found no path last.
    wanted_at: Option<Moment>,
    /// Until when the attempt under way may succeed.
    connecting_until: Option<Moment>,
    /// For a relayed path beside a direct one.
    standby: Backoff<Moment>,
    /// For a better family, or the other carrier, beside a direct path.
    further: Backoff<Moment>,
    /// For a second QUIC connection where there is no TCP.
    second: Backoff<Moment>,
    punch: Punching,
    /// When the peer falls idle; `None` while it is.
    idle_at: Option<Moment>,
    dice: Dice,
    history: VecDeque<Switch>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Machine {
    pub fn new(own: PeerId, peer: PeerId, seed: u64) -> Self {
        Self {
            peer,
            first: own.to_bytes() < peer.to_bytes(),
            paths: BTreeMap::new(),
            active: None,
            active_since: None,
            beside: None,
            used: (None, None),
            carrier_moved: None,
            reason: None,
            flaps: Flaps::default(),
            held_until: None,
            circuits: Vec::new(),
            direct: VecDeque::new(),
            tries: BTreeMap::new(),
            planned: Vec::new(),
            reach: reach::backoff(),
            last_reach: None,
            wanted_at: None,
            connecting_until: None,
            standby: reach::standby_backoff(),
            further: further::backoff(),
            second: further::second_backoff(),
            punch: Punching::default(),
            idle_at: None,
            dice: Dice::new(seed),
            history: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether `input` would change nothing, so that a journal need not hold it.
    pub fn is_idle_input(&self, input: &Input) -> bool {
        match input {
            Input::Heard(path) => self.paths.get(path).is_none_or(|path| !path.live.is_waiting()),
            Input::Unanswered(path) => self.paths.get(path).is_none_or(|path| path.live.is_in_doubt()),
            Input::Wanted => self.active.is_some(),
            Input::Circuits(circuits) => self.circuits == *circuits,
            Input::Mapping(mapping) => self.punch.own == *mapping,
            Input::Address(address) => self.direct.contains(address),
            Input::Opened(_)
            | Input::Ready(_)
            | Input::Unusable(_)
            | Input::Retired(_)
            | Input::Goodbye
            | Input::Closed(_)
            | Input::DialFailed { .. }
            | Input::Answer { .. }
            | Input::Traffic
            | Input::NewCandidate
            | Input::NetworkChanged
            | Input::Restarted
            | Input::PunchRequest { .. }
            | Input::PunchReply { .. }
            | Input::Timeout => false,
        }
    }

    pub fn handle(&mut self, input: Input, now: Moment) {
        match input {
            Input::Opened(opened) => self.opened(opened, now),
            Input::Ready(path) => self.ready(path, now),
            Input::Unusable(path) => self.unusable(path, now),
            Input::Retired(path) => self.retired(path, now),
            Input::Goodbye => self.goodbye(now),
            Input::Closed(path) => self.closed(path, now),
            Input::DialFailed { address, error } => self.dial_failed(&address, error),
            Input::Answer { path, rtt } => self.answered(path, rtt, now),
            Input::Heard(path) => self.heard(path, now),
            Input::Unanswered(path) => self.unanswered(path, now),
            Input::Traffic => self.traffic(now),
            Input::Wanted => self.wanted(now),
            Input::Circuits(circuits) => self.set_circuits(circuits, now),
            Input::Address(address) => self.address(address, now),
            Input::NewCandidate => self.new_candidate(now),
            Input::NetworkChanged => self.network_changed(now),
            Input::Restarted => self.restarted(now),
            Input::Mapping(mapping) => self.set_mapping(mapping, now),
            Input::PunchRequest { path, attempt, offered, mapping } => {
                self.punch_requested(path, attempt, &offered, mapping, now);
            }
            Input::PunchReply { attempt, offered, mapping } => {
                self.punch_replied(attempt, &offered, mapping, now);
            }
            Input::Timeout => self.timeout(now),
        }
        self.tend_standby(now);
        self.tend_further(now);
        self.announce(now);
        self.tend_second(now);
    }

    fn timeout(&mut self, now: Moment) {
        self.check_paths(now);
        self.close_twins(now);
        self.dial_planned(now);
        self.connecting_until.take_if(|until| *until <= now);
        if self.reach.is_due(now) {
            match self.is_cut_off() {
                true => self.reach_out(now),
                false => self.reach.rest(),
            }
        }
        if self.further_due().is_some_and(|due| due <= now) {
            self.look_further(now);
        }
        if self.second_due().is_some_and(|due| due <= now) {
            self.dial_second(now);
        }
        if self.punch.backoff.is_due(now) {
            self.request_punch(now);
        }
        if self.standby_due().is_some_and(|due| due <= now) {
            self.dial_standby(now);
        }
        // Before a suspicion is lifted: what waited for its turn goes first.
        self.select(now);
        self.absolve(now);
        self.select(now);
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        let probed = |path: &&Path| path.is_usable() && (self.idle_at.is_some() || path.suspicion.is_some());
        let probes = self.paths.values().filter(probed).map(|path| path.live.poll_timeout(self.duty(path)));
        let unready = self.paths.values().filter(|path| path.ready.is_none());
        let given_up = self.paths.values().filter_map(|path| self.given_up_at(path));
        let reach = self.is_cut_off().then(|| self.reach.due()).flatten();
        let twins = self.twins().map(|path| self.paths[&path].since + twins::GRACE);
        let retired = self.paths.values().filter_map(|path| path.retiring);
        probes
            .chain(unready.map(|path| path.since + READY_DEADLINE))
            .chain(given_up)
            .chain(self.idle_at)
            .chain(self.connecting_until)
            .chain(reach)
            .chain(self.standby_due())
            .chain(self.further_due())
            .chain(self.second_due())
            .chain(self.punch.backoff.due())
            .chain(self.planned.iter().map(|planned| planned.at))
            .chain(twins)
            .chain(retired)
            .chain(self.held_until)
            .chain(self.absolved_at())
            .min()
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // Views

    /// The path that packets take, with its measured round trip and the time since when.
    pub fn active(&self) -> Option<(&Opened, Option<Duration>, Moment)> {
        let path = self.active_path()?;
        Some((&path.opened, path.live.rtt.smoothed(), self.active_since?))
    }

    /// Share of unanswered probes on the active path over the last quarter of an hour.
    pub fn loss(&self) -> f64 {
        self.active_path().map_or(0.0, |path| path.live.losses.quarter())
    }

    /// Every ready path, best first, with its round trip and the time since when it is open.
    pub fn ready_paths(&self) -> Vec<(&Opened, Option<Duration>, Moment)> {
        let mut ready: Vec<_> = self.paths.values().filter(|path| path.is_usable()).collect();
        ready.sort_by_key(|path| {
            let active = self.active == Some(path.opened.path);
            (!active, path.suspicion.is_some(), path.opened.kind, path.opened.path)
        });
        ready.into_iter().map(|path| (&path.opened, path.live.rtt.smoothed(), path.since)).collect()
    }

    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Whether an attempt to reach the peer is under way or about to start.
    pub fn is_connecting(&self) -> bool {
        let untried = self.last_reach.is_none() && self.reach.due().is_some();
        self.active.is_none() && (untried || !self.paths.is_empty() || self.connecting_until.is_some())
    }

    /// Whether no path can be relied on.
    pub fn is_cut_off(&self) -> bool {
        !self.paths.values().any(Path::is_good)
    }

    fn has_direct(&self) -> bool {
        self.paths.values().any(|path| path.is_good() && path.is_direct())
    }

    fn has_good(&self, kind: PathKind) -> bool {
        self.paths.values().any(|path| path.is_good() && path.opened.kind == kind)
    }

    fn active_path(&self) -> Option<&Path> {
        self.paths.get(&self.active?)
    }

    // What happens to paths

    fn opened(&mut self, opened: Opened, now: Moment) {
        if self.paths.contains_key(&opened.path) {
            return;
        }
        if self.paths.len() >= MAX_PATHS {
            self.actions.push_back(Action::Close { path: opened.path });
            return;
        }
        self.actions.push_back(Action::OpenStream { path: opened.path });
        self.note_success(&opened.remote);
        self.paths.insert(opened.path, Path::new(opened, now));
    }

    fn ready(&mut self, path: PathId, now: Moment) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        found.ready = Some(now);
        found.live.rest(now);
        if found.is_direct() && found.opened.outbound {
            let remote = found.opened.remote.clone();
            self.remember(remote);
        }
        self.reach.rest();
        // A fresh path is measured even before the first packet asks for it.
        self.traffic(now);
        self.select(now);
        self.punch_after_ready(now);
    }

    fn unusable(&mut self, path: PathId, now: Moment) {
        if self.paths.contains_key(&path) {
            self.actions.push_back(Action::Close { path });
            self.forget(path, Reason::PathClosed, now);
        }
    }

    fn retired(&mut self, path: PathId, now: Moment) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        found.retiring.get_or_insert(now + RETIRE_FOR * 2);
        self.leave(path, Reason::PathClosed, now);
    }

    /// Nothing of the peer is usable, and nobody answers for a while.
    fn goodbye(&mut self, now: Moment) {
        for path in self.paths.keys().copied().collect::<Vec<_>>() {
            self.unusable(path, now);
        }
        self.planned.clear();
        self.reach_later(now);
    }

    fn closed(&mut self, path: PathId, now: Moment) {
        self.forget(path, Reason::PathClosed, now);
        // What ended it may have ended the others, and nobody looks at those of an idle peer.
        if self.active.is_some() {
            self.traffic(now);
        }
    }

    fn forget(&mut self, path: PathId, reason: Reason, now: Moment) {
        let Some(gone) = self.paths.remove(&path) else { return };
        if self.active == Some(path) {
            self.replace(gone.opened.kind, reason, now);
        }
    }

    /// What was learned about the old network, or about an earlier start of the peer, is no reason to hold back.
    fn forgive(&mut self) {
        self.flaps.clear();
        self.held_until = None;
        for path in self.paths.values_mut() {
            path.strikes = 0;
        }
    }

    fn network_changed(&mut self, now: Moment) {
        self.forgive();
        for path in self.paths.values_mut() {
            path.live.rest(now);
        }
        self.idle_at = Some(now + IDLE_AFTER);
        self.punch.forget_failures();
        if self.active.is_none() {
            self.reach.hasten(now);
        } else if !self.has_direct() {
            self.punch.hasten(now);
        } else {
            self.look_further_soon(now);
        }
    }

    fn restarted(&mut self, now: Moment) {
        self.forgive();
        self.punch.forget_failures();
        if self.active.is_some() && !self.has_direct() {
            self.punch.hasten(now);
        }
    }

    fn set_mapping(&mut self, mapping: NatMapping, now: Moment) {
        if std::mem::replace(&mut self.punch.own, mapping) != mapping {
            self.mapping_changed(now);
        }
    }
}
