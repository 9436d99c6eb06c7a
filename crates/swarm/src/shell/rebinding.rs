//! Listen addresses that a rebuilt swarm could not bind yet.
//!
//! A QUIC endpoint lives as long as a connection or a stream of it does, and its streams are in the hands of data
//! tasks, so its UDP port stays taken for a moment after the swarm that opened it is gone.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::Multiaddr;
use tokio::time::{Instant, Sleep, sleep};

use crate::event::ListenError;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// Longer than a task holds a stream whose path is reported closed, and than QUIC's idle timeout.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Rebinding {
    unbound: Vec<Multiaddr>,
    delay: Duration,
    timer: Pin<Box<Sleep>>,
    give_up: Instant,
}

impl Rebinding {
    /// Waits with what a first attempt left; nothing left is nothing to wait with.
    pub fn new(failed: Vec<ListenError>) -> Option<Self> {
        if failed.is_empty() {
            return None;
        }
        Some(Self {
            unbound: addresses(failed),
            delay: FIRST,
            timer: Box::pin(sleep(FIRST)),
            give_up: Instant::now() + PATIENCE,
        })
    }

    pub fn into_unbound(self) -> Vec<Multiaddr> {
        self.unbound
    }

    /// The addresses to try, when it is time for that; [`Self::put_back`] takes what failed.
    pub fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Multiaddr>> {
        self.timer.as_mut().poll(cx).map(|()| std::mem::take(&mut self.unbound))
    }

    /// Keeps what an attempt left for the next one, or gives it back when patience is over.
    pub fn put_back(&mut self, failed: Vec<ListenError>) -> Vec<ListenError> {
        if Instant::now() >= self.give_up {
            return failed;
        }
        self.unbound = addresses(failed);
        self.delay = (self.delay * 2).min(LONGEST);
        self.timer = Box::pin(sleep(self.delay));
        Vec::new()
    }

    pub fn is_done(&self) -> bool {
        self.unbound.is_empty()
    }
}

fn addresses(failed: Vec<ListenError>) -> Vec<Multiaddr> {
    failed.into_iter().map(|error| error.address).collect()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_that_stays_taken_is_tried_for_half_a_minute_and_then_given_up() {
        let start = Instant::now();
        let mut rebinding = Rebinding::new(taken(vec![Multiaddr::empty()])).unwrap();
        let mut attempts = 0;
        let given_up = loop {
            let due = poll_fn(|cx| rebinding.poll_due(cx)).await;
            attempts += 1;
            let given_up = rebinding.put_back(taken(due));
            if !given_up.is_empty() {
                break given_up;
            }
        };
        assert_eq!(given_up.len(), 1);
        assert!(rebinding.is_done());
        assert!(start.elapsed() >= PATIENCE && start.elapsed() <= PATIENCE + LONGEST);
        assert!((15..25).contains(&attempts), "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_port_ends_it() {
        let mut rebinding = Rebinding::new(taken(vec![Multiaddr::empty()])).unwrap();
        assert_eq!(poll_fn(|cx| rebinding.poll_due(cx)).await.len(), 1);
        assert!(rebinding.put_back(Vec::new()).is_empty());
        assert!(rebinding.is_done());
        assert!(Rebinding::new(Vec::new()).is_none());
    }

    fn taken(addresses: Vec<Multiaddr>) -> Vec<ListenError> {
        addresses
            .into_iter()
            .map(|address| ListenError { address, reason: "address in use".to_owned() })
            .collect()
    }
}
