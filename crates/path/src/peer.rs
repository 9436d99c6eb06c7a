//! [`PeerPaths`]: the paths to one peer, and the journal of what was decided about them.

use std::time::{Duration, Instant};

use peerup_types::{Multiaddr, NatMapping, PathId, PeerId};

use crate::{
    action::{Action, Event, Opened, Reason},
    explain::Explanation,
    input::Input,
    journal::Journal,
    machine::Machine,
    moment::Moment,
};

pub struct PeerPaths {
    /// Where the machine's time begins.
    origin: Instant,
    machine: Machine,
    journal: Journal,
    /// When the machine wants to run: a node with many peers asks often, and only facts change it.
    due: Option<Moment>,
}

impl PeerPaths {
    /// A peer that is not connected; the first attempt to reach it is due at `now`.
    pub fn new(own: PeerId, peer: PeerId, seed: u64, now: Instant) -> Self {
        let machine = Machine::new(own, peer, seed);
        Self { origin: now, journal: Journal::new(machine.clone()), due: machine.poll_timeout(), machine }
    }

    fn handle(&mut self, input: Input, now: Instant) {
        let now = Moment::between(self.origin, now);
        let early = matches!(input, Input::Timeout) && self.due.is_none_or(|due| due > now);
        if early || self.machine.is_idle_input(&input) {
            return;
        }
        self.journal.record(&self.machine, &input, now);
        self.machine.handle(input, now);
        self.due = self.machine.poll_timeout();
    }

    // What happens to paths

    pub fn handle_opened(&mut self, opened: Opened, now: Instant) {
        self.handle(Input::Opened(opened), now);
    }

    /// The peer acknowledged our hello on this path.
    pub fn handle_ready(&mut self, path: PathId, now: Instant) {
        self.handle(Input::Ready(path), now);
    }

    /// The hello was refused or our stream broke: without a stream a path carries nothing.
    pub fn handle_unusable(&mut self, path: PathId, now: Instant) {
        self.handle(Input::Unusable(path), now);
    }

    /// The peer announced that this path goes away: packets leave it before it closes.
    pub fn handle_retired(&mut self, path: PathId, now: Instant) {
        self.handle(Input::Retired(path), now);
    }

    /// The peer said that it goes away: nothing of it is usable, and nobody answers for a while.
    pub fn handle_goodbye(&mut self, now: Instant) {
        self.handle(Input::Goodbye, now);
    }

    pub fn handle_closed(&mut self, path: PathId, now: Instant) {
        self.handle(Input::Closed(path), now);
    }

    /// A dial of `address` came to nothing.
    pub fn handle_dial_failed(&mut self, address: Multiaddr, error: String, now: Instant) {
        self.handle(Input::DialFailed { address, error }, now);
    }

    // What probes and packets tell

    pub fn handle_answer(&mut self, path: PathId, rtt: Duration, now: Instant) {
        self.handle(Input::Answer { path, rtt }, now);
    }

    /// Frames arrived on this path since the last call, or the peer acknowledged more of a reliable lane.
    pub fn handle_heard(&mut self, path: PathId, now: Instant) {
        self.handle(Input::Heard(path), now);
    }

    /// Packets went out on this path for half a second, and nothing came back.
    pub fn handle_unanswered(&mut self, path: PathId, now: Instant) {
        self.handle(Input::Unanswered(path), now);
    }

    /// Packets went to or came from the peer.
    pub fn handle_traffic(&mut self, now: Instant) {
        self.handle(Input::Traffic, now);
    }

    /// A packet for the peer found no path.
    pub fn handle_wanted(&mut self, now: Instant) {
        self.handle(Input::Wanted, now);
    }

    // What is known of the peer and the network

    /// The relays through which the peer may be reached changed.
    pub fn handle_circuits(&mut self, circuits: Vec<Multiaddr>, now: Instant) {
        self.handle(Input::Circuits(circuits), now);
    }

    /// A direct address of the peer became known (multicast DNS, configuration).
    pub fn handle_address(&mut self, address: Multiaddr, now: Instant) {
        self.handle(Input::Address(address), now);
    }

    /// We have a new address to offer.
    pub fn handle_new_candidate(&mut self, now: Instant) {
        self.handle(Input::NewCandidate, now);
    }

    /// The network changed or the host woke up: what was not answered proves nothing.
    pub fn handle_network_changed(&mut self, now: Instant) {
        self.handle(Input::NetworkChanged, now);
    }

    /// The peer's daemon started anew: what was held against its paths is void.
    pub fn handle_restarted(&mut self, now: Instant) {
        self.handle(Input::Restarted, now);
    }

    /// How our own NAT maps ports.
    pub fn handle_mapping(&mut self, mapping: NatMapping, now: Instant) {
        self.handle(Input::Mapping(mapping), now);
    }

    /// The peer asks to punch and offers its addresses.
    pub fn handle_punch_request(
        &mut self,
        path: PathId,
        attempt: u32,
        offered: &[Multiaddr],
        mapping: NatMapping,
        now: Instant,
    ) {
        self.handle(Input::PunchRequest { path, attempt, offered: offered.to_vec(), mapping }, now);
    }

    /// The peer's answer to our punch request.
    pub fn handle_punch_reply(
        &mut self,
        attempt: u32,
        offered: &[Multiaddr],
        mapping: NatMapping,
        now: Instant,
    ) {
        self.handle(Input::PunchReply { attempt, offered: offered.to_vec(), mapping }, now);
    }

    // Time

    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle(Input::Timeout, now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.map(|at| at.instant(self.origin))
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.machine.poll_action()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.machine.poll_event()
    }

    // Views

    /// The path that packets take, with its measured round trip and the time since when.
    pub fn active(&self) -> Option<(&Opened, Option<Duration>, Instant)> {
        let (opened, rtt, since) = self.machine.active()?;
        Some((opened, rtt, since.instant(self.origin)))
    }

    /// Share of unanswered probes on the active path, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.machine.loss()
    }

    /// Every ready path, the one in use first, with its round trip and the time since when it is open.
    pub fn ready(&self) -> Vec<(&Opened, Option<Duration>, Instant)> {
        let at = |(opened, rtt, since): (_, _, Moment)| (opened, rtt, since.instant(self.origin));
        self.machine.ready_paths().into_iter().map(at).collect()
    }

    /// Why packets take the path they take (or why there is none any more).
    pub fn reason(&self) -> Option<Reason> {
        self.machine.reason()
    }

    /// Why the path in use is not better, in a few words.
    pub fn summary(&self, now: Instant) -> Option<String> {
        self.machine.summary(Moment::between(self.origin, now))
    }

    pub fn explain(&self, now: Instant) -> Explanation {
        self.machine.explain(Moment::between(self.origin, now))
    }

    /// The decision journal on paper, for [`replay`](crate::replay).
    pub fn export(&self, now: Instant, unix: u64) -> String {
        self.journal.export(Moment::between(self.origin, now), unix)
    }

    /// Whether an attempt to reach the peer is under way or about to start.
    pub fn is_connecting(&self) -> bool {
        self.machine.is_connecting()
    }

    /// Whether no path can be relied on.
    pub fn is_cut_off(&self) -> bool {
        self.machine.is_cut_off()
    }
}
