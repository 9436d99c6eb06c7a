//! Why packets take the path they take: what `peerup why` is made of.

use std::time::Duration;

use peerup_types::{Multiaddr, NatMapping, PathId, PathKind, PeerId};
use serde::{Deserialize, Serialize};

use crate::{
    action::{Opened, Reason},
    moment::Moment,
};

/// Packets moved, or were left without a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub at: Moment,
    pub from: Option<PathKind>,
    pub to: Option<PathKind>,
    pub reason: Reason,
}

/// Everything that bears on the choice of a path, at one moment. Times are told as ages.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    pub peer: PeerId,
    pub active: Option<PathId>,
    /// The connection for what should not wait behind reliable frames.
    pub beside: Option<PathId>,
    pub active_for: Option<Duration>,
    pub reason: Option<Reason>,
    /// Why the peer is not on a direct path.
    pub blocking: Option<Blocking>,
    /// Every open path, best first.
    pub paths: Vec<PathReport>,
    /// Every known address of the peer.
    pub candidates: Vec<CandidateReport>,
    pub punch: PunchReport,
    /// Latest last, with how long ago each was.
    pub history: Vec<(Duration, Switch)>,
    pub switches_last_minute: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PathReport {
    pub opened: Opened,
    pub open_for: Duration,
    pub rtt: Option<Duration>,
    pub jitter: Option<Duration>,
    /// Share of lost probes over the last ten seconds; `None` where too few were sent.
    pub loss_10s: Option<f64>,
    pub loss_15m: f64,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Chosen(Reason),
    Rejected(Rule),
}

/// The rule that keeps packets off a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    HelloAwaited,
    GoesAway,
    /// It stopped answering; `answers` of `needed` are in.
    Suspect {
        answers: u32,
        needed: u32,
    },
    /// It answers again, and there were too many switches to count on it.
    OnProbation {
        wait: Duration,
    },
    InDoubt,
    /// It is relayed, and a direct path is alive.
    DirectIsAlive,
    /// Direct, and ready a moment ago.
    Settling,
    TooManySwitches {
        wait: Duration,
    },
    /// Of a lower rank, and not clearly better.
    RanksLower,
    /// It ranks higher and is not measured yet.
    NotMeasured,
    /// It is clearly better, and not for long enough.
    NotLongEnough {
        since: Duration,
    },
    /// It ranks higher, and the path in use is clearly better.
    Slower {
        by: Duration,
    },
    LosesMore,
    /// Another connection of this kind is in use.
    Twin,
    /// QUIC beside the connection that carries reliable frames.
    Beside,
    /// TCP beside the QUIC connection in use: it failed a moment ago.
    CarrierRests {
        wait: Duration,
    },
}

impl Rule {
    /// Stable, for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HelloAwaited => "hello-awaited",
            Self::GoesAway => "goes-away",
            Self::Suspect { .. } => "suspect",
            Self::OnProbation { .. } => "on-probation",
            Self::InDoubt => "in-doubt",
            Self::DirectIsAlive => "direct-is-alive",
            Self::Settling => "settling",
            Self::TooManySwitches { .. } => "too-many-switches",
            Self::RanksLower => "ranks-lower",
            Self::NotMeasured => "not-measured",
            Self::NotLongEnough { .. } => "not-long-enough",
            Self::Slower { .. } => "slower",
            Self::LosesMore => "loses-more",
            Self::Twin => "twin",
            Self::Beside => "beside",
            Self::CarrierRests { .. } => "carrier-rests",
        }
    }

    pub fn text(&self) -> String {
        match self {
            Self::HelloAwaited => "the peer has not answered our hello".to_owned(),
            Self::GoesAway => "it is being closed".to_owned(),
            Self::Suspect { answers, needed } => {
                format!("it stopped answering; {answers} of {needed} answers in a row are in")
            }
            Self::OnProbation { wait } => {
                format!("it answers again; on probation for {} after many switches", seconds(*wait))
            }
            Self::InDoubt => "the last probe was not answered".to_owned(),
            Self::DirectIsAlive => "a relay never replaces a live direct path".to_owned(),
            Self::Settling => "ready a moment ago; waiting for its siblings".to_owned(),
            Self::TooManySwitches { wait } => {
                format!("four switches a minute are enough; waits {}", seconds(*wait))
            }
            Self::RanksLower => "ranks lower and is not clearly better".to_owned(),
            Self::NotMeasured => "ranks higher; being measured".to_owned(),
            Self::NotLongEnough { since } => format!("clearly better, but only for {}", seconds(*since)),
            Self::Slower { by } => format!("slower by {:.1} ms", by.as_secs_f64() * 1000.0),
            Self::LosesMore => "loses more packets".to_owned(),
            Self::Twin => "another connection of this kind is in use".to_owned(),
            Self::Beside => "stands beside the connection that carries reliable frames".to_owned(),
            Self::CarrierRests { wait } => {
                format!("TCP failed a moment ago; carries reliable frames again in {}", seconds(*wait))
            }
        }
    }

    pub fn would_change(&self) -> &'static str {
        match self {
            Self::HelloAwaited => "an answer to our hello within 6 seconds of opening",
            Self::GoesAway => "nothing: another connection has its place",
            Self::Suspect { .. } => "timely answers to probes",
            Self::OnProbation { .. } | Self::TooManySwitches { .. } | Self::Settling => "time",
            Self::InDoubt => "an answer to the next probe",
            Self::DirectIsAlive => "the death of every direct path",
            Self::RanksLower | Self::NotLongEnough { .. } => {
                "a round trip better by more than 15 ms and 30 %, or much less loss, for 10 seconds"
            }
            Self::NotMeasured => "three answered probes",
            Self::Slower { .. } => "a round trip within 7.5 ms or 15 % of the path in use for 10 seconds",
            Self::LosesMore => "less than 2.5 % loss, or as little as the path in use, for 10 seconds",
            Self::Twin => "nothing: it carries packets as well",
            Self::Beside => "the death of that connection",
            Self::CarrierRests { .. } => "time",
        }
    }
}

/// Why the peer is not on a direct path, in at most six words, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocking {
    pub code: &'static str,
    pub text: String,
    pub change: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CandidateReport {
    pub address: Multiaddr,
    /// How long ago it was dialed last.
    pub tried: Option<Duration>,
    pub outcome: CandidateOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CandidateOutcome {
    Untried,
    Dialing,
    Connected,
    NoAnswer,
    Failed(String),
}

impl CandidateOutcome {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Untried => "not tried",
            Self::Dialing => "dialing",
            Self::Connected => "connected",
            Self::NoAnswer => "no answer",
            Self::Failed(error) => error,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PunchReport {
    /// Attempts since the last direct path or the last change of network.
    pub attempts: u32,
    pub last: Option<Duration>,
    pub next: Option<Duration>,
    pub own: NatMapping,
    pub theirs: NatMapping,
}

pub fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64().ceil() as u64)
}
