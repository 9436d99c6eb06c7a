//! When a flow has to slow down (RFC 8289, controlled delay): not for a burst, but for a queue that stays.

use std::time::{Duration, Instant};

/// Within this many intervals after it has been quiet, a flow hears as often as before (RFC 8289 §5.5).
const REMEMBERED: u32 = 16;

/// The state of one flow's queue.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Codel {
    /// When packets will have been late for a whole interval.
    late_until: Option<Instant>,
    /// The next signal, while signals are being sent.
    next: Option<Instant>,
    /// When signals ended.
    ended: Option<Instant>,
    /// Signals sent in this round, and those that the round began with.
    count: u32,
    began_with: u32,
}

impl Codel {
    /// Judges the packet that leaves at `now`: whether it carries a signal, by its loss or by a mark.
    pub(super) fn judge(&mut self, late: bool, now: Instant, interval: Duration) -> bool {
        if !late {
            self.late_until = None;
            self.ended = self.next.take().or(self.ended);
            return false;
        }
        let due = *self.late_until.get_or_insert(now + interval) <= now;
        match self.next {
            Some(next) if next <= now => {
                self.count = self.count.saturating_add(1);
                self.next = Some(self.after(next, interval));
                true
            }
            Some(_) => false,
            None if due => {
                self.begin(now, interval);
                true
            }
            None => false,
        }
    }

    fn begin(&mut self, now: Instant, interval: Duration) {
        let recently =
            self.ended.is_some_and(|ended| now.saturating_duration_since(ended) < interval * REMEMBERED);
        let sent = self.count.saturating_sub(self.began_with);
        self.count = if recently && sent > 1 { sent } else { 1 };
        self.began_with = self.count;
        self.next = Some(self.after(now, interval));
    }

    /// Signals come the faster the longer they are not heeded, so that the loss rate grows as TCP's throughput falls with
    /// its square root.
    fn after(&self, last: Instant, interval: Duration) -> Instant {
        last + interval.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}
