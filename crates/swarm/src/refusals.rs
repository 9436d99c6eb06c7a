//! Counts refused connections without letting strangers write the log.
//!
//! Anybody may try the door as often as the network allows, so a line per refusal would be a way to fill a disk.
//! The first refusal after a quiet time is told at once, those of the following minute as one number.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// Often enough to notice an attack while it lasts, seldom enough to read.
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Refusals {
    total: u64,
    untold: u64,
    /// Runs from a told refusal until the next may be told.
    window: Option<Pin<Box<Sleep>>>,
}

impl Refusals {
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts one refusal; true when it is to be told by itself.
    pub fn record(&mut self) -> bool {
        self.total += 1;
        if self.window.is_some() {
            self.untold += 1;
            return false;
        }
        self.window = Some(Box::pin(sleep(WINDOW)));
        true
    }

    /// The number of refusals in a window that ended and had any.
    pub fn poll_summary(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let Some(window) = &mut self.window else { return Poll::Pending };
        ready!(window.as_mut().poll(cx));
        if self.untold == 0 {
            self.window = None;
            return Poll::Pending;
        }
        self.window = Some(Box::pin(sleep(WINDOW)));
        Poll::Ready(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_once_and_then_as_one_number_a_minute() {
        let mut refusals = Refusals::default();
        let told = (0..1000).filter(|_| refusals.record()).count();
        assert_eq!((told, refusals.total()), (1, 1000));
        let start = Instant::now();
        assert_eq!(summary(&mut refusals).await, Some(999));
        assert!(start.elapsed() >= WINDOW);
        assert!(!refusals.record(), "the flood goes on in the next window");
        assert_eq!(summary(&mut refusals).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_minute_a_refusal_is_told_by_itself_again() {
        let mut refusals = Refusals::default();
        assert!(refusals.record());
        assert_eq!(summary(&mut refusals).await, None, "one refusal needs no summary");
        assert!(refusals.record());
    }

    async fn summary(refusals: &mut Refusals) -> Option<u64> {
        timeout(WINDOW * 2, poll_fn(|cx| refusals.poll_summary(cx))).await.ok()
    }
}
