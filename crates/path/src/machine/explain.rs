//! The state of the machine in words.

use peerup_types::PathClass;

use super::{
    Machine,
    dial::Outcome,
    path::Path,
    punch::SPACING,
    select::{KEEP, TAKE},
};
use crate::{
    action::Reason,
    explain::{
        Blocking, CandidateOutcome, CandidateReport, Explanation, PathReport, PunchReport, Rule, Verdict,
        seconds,
    },
    liveness::{LOSS_PROBES, LOSS_WINDOW},
    moment::Moment,
    schedule::DIAL_PATIENCE,
};

impl Machine {
    pub fn explain(&self, now: Moment) -> Explanation {
        let mut paths: Vec<&Path> = self.paths.values().collect();
        paths.sort_by_key(|path| {
            let active = self.active == Some(path.opened.path);
            (!active, !path.is_usable(), path.suspicion.is_some(), path.opened.kind, path.opened.path)
        });
        Explanation {
            peer: self.peer,
            active: self.active,
            beside: self.beside,
            active_for: self.active_since.map(|since| now.since(since)),
            reason: self.reason,
            blocking: self.blocking(now),
            paths: paths.into_iter().map(|path| self.report(path, now)).collect(),
            candidates: self.candidate_reports(now),
            punch: PunchReport {
                attempts: self.punch.failures,
                last: self.punch.last.map(|at| now.since(at)),
                next: self.punch.backoff.due().map(|due| due.since(now)),
                own: self.punch.own,
                theirs: self.punch.theirs,
            },
            history: self.history.iter().map(|switch| (now.since(switch.at), *switch)).collect(),
            switches_last_minute: self.flaps.recent(now),
        }
    }

    fn report(&self, path: &Path, now: Moment) -> PathReport {
        let chosen = self.active == Some(path.opened.path);
        let measured = path.live.rtt.smoothed().is_some();
        PathReport {
            opened: path.opened.clone(),
            open_for: now.since(path.since),
            rtt: path.live.rtt.smoothed(),
            jitter: measured.then(|| path.live.rtt.jitter()),
            loss_10s: path.live.losses.share(LOSS_WINDOW, LOSS_PROBES, now),
            loss_15m: path.live.losses.quarter(),
            verdict: match chosen {
                true => Verdict::Chosen(self.reason.unwrap_or(Reason::FirstPath)),
                false => Verdict::Rejected(self.rule_against(path, now)),
            },
        }
    }

    fn rule_against(&self, path: &Path, now: Moment) -> Rule {
        if path.ready.is_none() {
            return Rule::HelloAwaited;
        }
        if path.retiring.is_some() {
            return Rule::GoesAway;
        }
        if let Some(suspicion) = path.suspicion {
            return match self.probation_until(path.opened.path, now) {
                Some(until) if path.has_proved_itself() => Rule::OnProbation { wait: until.since(now) },
                Some(_) | None => Rule::Suspect { answers: suspicion.answers, needed: path.answers_needed() },
            };
        }
        if self.is_doubtful(path) {
            return Rule::InDoubt;
        }
        match self.active_path() {
            Some(active) => self.rule_beside(path, active, now),
            None => Rule::InDoubt,
        }
    }

    fn rule_beside(&self, path: &Path, active: &Path, now: Moment) -> Rule {
        if self.beside == Some(path.opened.path) {
            return Rule::Beside;
        }
        if path.opened.kind == active.opened.kind && path.opened.relay == active.opened.relay {
            return Rule::Twin;
        }
        if self.is_sibling(path, active) {
            return match self.carrier_rests_until(now) {
                _ if path.opened.kind > active.opened.kind => Rule::RanksLower,
                Some(until) => Rule::CarrierRests { wait: until.since(now) },
                None => Rule::NotMeasured,
            };
        }
        if active.is_direct() && !path.is_direct() {
            return Rule::DirectIsAlive;
        }
        let waits = self.held_until.filter(|until| *until > now);
        if path.is_direct() && !active.is_direct() {
            return match (waits, self.settling_until(now)) {
                (Some(until), None) => Rule::TooManySwitches { wait: until.since(now) },
                (Some(_) | None, _) => Rule::Settling,
            };
        }
        if let Some((since, _)) = path.ahead {
            return match waits {
                Some(until) => Rule::TooManySwitches { wait: until.since(now) },
                None => Rule::NotLongEnough { since: now.since(since) },
            };
        }
        if path.opened.kind >= active.opened.kind {
            return Rule::RanksLower;
        }
        let keep = if self.won_by_measure() { &KEEP } else { &TAKE };
        let lags = || self.round_trip(path).unwrap_or_default();
        let lead = || self.round_trip(active).unwrap_or_default();
        if self.is_faster(active, path, keep) {
            Rule::Slower { by: lags().saturating_sub(lead()) }
        } else if self.clearly_better(active, path, keep, now) {
            Rule::LosesMore
        } else if let Some(until) = waits {
            Rule::TooManySwitches { wait: until.since(now) }
        } else if !path.live.is_measured() {
            Rule::NotMeasured
        } else if self.is_faster(path, active, &TAKE) {
            Rule::Settling
        } else {
            Rule::NotLongEnough { since: path.level.map(|since| now.since(since)).unwrap_or_default() }
        }
    }

