//! From a path machine's explanation to the words of the API.

use std::time::Duration;

use peerup_control::{
    ApiError, ErrorKind,
    api::{JournalReport, Timestamp, WhyCandidate, WhyPath, WhyPunch, WhyReport, WhySwitch},
};
use peerup_path::{CandidateReport, Explanation, PathReport, Switch, Verdict};
use peerup_types::{PathKind, PeerId};

use crate::{controller::Controller, view};

pub fn explain(node: &Controller, peer: &PeerId) -> Result<WhyReport, ApiError> {
    let explained = node.node.explain(peer, peerup_clock::now()).ok_or_else(not_a_peer)?;
    Ok(report(&explained, Some(view::display_name(node, peer)), peerup_clock::unix()))
}

pub fn journal(node: &Controller, peer: &PeerId) -> Result<JournalReport, ApiError> {
    let journal = node.node.journal(peer, peerup_clock::now(), peerup_clock::unix());
    Ok(JournalReport { peer_id: *peer, journal: journal.ok_or_else(not_a_peer)? })
}

fn not_a_peer() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "this node has no paths to it: it is not an authorized peer")
        .with_hint("`peerup status` lists names and addresses")
}

/// What an explanation of `unix` (seconds) says; `name` is what people call the peer.
pub fn report(explained: &Explanation, name: Option<String>, unix: u64) -> WhyReport {
    let ago = |age: Duration| Timestamp::from_unix(unix.saturating_sub(age.as_secs()));
    let blocking = explained.blocking.as_ref();
    WhyReport {
        peer_id: explained.peer,
        name,
        at: Timestamp::from_unix(unix),
        reason: explained.reason.map(|reason| reason.as_str().to_owned()),
        blocking_reason: blocking.map(|blocking| blocking.code.to_owned()),
        blocking_text: blocking.map(|blocking| blocking.text.clone()),
        would_change: blocking.map(|blocking| blocking.change.clone()),
        paths: explained.paths.iter().map(|path| path_row(path, ago)).collect(),
        candidates: explained.candidates.iter().map(|candidate| candidate_row(candidate, ago)).collect(),
        punch: WhyPunch {
            attempts: explained.punch.attempts,
            last: explained.punch.last.map(ago),
            next_in_s: explained.punch.next.map(|next| next.as_secs()),
            own_mapping: explained.punch.own.as_str().to_owned(),
            their_mapping: explained.punch.theirs.as_str().to_owned(),
        },
        history: explained.history.iter().map(|(age, switch)| switch_row(switch, ago(*age))).collect(),
        switches_last_minute: u32::try_from(explained.switches_last_minute).unwrap_or(u32::MAX),
    }
}

fn path_row(path: &PathReport, ago: impl Fn(Duration) -> Timestamp) -> WhyPath {
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let (rule, text, would_change) = match &path.verdict {
        Verdict::Chosen(reason) => ("chosen", reason.as_str().to_owned(), None),
        Verdict::Rejected(rule) => (rule.code(), rule.text(), Some(rule.would_change().to_owned())),
    };
    WhyPath {
        id: path.opened.path.0,
        class: path.opened.kind.class.into(),
        family: path.opened.kind.family,
        carrier: path.opened.kind.carrier,
        addr: path.opened.remote.to_string(),
        relay: path.opened.relay,
        since: ago(path.open_for),
        chosen: matches!(path.verdict, Verdict::Chosen(_)),
        rtt_ms: path.rtt.map(millis),
        jitter_ms: path.jitter.map(millis),
        loss_10s: path.loss_10s,
        loss_15m: path.loss_15m,
        rule: rule.to_owned(),
        text,
        would_change,
    }
}

fn candidate_row(candidate: &CandidateReport, ago: impl Fn(Duration) -> Timestamp) -> WhyCandidate {
    WhyCandidate {
        addr: candidate.address.to_string(),
        tried: candidate.tried.map(ago),
        outcome: candidate.outcome.as_str().to_owned(),
    }
}

fn switch_row(switch: &Switch, at: Timestamp) -> WhySwitch {
    WhySwitch {
        at,
        from: switch.from.map(words),
        to: switch.to.map(words),
        reason: switch.reason.as_str().to_owned(),
    }
}

fn words(kind: PathKind) -> String {
    format!("{} {} {}", kind.class, kind.family, kind.carrier)
}

/// A journal replayed: the explanation it ends in, and how many decisions led there.
#[derive(Debug)]
pub struct Replayed {
    pub report: WhyReport,
    pub inputs: usize,
    pub decisions: usize,
}

/// Makes the decisions of an exported journal again, in this process.
pub fn replay(text: &str) -> Result<Replayed, peerup_path::ReplayError> {
    let replayed = peerup_path::replay(text)?;
    Ok(Replayed {
        report: report(&replayed.explanation, None, replayed.unix),
        inputs: replayed.inputs,
        decisions: replayed.decisions.len(),
    })
}
