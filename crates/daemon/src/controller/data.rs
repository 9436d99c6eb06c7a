//! What the data thread reports.

use super::Controller;
use crate::data::DataEvent;

/// Probe numbers from here on belong to pings that a user asked for.
pub const PING_IDS: u64 = 1 << 63;

impl Controller {
    pub(super) async fn on_data(&mut self, event: DataEvent) {
        let now = peerup_clock::now();
        match event {
            DataEvent::Broken { path, error } => {
                tracing::debug!(%path, error, "a stream broke");
                self.node.handle_broken(path, now);
            }
            DataEvent::Answer { path, id, rtt } => {
                self.node.handle_answer(path, rtt, now);
                self.observe_answer(path, rtt);
                if let Some(peer) = self.paths.get(&path).map(|known| known.handle.peer) {
                    self.seen(peer);
                }
                if let Some(ping) = self.pings.remove(&id) {
                    // Whoever asked may have given up.
                    let _ = ping.send(rtt);
                }
            }
            DataEvent::Heard { path, control } => {
                self.note_retirement(path, &control);
                self.node.handle_control(path, control, now, peerup_clock::unix());
            }
            DataEvent::Unanswered(path) => self.node.handle_unanswered(path, now),
            DataEvent::Wanted(peer) => self.node.handle_wanted(&peer, now),
            DataEvent::Traffic(peer) => {
                self.seen(peer);
                self.node.handle_traffic(&peer, now);
            }
            DataEvent::DeviceLost(error) => {
                tracing::error!(error, "the interface is gone; `peerup up` brings it back");
                if let Err(error) = self.take_down().await {
                    tracing::error!(error = %crate::error::describe(&error), "cannot clean up after it");
                }
            }
        }
    }
}
