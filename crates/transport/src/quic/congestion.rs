//! Congestion control that a connection can be relieved of.
//!
//! Packets of other people's flows in QUIC datagrams bring congestion control of their own (RFC 8085, 3.1.11: a tunnel
//! that carries it need not add to it). A second one below halves them all for each random loss. So a connection that
//! carries nothing else may be [opened](Reins::loosen): its window is then wide whatever was lost. With streams beside the
//! datagrams it is held, as streams have nothing else.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// 640 Mbit/s at 100 ms. More than a queue of the network holds, so it limits nobody whose packets arrive, and it ends a
/// flood into a path that brings nothing.
const WIDE: u64 = 8 << 20;

/// Whether a connection is held to its congestion control.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reins(Arc<AtomicBool>);

impl Reins {
    pub(crate) fn loosen(&self, loose: bool) {
        self.0.store(loose, Relaxed);
    }

    fn are_loose(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Those of a connection whose controllers [`Reined`] makes.
    pub(crate) fn of(handle: &quinn::Connection) -> Option<Self> {
        let controller = handle.congestion_state().into_any().downcast::<Held>().ok()?;
        Some(controller.reins)
    }
}

/// Puts reins around another kind of congestion control.
pub(crate) struct Reined(pub(crate) Arc<dyn ControllerFactory + Send + Sync>);

impl ControllerFactory for Reined {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Held { inner: self.0.clone().build(now, mtu), reins: Reins::default() })
    }
}

struct Held {
    inner: Box<dyn Controller>,
    reins: Reins,
}

impl Controller for Held {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.inner.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        let held = self.inner.window();
        if self.reins.are_loose() { held.max(WIDE) } else { held }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), reins: self.reins.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use quinn::congestion::CubicConfig;

    use super::*;

    #[test]
    fn losses_narrow_the_window_only_while_the_connection_is_held() {
        let now = Instant::now();
        let mut controller = Arc::new(Reined(Arc::new(CubicConfig::default()))).build(now, 1200);
        let reins = controller.clone_box().into_any().downcast::<Held>().unwrap().reins;
        let first = controller.window();
        controller.on_congestion_event(now, now, false, 1200);
        let held = controller.window();
        assert!(held < first);
        reins.loosen(true);
        assert_eq!(controller.window(), WIDE);
        reins.loosen(false);
        assert_eq!(controller.window(), held, "what cubic learned meanwhile is not lost");
    }
}
