//! At most four switches a minute, except to leave what died (ADR 0065).

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// Switches between kinds of path in [`WINDOW`], whatever the probes say (DESIGN §4).
pub const MOST: usize = 4;
const WINDOW: Duration = Duration::from_secs(60);
/// Leaving dead paths is never refused, so the record may get longer than [`MOST`].
const KEPT: usize = 16;

/// When the latest switches were.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Flaps {
    switches: VecDeque<Moment>,
}

impl Flaps {
    pub fn count(&mut self, now: Moment) {
        if self.switches.len() >= KEPT {
            self.switches.pop_front();
        }
        self.switches.push_back(now);
    }

    /// What was is over: another network, or another start of the peer.
    pub fn clear(&mut self) {
        self.switches.clear();
    }

    /// Switches in the last minute.
    pub fn recent(&self, now: Moment) -> usize {
        self.switches.iter().filter(|at| **at + WINDOW > now).count()
    }

    /// When there will be at most `most` in the last minute; `None` where that is so already.
    pub fn at_most(&self, most: usize, now: Moment) -> Option<Moment> {
        let newer = self.switches.iter().rev().nth(most)?;
        Some(*newer + WINDOW).filter(|until| *until > now)
    }
}