    /// Why there is no direct path in use.
    pub fn blocking(&self, now: Moment) -> Option<Blocking> {
        let active = self.active_path();
        if active.is_some_and(|path| path.is_direct() && path.suspicion.is_none()) {
            return None;
        }
        let say = |code, text: String, change: &str| Some(Blocking { code, text, change: change.to_owned() });
        if active.is_none() {
            return self.unreached(now);
        }
        let direct = || self.paths.values().filter(|path| path.is_direct() && path.is_usable());
        if direct().any(Path::is_good) {
            return match self.held_until.filter(|until| *until > now) {
                Some(until) if self.settling_until(now).is_none() => say(
                    "held",
                    format!("many switches; direct in {}", seconds(until.since(now))),
                    "time: at most four switches a minute",
                ),
                Some(_) | None => say("settling", "about to go direct".to_owned(), "a moment"),
            };
        }
        if direct().next().is_some() {
            let change = "timely answers to the probes on it, or a new one: attempts go on";
            return say("direct-silent", "direct path stopped answering".to_owned(), change);
        }
        if self.punch.both_symmetric() {
            let change = "a port mapping or IPv6 on either side; tried again every 10 minutes";
            return say("symmetric-both", "symmetric NAT on both sides".to_owned(), change);
        }
        if self.punch.gave_up_guessing() {
            let change = "a port mapping or IPv6 on the peer's side; tried again every 10 minutes";
            return say("symmetric-peer", "their NAT changes ports".to_owned(), change);
        }
        if self.punch.last.is_some_and(|at| now.since(at) < SPACING) {
            return say("punching", "hole punching under way".to_owned(), "seconds: both sides are dialing");
        }
        if self.punch.failures == 0 {
            return say("untried", "hole punching about to start".to_owned(), "a moment");
        }
        let symmetric = self.punch.own.is_symmetric() || self.punch.theirs.is_symmetric();
        let cause = if symmetric { "a NAT changes ports" } else { "a NAT or firewall drops UDP and TCP" };
        let next = self.punch.backoff.due().map(|due| due.since(now)).unwrap_or_default();
        Some(Blocking {
            code: "punch-failed",
            text: format!("hole punching failed {}", times(self.punch.failures)),
            change: format!(
                "it seems that {cause}: forward the port or enable UPnP; next attempt in {}",
                seconds(next)
            ),
        })
    }

    fn unreached(&self, now: Moment) -> Option<Blocking> {
        let (text, change) = if self.is_connecting() {
            ("connecting", "an answer from the peer".to_owned())
        } else if self.circuits.is_empty() && self.direct.is_empty() {
            let change = "a relay that both use, or an address of the peer";
            ("no relay, no known address", change.to_owned())
        } else {
            let next = self.reach.due().map(|due| due.since(now)).unwrap_or_default();
            ("the peer does not answer", format!("the peer coming online; next attempt in {}", seconds(next)))
        };
        Some(Blocking { code: "unreached", text: text.to_owned(), change })
    }

    fn candidate_reports(&self, now: Moment) -> Vec<CandidateReport> {
        let known = self.direct.iter().chain(&self.circuits).chain(self.tries.keys());
        let mut addresses: Vec<_> = known.collect();
        addresses.sort();
        addresses.dedup();
        let report = |address: &&peerup_types::Multiaddr| {
            let tried = self.tries.get(*address);
            CandidateReport {
                address: (*address).clone(),
                tried: tried.map(|tried| now.since(tried.at)),
                outcome: match tried.map(|tried| (&tried.outcome, now.since(tried.at))) {
                    None => CandidateOutcome::Untried,
                    Some((Outcome::Connected, _)) => CandidateOutcome::Connected,
                    Some((Outcome::Failed(error), _)) => CandidateOutcome::Failed(error.clone()),
                    Some((Outcome::Pending, age)) if age < DIAL_PATIENCE => CandidateOutcome::Dialing,
                    Some((Outcome::Pending, _)) => CandidateOutcome::NoAnswer,
                },
            }
        };
        addresses.iter().map(report).collect()
    }

    /// Why the path in use is not better, in a few words: for status.
    pub fn summary(&self, now: Moment) -> Option<String> {
        let relayed = self.active_path().is_some_and(|path| path.opened.kind.class != PathClass::Direct);
        if relayed || self.active.is_none() {
            return self.blocking(now).map(|blocking| blocking.text);
        }
        self.reason.filter(|_| self.won_by_measure()).map(|reason| reason.as_str().to_owned())
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
